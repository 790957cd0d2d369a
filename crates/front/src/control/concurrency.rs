//! Reserved and provisioned concurrency.

use axum::http::StatusCode;
use catalogue::{AliasRecord, FunctionRecord, LATEST, Look, ProvisionedRecord};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call, listed};
use super::{Control, checks, now_ms, shape};
use crate::aws_error::AwsError;

/// Invocations at once of all functions together, and how many of them nobody may reserve: Lambda's.
pub(super) const ACCOUNT_MAX: u32 = 1000;
const UNRESERVED_MIN: u32 = 100;

impl Control {
    /// What functions have reserved, all together.
    pub(super) fn reserved(&self, look: &impl Look) -> Result<u32, AwsError> {
        let functions = look.all::<FunctionRecord>()?;
        Ok(functions.iter().filter_map(|(_, _, function)| function.reserved_concurrency).sum())
    }
}

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
        let others = control.reserved(change.writer)? - function.reserved_concurrency.unwrap_or(0);
        if others.saturating_add(reserved) > ACCOUNT_MAX - UNRESERVED_MIN {
            return Err(AwsError::invalid(&format!(
                "Specified ReservedConcurrentExecutions for function decreases account's \
                 UnreservedConcurrentExecution below its minimum value of [{UNRESERVED_MIN}]."
            )));
        }
        function.reserved_concurrency = Some(reserved);
        Ok(change.writer.put(&name, "", &function)?)
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
        Ok(change.writer.put(&name, "", &function)?)
    })?;
    Ok(Answer::nothing())
}

/// They are kept warm as soon as this is answered, as far as clients can see.
fn shown(record: &ProvisionedRecord) -> Value {
    json!({
        "RequestedProvisionedConcurrentExecutions": record.count,
        "AvailableProvisionedConcurrentExecutions": record.count,
        "AllocatedProvisionedConcurrentExecutions": record.count,
        "Status": "READY",
        "LastModified": shape::date(record.modified_ms),
    })
}

/// A version or an alias of one.
fn published(call: &Call) -> Result<(protocol::FunctionName, String), AwsError> {
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
    let count = checks::number(asked, "provisionedConcurrentExecutions", 1, ACCOUNT_MAX - UNRESERVED_MIN)?;
    let record = ProvisionedRecord { count, modified_ms: now_ms() };
    control.change(|change| {
        control.check_there(change.writer, &name, &qualifier)?;
        let alias = change.writer.get::<AliasRecord>(&name, &qualifier)?;
        if alias.is_some_and(|alias| alias.version == LATEST) {
            return Err(AwsError::invalid("Provisioned Concurrency Configs cannot be applied to $LATEST."));
        }
        let function = control.deployed(change.writer, &name)?;
        if function.reserved_concurrency.is_some_and(|reserved| count > reserved) {
            return Err(AwsError::invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
            ));
        }
        Ok(change.writer.put(&name, &qualifier, &record)?)
    })?;
    Ok(Answer::with(StatusCode::ACCEPTED, shown(&record)))
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
        Some(record) => Ok(shown(&record).into()),
        None => Err(AwsError::no_provisioned_concurrency()),
    }
}

fn list_provisioned(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    let records = reader.of::<ProvisionedRecord>(&name)?.into_iter();
    let items = records.map(|(qualifier, record)| {
        let mut item = shown(&record);
        item["FunctionArn"] = control.arn(&name, Some(&qualifier)).into();
        (qualifier, item)
    });
    Ok(listed("ProvisionedConcurrencyConfigs", call.page(items.collect())?).into())
}

pub(super) fn delete_provisioned(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, qualifier) = published(call)?;
    control.change(|change| {
        control.check_there(change.writer, &name, &qualifier)?;
        change.writer.remove::<ProvisionedRecord>(&name, &qualifier)?;
        Ok(())
    })?;
    Ok(Answer::nothing())
}
