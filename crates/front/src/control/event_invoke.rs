//! What is done with events: how long they may wait, how often they are tried, where they go in the end.

use std::time::Duration;

use catalogue::{EventInvokeRecord, LATEST, Look as _, StoreError, VersionRecord};
use events::EventConfig;
use protocol::FunctionName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::{Control, checks, now_ms};
use crate::aws_error::AwsError;
use crate::event_queue::{Destinations, EventLookup, parse};

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
    fn apply(self, record: &mut EventInvokeRecord, allowed: &Destinations) -> Result<(), AwsError> {
        if let Some(retries) = self.maximum_retry_attempts {
            record.retries = Some(checks::number(retries, "maximumRetryAttempts", 0, 2)?);
        }
        if let Some(age) = self.maximum_event_age_in_seconds {
            record.maximum_age_s = Some(checks::number(age, "maximumEventAgeInSeconds", 60, 21_600)?);
        }
        if let Some(config) = self.destination_config {
            let named =
                |to: Option<Destination>| to.and_then(|to| to.destination).filter(|arn| !arn.is_empty());
            let (on_success, on_failure) = (named(config.on_success), named(config.on_failure));
            for text in [&on_success, &on_failure].into_iter().flatten() {
                check_destination(text, allowed)?;
            }
            (record.on_success, record.on_failure) = (on_success, on_failure);
        }
        record.modified_ms = now_ms();
        Ok(())
    }
}

/// Fails unless events may go there.
fn check_destination(text: &str, allowed: &Destinations) -> Result<(), AwsError> {
    let checked = parse(text).and_then(|target| allowed.check(&target));
    checked.map_err(|error| AwsError::invalid(&error.to_string()))
}

impl EventLookup for Control {
    fn find(&self, name: &FunctionName, qualifier: Option<&str>) -> Result<EventConfig, String> {
        if self.folders.contains_key(name) {
            return self.folder_events.find(name, qualifier);
        }
        let said = |error: StoreError| error.to_string();
        let reader = self.store.read().map_err(said)?;
        let record = reader.get::<EventInvokeRecord>(name, qualifier.unwrap_or(LATEST)).map_err(said)?;
        let record = record.unwrap_or_default();
        // No version: it was removed, and nothing will be said of its events.
        let version = self.version(&reader, name, qualifier).map(|(_, version)| version).ok();
        let target = |text: Option<String>| text.and_then(|text| parse(&text).ok()); // Checked when it came.
        let usual = EventConfig::default();
        Ok(EventConfig {
            retries: record.retries.unwrap_or(usual.retries),
            max_age: record.maximum_age_s.map_or(usual.max_age, |age| Duration::from_secs(age.into())),
            on_success: target(record.on_success),
            on_failure: target(record.on_failure),
            dead_letter: target(version.and_then(|version| version.dead_letter)),
        })
    }

    fn knows(&self, name: &FunctionName, qualifier: Option<&str>) -> Result<bool, String> {
        if self.folders.contains_key(name) {
            return self.folder_events.knows(name, qualifier);
        }
        let reader = self.store.read().map_err(|error| error.to_string())?;
        match self.version(&reader, name, qualifier) {
            Ok(_) => Ok(true),
            Err(error) if error.status() == 404 => Ok(false),
            Err(error) => Err(format!("{error:?}")),
        }
    }
}

fn target(call: &Call) -> Result<(FunctionName, String), AwsError> {
    let asked = call.function()?;
    Ok((asked.name, asked.qualifier.unwrap_or_else(|| LATEST.to_owned())))
}

impl Control {
    /// Fails unless events that were given up may go where the record says.
    pub(super) fn check_dead_letter(&self, record: &VersionRecord) -> Result<(), AwsError> {
        record.dead_letter.as_deref().map_or(Ok(()), |text| check_destination(text, &self.destinations))
    }

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
    call.read::<Asked>()?.apply(&mut record, &control.destinations)?;
    control.change(|change| {
        control.check_there(change.writer, &name, &qualifier)?;
        Ok(change.writer.put(&name, &qualifier, &record)?)
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
        asked.apply(&mut record, &control.destinations)?;
        change.writer.put(&name, &qualifier, &record)?;
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
        if was_there { Ok(()) } else { Err(control.no_event_invoke(&name, &qualifier)) }
    })?;
    Ok(Answer::nothing())
}

pub(super) fn list(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    control.list(call, "FunctionEventInvokeConfigs", |_, name, qualifier, record: &EventInvokeRecord| {
        Ok(control.event_invoke(name, qualifier, record))
    })
}
