//! Functions as a whole: made, shown, listed, removed.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use catalogue::{
    AliasRecord, EventInvokeRecord, FunctionRecord, LATEST, Look as _, PolicyRecord, ProvisionedRecord,
    UrlRecord, VersionRecord,
};
use protocol::FunctionName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call, listed};
use super::code::Package;
use super::live::{self, Effect};
use super::settings::{ARCHITECTURE, NO_ROLE, Settings};
use super::{Change, Control, checks, now_ms};
use crate::aws_error::AwsError;
use crate::names;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Create {
    function_name: String,
    code: super::code::Code,
    publish: Option<bool>,
    tags: Option<BTreeMap<String, String>>,
    architectures: Option<Vec<String>>,
    #[serde(flatten)]
    settings: Settings,
}

pub(super) fn create(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let asked: Create = call.read()?;
    let names::FunctionRef { name, qualifier: None } = names::parse(&asked.function_name)? else {
        return Err(AwsError::invalid("FunctionName takes no qualifier here."));
    };
    asked.settings.check_complete()?;
    checks::architectures(asked.architectures.as_deref().unwrap_or_default())?;
    let tags = asked.tags.unwrap_or_default();
    checks::tags(&tags)?;
    let mut record = VersionRecord { etag: super::new_etag(), modified_ms: now_ms(), ..defaults() };
    asked.settings.apply(&mut record)?;
    control.check_dead_letter(&record)?;
    check_free(control, &control.store.read()?, &name)?; // Before anything is unpacked; and again when it is written.
    let package = control.take(asked.code)?;
    let publish = asked.publish.unwrap_or_default();
    let (number, record) = control.change(|change| {
        check_free(control, change.writer, &name)?;
        package.put_into(&mut record, control, change.writer)?;
        let function = FunctionRecord { tags, ..FunctionRecord::default() };
        change.writer.put(&name, "", &function)?;
        make(control, change, &name, LATEST, &record, &package)?;
        if publish {
            super::version::publish_latest(control, change, &name, None)
        } else {
            Ok((LATEST.to_owned(), record))
        }
    })?;
    let qualifier = publish.then_some(number.as_str());
    Ok(Answer::with(StatusCode::CREATED, control.configuration(&name, &number, qualifier, &record)))
}

fn check_free(control: &Control, look: &impl catalogue::Look, name: &FunctionName) -> Result<(), AwsError> {
    if control.knows(look, name)? {
        return Err(AwsError::conflict(&format!("Function already exist: {name}")));
    }
    Ok(())
}

/// Writes a version and has it answer.
pub(super) fn make(
    control: &Control,
    change: &mut Change<'_>,
    name: &FunctionName,
    number: &str,
    record: &VersionRecord,
    package: &Package,
) -> Result<(), AwsError> {
    let function = live::function(name, record, &package.tree, &package.lease)
        .map_err(|error| AwsError::unusable(&error))?;
    control.networks.check(&function).map_err(|error| AwsError::unusable(&error))?;
    change.writer.put(name, number, record)?;
    change.follow(number, function);
    change.settle(name);
    Ok(())
}

/// Lambda's, for what is not said.
fn defaults() -> VersionRecord {
    VersionRecord {
        etag: String::new(),
        modified_ms: 0,
        package: catalogue::PackageId::of(&[]),
        package_bytes: 0,
        runtime: String::new(),
        handler: String::new(),
        role: NO_ROLE.to_owned(),
        description: String::new(),
        timeout_s: 3,
        memory_mb: 128,
        tmp_mb: 512,
        environment: BTreeMap::new(),
        architecture: ARCHITECTURE.to_owned(),
        snap_start: false,
        dead_letter: None,
        told: BTreeMap::new(),
    }
}

pub(super) fn get(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let asked = call.function()?;
    let reader = control.store.read()?;
    let mut body = json!({
        "Configuration": control.shown(&reader, &asked.name, asked.qualifier.as_deref())?,
        "Code": { "RepositoryType": "S3", "Location": "" }, // There is no S3: the package is not handed out.
    });
    // Where it cannot be read, the configuration says so.
    let function: FunctionRecord = reader.get(&asked.name, "").ok().flatten().unwrap_or_default();
    if !function.tags.is_empty() {
        body["Tags"] = json!(function.tags);
    }
    if let Some(reserved) = function.reserved_concurrency {
        body["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
    }
    Ok(body.into())
}

pub(super) fn list(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let with_versions = match call.query("FunctionVersion") {
        None => false,
        Some("ALL") => true,
        Some(other) => {
            let constraint = "Member must satisfy enum value set: [ALL]";
            return Err(AwsError::validation(other, "functionVersion", constraint));
        }
    };
    let mut items: Vec<(String, Value)> = Vec::new();
    let all = control.store.read()?.all::<VersionRecord>()?;
    for damaged in all.damaged {
        let Ok(name) = damaged.function.parse() else { continue };
        if damaged.qualifier == LATEST || with_versions {
            let qualifier = with_versions.then_some(damaged.qualifier.as_str());
            let shown = control.unreadable(&name, &damaged.qualifier, qualifier, &damaged.error);
            items.push((super::version::key(&name, &damaged.qualifier), shown));
        }
    }
    for (name, number, record) in all.records {
        if number == LATEST || with_versions {
            let qualifier = with_versions.then_some(number.as_str());
            let shown = control.configuration(&name, &number, qualifier, &record);
            items.push((super::version::key(&name, &number), shown));
        }
    }
    for (name, record) in &control.folders {
        let qualifier = with_versions.then_some(LATEST);
        items.push((
            super::version::key(name, LATEST),
            control.configuration(name, LATEST, qualifier, record),
        ));
    }
    items.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(listed("Functions", call.page(items)?).into())
}

pub(super) fn delete(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let asked = call.function()?;
    let name = &asked.name;
    control.change(|change| {
        control.check_no_folder(name)?;
        if !control.knows(change.writer, name)? {
            return Err(control.not_found(name, None));
        }
        match asked.qualifier.as_deref() {
            None => delete_all(change, name), // Also what cannot be read.
            Some(LATEST) => {
                Err(AwsError::invalid("$LATEST version cannot be deleted without deleting the function."))
            }
            Some(qualifier) => super::version::delete(control, change, name, qualifier),
        }
    })?;
    Ok(Answer::nothing())
}

fn delete_all(change: &mut Change<'_>, name: &FunctionName) -> Result<(), AwsError> {
    change.writer.remove_all::<FunctionRecord>(name)?;
    change.writer.remove_all::<VersionRecord>(name)?;
    change.writer.remove_all::<AliasRecord>(name)?;
    change.writer.remove_all::<UrlRecord>(name)?;
    change.writer.remove_all::<PolicyRecord>(name)?;
    change.writer.remove_all::<ProvisionedRecord>(name)?;
    change.writer.remove_all::<EventInvokeRecord>(name)?;
    change.effects.push(Effect::Remove { name: name.clone() });
    Ok(())
}

/// What hangs on a version or an alias goes with it.
pub(super) fn delete_qualified(
    change: &mut Change<'_>,
    name: &FunctionName,
    qualifier: &str,
) -> Result<(), AwsError> {
    if change.writer.remove::<UrlRecord>(name, qualifier)? {
        change.effects.push(Effect::RemoveUrl { name: name.clone(), qualifier: qualifier.to_owned() });
    }
    change.writer.remove::<PolicyRecord>(name, qualifier)?;
    change.writer.remove::<ProvisionedRecord>(name, qualifier)?;
    change.writer.remove::<EventInvokeRecord>(name, qualifier)?;
    Ok(())
}
