//! The configuration of a function: shown and changed.

use catalogue::LATEST;
use serde::Deserialize;

use super::call::{Answer, Call};
use super::settings::Settings;
use super::{Control, check_etag, new_etag, now_ms};
use crate::aws_error::AwsError;

pub(super) fn get(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let asked = call.function()?;
    Ok(control.shown(&control.store.read()?, &asked.name, asked.qualifier.as_deref())?.into())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Update {
    revision_id: Option<String>,
    #[serde(flatten)]
    settings: Settings,
}

pub(super) fn update(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let asked: Update = call.read()?;
    let record = control.change(|change| {
        control.deployed(change.writer, &name)?;
        let (_, mut record) = control.version(change.writer, &name, None)?;
        check_etag(asked.revision_id.as_deref(), &record.etag)?;
        asked.settings.apply(&mut record)?;
        control.check_dead_letter(&record)?;
        (record.etag, record.modified_ms) = (new_etag(), now_ms());
        let package = control.package_of(&record)?;
        super::function::make(control, change, &name, LATEST, &record, &package)?;
        Ok(record)
    })?;
    Ok(control.configuration(&name, LATEST, None, &record).into())
}
