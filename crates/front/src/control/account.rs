//! What tools ask for beside functions: limits of the account, and configuration that there is only one of here.

use catalogue::{Look as _, PACKAGE_BYTES_MAX, TREE_BYTES_MAX, VersionRecord};
use serde::Deserialize;
use serde_json::json;

use super::Control;
use super::call::{Answer, Call};
use super::code::STORAGE_BYTES_MAX;
use crate::aws_error::AwsError;

pub(super) fn settings(control: &Control, _: &Call) -> Result<Answer, AwsError> {
    let reader = control.store.read()?;
    let allowance = control.deployer.allowance();
    let functions: std::collections::BTreeSet<_> =
        reader.all::<VersionRecord>()?.records.into_iter().map(|(name, ..)| name).collect();
    Ok(json!({
        "AccountLimit": {
            "TotalCodeSize": STORAGE_BYTES_MAX,
            "CodeSizeUnzipped": TREE_BYTES_MAX,
            "CodeSizeZipped": PACKAGE_BYTES_MAX,
            "ConcurrentExecutions": allowance.concurrency,
            "UnreservedConcurrentExecutions": allowance.unreserved,
        },
        "AccountUsage": {
            "TotalCodeSize": control.stored_bytes(&reader)?,
            "FunctionCount": functions.len() + control.folders.len(),
        },
    })
    .into())
}

/// No code is signed here. Tools take an empty ARN for that, and an error for a failure.
pub(super) fn code_signing(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    control.function(&control.store.read()?, &name)?;
    Ok(json!({ "CodeSigningConfigArn": "", "FunctionName": name }).into())
}

pub(super) fn runtime_management(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let asked = call.function()?;
    let qualifier = asked.qualifier.as_deref();
    control.version(&control.store.read()?, &asked.name, qualifier)?;
    Ok(json!({ "UpdateRuntimeOn": "Auto", "FunctionArn": control.arn(&asked.name, qualifier) }).into())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Recursion {
    recursive_loop: String,
}

/// Lambda's default.
const RECURSION_DEFAULT: &str = "Terminate";

pub(super) fn recursion(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let function = control.function(&control.store.read()?, &call.whole_function()?)?;
    Ok(json!({ "RecursiveLoop": function.recursive_loop.as_deref().unwrap_or(RECURSION_DEFAULT) }).into())
}

pub(super) fn put_recursion(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = call.whole_function()?;
    let asked = call.read::<Recursion>()?.recursive_loop;
    if asked != "Allow" && asked != RECURSION_DEFAULT {
        let constraint = "Member must satisfy enum value set: [Allow, Terminate]";
        return Err(AwsError::validation(&asked, "recursiveLoop", constraint));
    }
    control.change(|change| {
        let mut function = control.deployed(change.writer, &name)?;
        function.recursive_loop = Some(asked.clone());
        Ok(change.writer.put(&name, "", &function)?)
    })?;
    Ok(json!({ "RecursiveLoop": asked }).into())
}
