//! Reserved and provisioned concurrency.

use axum::http::StatusCode;
use catalogue::{AliasRecord, LATEST, Look, ProvisionedRecord};
use protocol::FunctionName;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::call::{Answer, Call};
use super::live::Effect;
use super::{Control, checks, now_ms, shape};
use crate::aws_error::AwsError;
use crate::catalogue::Version;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    reserved_concurrent_executions: Option<i64>,
    provisioned_concurrent_executions: Option<i64>,
}

pub(super) fn put_reserved(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let asked: Asked = call.read()?;
    let asked = asked.reserved_concurrent_executions.ok_or_else(|| {
        AwsError::validation("null", "reservedConcurrentExecutions", "Member must not be null")
    })?;
    let reserved = checks::number(asked, "reservedConcurrentExecutions", 0, u32::MAX)?;
    control.change(|change| {
        let mut function = control.deployed(change.writer, &name)?;
        function.reserved_concurrency = Some(reserved);
        change.writer.put(&name, "", &function)?;
        let wanted = Some(reserved as usize);
        control.deployer.check(|promises| promises.reserve(&name, wanted))?;
        change.effects.push(Effect::Reserve { name: name.clone(), wanted });
        Ok(())
    })?;
    Ok(json!({ "ReservedConcurrentExecutions": reserved }).into())
}

pub(super) fn get_reserved(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let function = control.function(&control.store.read()?, &call.whole_function()?)?;
    Ok(match function.reserved_concurrency {
        Some(reserved) => json!({ "ReservedConcurrentExecutions": reserved }),
        None => json!({}),
    }
    .into())
}

pub(super) fn delete_reserved(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    control.change(|change| {
        let mut function = control.deployed(change.writer, &name)?;
        function.reserved_concurrency = None;
        change.writer.put(&name, "", &function)?;
        change.effects.push(Effect::Reserve { name: name.clone(), wanted: None });
        Ok(())
    })?;
    Ok(Answer::nothing())
}

impl Control {
    /// What is asked for, and how far it is.
    fn provisioned(
        &self,
        look: &impl Look,
        name: &FunctionName,
        qualifier: &str,
        record: &ProvisionedRecord,
    ) -> Result<Value, AwsError> {
        let (number, _) = self.version(look, name, Some(qualifier))?;
        let version = Version::read(&number).unwrap_or(Version::Latest);
        let found = Handle::current().block_on(self.deployer.provisioned(name, version)).unwrap_or_default();
        let available = found.available.min(record.count as usize);
        let status = if available == record.count as usize {
            "READY"
        } else if found.is_failing {
            "FAILED"
        } else {
            "IN_PROGRESS"
        };
        let mut body = json!({
            "RequestedProvisionedConcurrentExecutions": record.count,
            "AvailableProvisionedConcurrentExecutions": available,
            "AllocatedProvisionedConcurrentExecutions": available,
            "Status": status,
            "LastModified": shape::date(record.modified_ms),
        });
        if status == "FAILED" {
            body["StatusReason"] = "FUNCTION_ERROR_INIT_FAILURE".into();
        }
        Ok(body)
    }
}

/// A version or an alias of one.
fn published(call: &Call) -> Result<(FunctionName, String), AwsError> {
    let asked = call.function()?;
    match asked.qualifier {
        Some(qualifier) if qualifier != LATEST => Ok((asked.name, qualifier)),
        _ => Err(AwsError::invalid(
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        )),
    }
}

pub(super) fn put_provisioned(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = published(call)?;
    let asked: Asked = call.read()?;
    let asked = asked.provisioned_concurrent_executions.ok_or_else(|| {
        AwsError::validation("null", "provisionedConcurrentExecutions", "Member must not be null")
    })?;
    let count = checks::number(asked, "provisionedConcurrentExecutions", 1, u32::MAX)?;
    let record = ProvisionedRecord { count, modified_ms: now_ms() };
    control.change(|change| {
        control.check_there(change.writer, &name, &qualifier)?;
        let alias = change.writer.get::<AliasRecord>(&name, &qualifier)?;
        if alias.is_some_and(|alias| alias.version == LATEST) {
            return Err(AwsError::invalid("Provisioned Concurrency Configs cannot be applied to $LATEST."));
        }
        change.writer.put(&name, &qualifier, &record)?;
        change.settle(&name);
        control.check_provision(change.writer, &name)
    })?;
    let body = control.provisioned(&control.store.read()?, &name, &qualifier, &record)?;
    Ok(Answer::with(StatusCode::ACCEPTED, body))
}

/// One, or all of a function: the same path, told apart by the query.
pub(super) fn get_provisioned(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    if call.query("List") == Some("ALL") {
        return list_provisioned(control, call);
    }
    let (name, qualifier) = published(call)?;
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    match reader.get(&name, &qualifier)? {
        Some(record) => Ok(control.provisioned(&reader, &name, &qualifier, &record)?.into()),
        None => Err(AwsError::no_provisioned_concurrency()),
    }
}

fn list_provisioned(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    control.list(
        call,
        "ProvisionedConcurrencyConfigs",
        |look, name, qualifier, record: &ProvisionedRecord| {
            let mut item = control.provisioned(look, name, qualifier, record)?;
            item["FunctionArn"] = control.arn(name, Some(qualifier)).into();
            Ok(item)
        },
    )
}

pub(super) fn delete_provisioned(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = published(call)?;
    control.change(|change| {
        control.check_there(change.writer, &name, &qualifier)?;
        change.writer.remove::<ProvisionedRecord>(&name, &qualifier)?;
        change.settle(&name);
        Ok(())
    })?;
    Ok(Answer::nothing())
}
