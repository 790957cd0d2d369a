//! Aliases: names for versions.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use catalogue::{AliasRecord, LATEST, Look, VersionRecord};
use protocol::FunctionName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call, listed};
use super::live::Effect;
use super::{Control, check_etag, checks, new_etag};
use crate::aws_error::AwsError;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    name: String,
    function_version: Option<String>,
    description: Option<String>,
    routing_config: Option<RoutingConfig>,
    revision_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RoutingConfig {
    additional_version_weights: Option<BTreeMap<String, f64>>,
}

impl Control {
    fn alias(&self, name: &FunctionName, alias: &str, record: &AliasRecord) -> Value {
        let mut body = json!({
            "AliasArn": self.arn(name, Some(alias)),
            "Name": alias,
            "FunctionVersion": record.version,
            "Description": record.description,
            "RevisionId": record.etag,
        });
        if !record.weights.is_empty() {
            body["RoutingConfig"] = json!({ "AdditionalVersionWeights": record.weights });
        }
        body
    }

    fn no_alias(&self, name: &FunctionName, alias: &str) -> AwsError {
        AwsError::not_found(format!("Cannot find alias arn: {}", self.arn(name, Some(alias))))
    }

    /// What it stands for is there, and shares add up to something.
    fn check_alias(
        &self,
        look: &impl Look,
        name: &FunctionName,
        record: &AliasRecord,
    ) -> Result<(), AwsError> {
        for number in record.weights.keys().chain([&record.version]) {
            if look.get::<VersionRecord>(name, number)?.is_none() {
                return Err(self.not_found(name, Some(number)));
            }
        }
        let faults = [
            (
                record.weights.len() > 1,
                "Number of items in AdditionalVersionWeights cannot be greater than 1",
            ),
            (
                !record.weights.is_empty()
                    && (record.version == LATEST || record.weights.contains_key(LATEST)),
                "$LATEST is not supported for an alias pointing to more than 1 version",
            ),
            (
                record.weights.contains_key(&record.version),
                "Invalid function version: an alias cannot point twice to one version",
            ),
            (
                record.weights.values().any(|share| !(0.0..=1.0).contains(share)),
                "A weight must be between 0.0 and 1.0",
            ),
        ];
        match faults.iter().find(|(is_fault, _)| *is_fault) {
            Some((_, why)) => Err(AwsError::invalid(why)),
            None => Ok(()),
        }
    }
}

impl Asked {
    fn apply(self, record: &mut AliasRecord) -> Result<(), AwsError> {
        record.version = self.function_version.unwrap_or(std::mem::take(&mut record.version));
        if let Some(description) = self.description {
            record.description = checks::description(description)?;
        }
        if let Some(routing) = self.routing_config {
            record.weights = routing.additional_version_weights.unwrap_or_default();
        }
        record.etag = new_etag();
        Ok(())
    }
}

pub(super) fn create(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let asked: Asked = call.read()?;
    let alias = asked.name.clone();
    checks::alias(&alias)?;
    let mut record = AliasRecord {
        version: String::new(),
        weights: BTreeMap::new(),
        description: String::new(),
        etag: String::new(),
    };
    asked.apply(&mut record)?;
    control.change(|change| {
        control.deployed(change.writer, &name)?;
        if change.writer.get::<AliasRecord>(&name, &alias)?.is_some() {
            let arn = control.arn(&name, Some(&alias));
            return Err(AwsError::conflict(&format!("Alias already exists: {arn}")));
        }
        control.check_alias(change.writer, &name, &record)?;
        change.writer.put(&name, &alias, &record)?;
        change.follow_alias(&name, &alias, &record);
        change.settle(&name);
        Ok(())
    })?;
    Ok(Answer::with(StatusCode::CREATED, control.alias(&name, &alias, &record)))
}

pub(super) fn get(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, alias) = (call.whole_function()?, call.param("Name"));
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    let record = reader.get(&name, alias)?.ok_or_else(|| control.no_alias(&name, alias))?;
    Ok(control.alias(&name, alias, &record).into())
}

pub(super) fn update(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, alias) = (call.whole_function()?, call.param("Name"));
    let asked: Asked = call.read()?;
    let record = control.change(|change| {
        control.deployed(change.writer, &name)?;
        let found = change.writer.get::<AliasRecord>(&name, alias)?;
        let mut record = found.ok_or_else(|| control.no_alias(&name, alias))?;
        check_etag(asked.revision_id.as_deref(), &record.etag)?;
        asked.apply(&mut record)?;
        control.check_alias(change.writer, &name, &record)?;
        change.writer.put(&name, alias, &record)?;
        change.follow_alias(&name, alias, &record);
        change.settle(&name);
        Ok(record)
    })?;
    Ok(control.alias(&name, alias, &record).into())
}

pub(super) fn delete(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, alias) = (call.whole_function()?, call.param("Name"));
    control.change(|change| {
        control.deployed(change.writer, &name)?;
        // As Lambda, nothing is said about one that is not there.
        if change.writer.remove::<AliasRecord>(&name, alias)? {
            super::function::delete_qualified(change, &name, alias)?;
            change.effects.push(Effect::RemoveAlias { name: name.clone(), alias: alias.to_owned() });
            change.settle(&name);
        }
        Ok(())
    })?;
    Ok(Answer::nothing())
}

pub(super) fn list(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    let wanted = call.query("FunctionVersion");
    let aliases = reader.of::<AliasRecord>(&name)?.into_iter();
    let shown = aliases.filter(|(_, record)| wanted.is_none_or(|version| record.version == version));
    let items = shown.map(|(alias, record)| (alias.clone(), control.alias(&name, &alias, &record))).collect();
    Ok(listed("Aliases", call.page(items)?).into())
}
