//! Versions: what `$LATEST` was, under a number.

use axum::http::StatusCode;
use catalogue::{AliasRecord, FunctionRecord, LATEST, Look as _, VersionRecord};
use protocol::FunctionName;
use serde::Deserialize;
use serde_json::Value;

use super::call::{Answer, Call, listed};
use super::live::Effect;
use super::shape::code_sha256;
use super::{Change, Control, check_etag, checks, new_etag, now_ms};
use crate::aws_error::AwsError;
use crate::catalogue::Version;

/// By function, `$LATEST` first, then by number.
pub(super) fn key(name: &FunctionName, number: &str) -> String {
    // `!` sorts before everything that a name may hold, so that `a` with its versions comes before `a-b`.
    format!("{name}!{:020}", number.parse::<u64>().unwrap_or_default())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Publish {
    code_sha256: Option<String>,
    description: Option<String>,
    revision_id: Option<String>,
}

pub(super) fn publish(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let asked: Publish = call.read()?;
    let description = asked.description.map(checks::description).transpose()?;
    let (number, record) = control.change(|change| {
        control.deployed(change.writer, &name)?;
        let (_, latest) = control.version(change.writer, &name, None)?;
        check_etag(asked.revision_id.as_deref(), &latest.etag)?;
        let current = code_sha256(&latest);
        match asked.code_sha256.as_deref().filter(|sha256| !sha256.is_empty()) {
            Some(sha256) if sha256 != current => Err(AwsError::invalid(&format!(
                "CodeSHA256 ({sha256}) is different from current CodeSHA256 in $LATEST ({current}). Please try again \
                 with the CodeSHA256 in $LATEST."
            ))),
            _ => publish_latest(control, change, &name, description),
        }
    })?;
    let body = control.configuration(&name, &number, Some(&number), &record);
    Ok(Answer::with(StatusCode::CREATED, body))
}

/// Gives `$LATEST` the next number; if nothing has changed since the last one, that is the answer.
pub(super) fn publish_latest(
    control: &Control,
    change: &mut Change<'_>,
    name: &FunctionName,
    description: Option<String>,
) -> Result<(String, VersionRecord), AwsError> {
    let mut function = control.deployed(change.writer, name)?;
    let (_, latest) = control.version(change.writer, name, None)?;
    let last = function.last_version.to_string();
    if let Some(record) = change.writer.get::<VersionRecord>(name, &last)?
        && same(&record, &latest)
    {
        return Ok((last, record));
    }
    function.last_version += 1;
    change.writer.put::<FunctionRecord>(name, "", &function)?;
    let number = function.last_version.to_string();
    let mut record = VersionRecord { etag: new_etag(), modified_ms: now_ms(), ..latest };
    record.description = description.unwrap_or(record.description);
    let package = control.package_of(&record)?;
    super::function::make(control, change, name, &number, &record, &package)?;
    Ok((number, record))
}

/// Whether they do the same. A description does nothing.
fn same(a: &VersionRecord, b: &VersionRecord) -> bool {
    let plain = |record: &VersionRecord| VersionRecord {
        etag: String::new(),
        modified_ms: 0,
        description: String::new(),
        ..record.clone()
    };
    plain(a) == plain(b)
}

pub(super) fn list(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    let mut versions = reader.of::<VersionRecord>(&name)?;
    versions.extend(control.folders.get(&name).map(|record| (LATEST.to_owned(), record.clone())));
    let shown = versions.into_iter().map(|(number, record)| {
        (key(&name, &number), control.configuration(&name, &number, Some(&number), &record))
    });
    let mut items: Vec<(String, Value)> = shown.collect();
    items.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(listed("Versions", call.page(items)?).into())
}

/// Removes one version, unless an alias stands for it.
pub(super) fn delete(
    control: &Control,
    change: &mut Change<'_>,
    name: &FunctionName,
    number: &str,
) -> Result<(), AwsError> {
    let aliases = change.writer.of::<AliasRecord>(name)?;
    if aliases.iter().any(|(alias, _)| alias == number) {
        return Err(AwsError::invalid("Deletion of an alias needs the DeleteAlias operation."));
    }
    let stands_for = |alias: &AliasRecord| alias.version == number || alias.weights.contains_key(number);
    let names: Vec<&str> =
        aliases.iter().filter(|(_, alias)| stands_for(alias)).map(|(name, _)| name.as_str()).collect();
    if !names.is_empty() {
        return Err(AwsError::conflict(&format!(
            "Unable to delete version because the following aliases reference it: [{}]",
            names.join(", ")
        )));
    }
    if !change.writer.remove::<VersionRecord>(name, number)? {
        return Err(control.not_found(name, Some(number)));
    }
    super::function::delete_qualified(change, name, number)?;
    if let Some(version) = Version::read(number) {
        change.effects.push(Effect::RemoveVersion { name: name.clone(), version });
    }
    Ok(())
}
