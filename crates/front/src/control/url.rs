//! The configuration of function URLs.

use axum::http::StatusCode;
use catalogue::{AliasRecord, LATEST, Look, UrlRecord};
use protocol::FunctionName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::live::{self, Effect};
use super::{Control, now_ms, shape};
use crate::aws_error::AwsError;
use crate::function_url::Cors;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    auth_type: Option<String>,
    invoke_mode: Option<String>,
    cors: Option<Value>,
}

/// One of these.
fn one_of(value: String, name: &str, allowed: [&str; 2]) -> Result<String, AwsError> {
    if allowed.contains(&value.as_str()) {
        return Ok(value);
    }
    let constraint = format!("Member must satisfy enum value set: [{}]", allowed.join(", "));
    Err(AwsError::validation(&value, name, &constraint))
}

impl Asked {
    fn apply(self, record: &mut UrlRecord) -> Result<(), AwsError> {
        if let Some(auth) = self.auth_type {
            record.auth = one_of(auth, "authType", ["NONE", "AWS_IAM"])?;
        }
        if let Some(mode) = self.invoke_mode {
            record.invoke_mode = one_of(mode, "invokeMode", ["BUFFERED", "RESPONSE_STREAM"])?;
        }
        if let Some(cors) = self.cors {
            let read = serde_json::from_value::<Cors>(cors.clone());
            read.map_err(|error| AwsError::serialization(&format!("Cors: {error}")))?;
            record.cors = cors.as_object().is_some_and(|fields| !fields.is_empty()).then_some(cors);
        }
        record.modified_ms = now_ms();
        Ok(())
    }
}

/// The function, and the qualifier that a URL is kept under: an alias, or `$LATEST` for none.
fn target(call: &Call) -> Result<(FunctionName, String), AwsError> {
    let asked = call.function()?;
    Ok((asked.name, asked.qualifier.unwrap_or_else(|| LATEST.to_owned())))
}

impl Control {
    fn url(&self, name: &FunctionName, qualifier: &str, record: &UrlRecord) -> Value {
        let mut body = json!({
            "FunctionUrl": format!("http://{}.{}/", record.id, self.url_host),
            "FunctionArn": self.arn(name, Some(qualifier).filter(|qualifier| *qualifier != LATEST)),
            "AuthType": record.auth,
            "InvokeMode": record.invoke_mode,
            "CreationTime": shape::date(record.created_ms),
            "LastModifiedTime": shape::date(record.modified_ms),
        });
        if let Some(cors) = &record.cors {
            body["Cors"] = cors.clone();
        }
        body
    }

    fn check_url_target(
        &self,
        look: &impl Look,
        name: &FunctionName,
        qualifier: &str,
    ) -> Result<(), AwsError> {
        self.deployed(look, name)?;
        if qualifier != LATEST && look.get::<AliasRecord>(name, qualifier)?.is_none() {
            return Err(self.not_found(name, Some(qualifier)));
        }
        Ok(())
    }
}

fn none() -> AwsError {
    AwsError::not_found("The resource you requested does not exist.".to_owned())
}

pub(super) fn create(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = target(call)?;
    let asked: Asked = call.read()?;
    if asked.auth_type.is_none() {
        return Err(AwsError::validation("null", "authType", "Member must not be null"));
    }
    let created_ms = now_ms();
    let id = uuid::Uuid::new_v4().simple().to_string();
    let (auth, invoke_mode) = (String::new(), "BUFFERED".to_owned());
    let mut record = UrlRecord { id, auth, invoke_mode, cors: None, created_ms, modified_ms: created_ms };
    asked.apply(&mut record)?;
    control.change(|change| {
        control.check_url_target(change.writer, &name, &qualifier)?;
        if change.writer.get::<UrlRecord>(&name, &qualifier)?.is_some() {
            let arn = control.arn(&name, Some(&qualifier));
            return Err(AwsError::conflict(&format!(
                "Failed to create function url config for [functionArn = {arn}]. Error message: FunctionUrlConfig \
                 exists for this Lambda function"
            )));
        }
        change.effects.push(live::url_effect(&name, &qualifier, &record));
        Ok(change.writer.put(&name, &qualifier, &record)?)
    })?;
    Ok(Answer::with(StatusCode::CREATED, control.url(&name, &qualifier, &record)))
}

pub(super) fn get(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = target(call)?;
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    let record = reader.get(&name, &qualifier)?.ok_or_else(none)?;
    Ok(control.url(&name, &qualifier, &record).into())
}

pub(super) fn update(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = target(call)?;
    let asked: Asked = call.read()?;
    let record = control.change(|change| {
        control.check_url_target(change.writer, &name, &qualifier)?;
        let mut record = change.writer.get::<UrlRecord>(&name, &qualifier)?.ok_or_else(none)?;
        asked.apply(&mut record)?;
        change.writer.put(&name, &qualifier, &record)?;
        change.effects.push(live::url_effect(&name, &qualifier, &record));
        Ok(record)
    })?;
    Ok(control.url(&name, &qualifier, &record).into())
}

pub(super) fn delete(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = target(call)?;
    control.change(|change| {
        control.deployed(change.writer, &name)?;
        if !change.writer.remove::<UrlRecord>(&name, &qualifier)? {
            return Err(none());
        }
        change.effects.push(Effect::RemoveUrl { name: name.clone(), qualifier: qualifier.clone() });
        Ok(())
    })?;
    Ok(Answer::nothing())
}

pub(super) fn list(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    control.list(call, "FunctionUrlConfigs", |_, name, qualifier, record: &UrlRecord| {
        Ok(control.url(name, qualifier, record))
    })
}
