//! What is done with events: how long they may wait, how often they are tried, where they go in the end.

use catalogue::{EventInvokeRecord, LATEST, Look as _};
use protocol::FunctionName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call, listed};
use super::live::Effect;
use super::{Control, checks, now_ms};
use crate::aws_error::AwsError;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    maximum_retry_attempts: Option<i64>,
    maximum_event_age_in_seconds: Option<i64>,
    destination_config: Option<DestinationConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DestinationConfig {
    on_success: Option<Destination>,
    on_failure: Option<Destination>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Destination {
    destination: Option<String>,
}

impl Asked {
    fn apply(self, record: &mut EventInvokeRecord) -> Result<(), AwsError> {
        if let Some(retries) = self.maximum_retry_attempts {
            record.retries = Some(checks::number(retries, "maximumRetryAttempts", 0, 2)?);
        }
        if let Some(age) = self.maximum_event_age_in_seconds {
            record.maximum_age_s = Some(checks::number(age, "maximumEventAgeInSeconds", 60, 21_600)?);
        }
        if let Some(config) = self.destination_config {
            let named =
                |to: Option<Destination>| to.and_then(|to| to.destination).filter(|arn| !arn.is_empty());
            (record.on_success, record.on_failure) = (named(config.on_success), named(config.on_failure));
        }
        record.modified_ms = now_ms();
        Ok(())
    }
}

fn target(call: &Call) -> Result<(FunctionName, String), AwsError> {
    let asked = call.function()?;
    Ok((asked.name, asked.qualifier.unwrap_or_else(|| LATEST.to_owned())))
}

impl Control {
    fn event_invoke(&self, name: &FunctionName, qualifier: &str, record: &EventInvokeRecord) -> Value {
        let to = |arn: &Option<String>| arn.as_ref().map_or(json!({}), |arn| json!({ "Destination": arn }));
        let mut body = json!({
            "FunctionArn": self.arn(name, Some(qualifier)),
            "LastModified": record.modified_ms as f64 / 1000.0, // Seconds since 1970, and the only date in this form.
            "DestinationConfig": { "OnSuccess": to(&record.on_success), "OnFailure": to(&record.on_failure) },
        });
        if let Some(retries) = record.retries {
            body["MaximumRetryAttempts"] = retries.into();
        }
        if let Some(age) = record.maximum_age_s {
            body["MaximumEventAgeInSeconds"] = age.into();
        }
        body
    }

    fn no_event_invoke(&self, name: &FunctionName, qualifier: &str) -> AwsError {
        let arn = self.arn(name, Some(qualifier));
        AwsError::not_found(format!("The function {arn} doesn't have an EventInvokeConfig"))
    }
}

/// Replaces everything.
pub(super) fn put(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = target(call)?;
    let mut record = EventInvokeRecord::default();
    call.read::<Asked>()?.apply(&mut record)?;
    control.change(|change| {
        control.check_there(change.writer, &name, &qualifier)?;
        control.check_destination(&record.on_success)?;
        control.check_destination(&record.on_failure)?;
        change.writer.put(&name, &qualifier, &record)?;
        change.effects.push(Effect::Settings { name: name.clone() });
        Ok(())
    })?;
    Ok(control.event_invoke(&name, &qualifier, &record).into())
}

/// Changes what is said.
pub(super) fn update(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = target(call)?;
    let asked: Asked = call.read()?;
    let record = control.change(|change| {
        control.check_there(change.writer, &name, &qualifier)?;
        let found = change.writer.get::<EventInvokeRecord>(&name, &qualifier)?;
        let mut record = found.ok_or_else(|| control.no_event_invoke(&name, &qualifier))?;
        asked.apply(&mut record)?;
        control.check_destination(&record.on_success)?;
        control.check_destination(&record.on_failure)?;
        change.writer.put(&name, &qualifier, &record)?;
        change.effects.push(Effect::Settings { name: name.clone() });
        Ok(record)
    })?;
    Ok(control.event_invoke(&name, &qualifier, &record).into())
}

pub(super) fn get(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = target(call)?;
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    let record = reader.get(&name, &qualifier)?.ok_or_else(|| control.no_event_invoke(&name, &qualifier))?;
    Ok(control.event_invoke(&name, &qualifier, &record).into())
}

pub(super) fn delete(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = target(call)?;
    control.change(|change| {
        control.deployed(change.writer, &name)?;
        let was_there = change.writer.remove::<EventInvokeRecord>(&name, &qualifier)?;
        change.effects.push(Effect::Settings { name: name.clone() });
        if was_there { Ok(()) } else { Err(control.no_event_invoke(&name, &qualifier)) }
    })?;
    Ok(Answer::nothing())
}

pub(super) fn list(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    let records = reader.of::<EventInvokeRecord>(&name)?.into_iter();
    let items = records
        .map(|(qualifier, record)| (qualifier.clone(), control.event_invoke(&name, &qualifier, &record)));
    Ok(listed("FunctionEventInvokeConfigs", call.page(items.collect())?).into())
}
