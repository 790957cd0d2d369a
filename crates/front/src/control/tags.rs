//! Tags of functions.

use std::collections::BTreeMap;

use protocol::FunctionName;
use serde::Deserialize;
use serde_json::json;

use super::call::{Answer, Call};
use super::{Control, checks};
use crate::aws_error::AwsError;
use crate::names;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    tags: BTreeMap<String, String>,
}

/// The function whose ARN the path has.
fn resource(call: &Call) -> Result<FunctionName, AwsError> {
    let found = names::parse(call.param("Resource"))?;
    match found.qualifier {
        None => Ok(found.name),
        Some(_) => Err(AwsError::invalid("Tags on function aliases and versions are not supported.")),
    }
}

pub(super) fn list(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let function = control.function(&control.store.read()?, &resource(call)?)?;
    Ok(json!({ "Tags": function.tags }).into())
}

pub(super) fn tag(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = resource(call)?;
    let asked: Asked = call.read()?;
    control.change(|change| {
        let mut function = control.deployed(change.writer, &name)?;
        function.tags.extend(asked.tags);
        checks::tags(&function.tags)?;
        Ok(change.writer.put(&name, "", &function)?)
    })?;
    Ok(Answer::nothing())
}

pub(super) fn untag(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let name = resource(call)?;
    control.change(|change| {
        let mut function = control.deployed(change.writer, &name)?;
        // Clients name them in two ways.
        for key in call.queries("tagKeys").chain(call.queries("TagKeys")) {
            function.tags.remove(key);
        }
        Ok(change.writer.put(&name, "", &function)?)
    })?;
    Ok(Answer::nothing())
}
