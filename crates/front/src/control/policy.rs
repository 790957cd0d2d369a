//! Resource policies: kept and told, as tools insist on them. Who may call is decided elsewhere.

use axum::http::StatusCode;
use catalogue::{LATEST, Look as _, PolicyRecord};
use protocol::FunctionName;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::call::{Answer, Call};
use super::{Control, check_etag, new_etag};
use crate::aws_error::AwsError;

/// Lambda's bound for a whole policy, as JSON.
const POLICY_BYTES_MAX: usize = 20 * 1024;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    statement_id: String,
    action: String,
    principal: String,
    source_arn: Option<String>,
    source_account: Option<String>,
    event_source_token: Option<String>,
    #[serde(rename = "PrincipalOrgID")]
    principal_org_id: Option<String>,
    function_url_auth_type: Option<String>,
    invoked_via_function_url: Option<bool>,
    revision_id: Option<String>,
}

impl Asked {
    fn check(&self) -> Result<(), AwsError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let id = &self.statement_id;
        if id.is_empty() || id.len() > 100 || !id.chars().all(allowed) {
            let constraint = "Member must satisfy regular expression pattern: ([a-zA-Z0-9-_]+) with length between 1 and 100";
            return Err(AwsError::validation(id, "statementId", constraint));
        }
        if self.action != "*" && !self.action.starts_with("lambda:") {
            let constraint =
                "Member must satisfy regular expression pattern: (lambda:[*]|lambda:[a-zA-Z]+|[*])";
            return Err(AwsError::validation(&self.action, "action", constraint));
        }
        if self.principal.is_empty() {
            return Err(AwsError::validation("", "principal", "Member must not be empty"));
        }
        Ok(())
    }

    fn condition(&self) -> Map<String, Value> {
        let equal = [
            ("AWS:SourceAccount", &self.source_account),
            ("lambda:EventSourceToken", &self.event_source_token),
            ("aws:PrincipalOrgID", &self.principal_org_id),
            ("lambda:FunctionUrlAuthType", &self.function_url_auth_type),
        ];
        let equal: Map<String, Value> = equal
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?.into())))
            .collect();
        let mut condition = Map::new();
        if !equal.is_empty() {
            condition.insert("StringEquals".to_owned(), equal.into());
        }
        if let Some(arn) = &self.source_arn {
            condition.insert("ArnLike".to_owned(), json!({ "AWS:SourceArn": arn }));
        }
        if let Some(via_url) = self.invoked_via_function_url {
            condition
                .insert("Bool".to_owned(), json!({ "lambda:InvokedViaFunctionUrl": via_url.to_string() }));
        }
        condition
    }

    fn statement(&self, resource: &str) -> Value {
        let is_account = self.principal.len() == 12 && self.principal.chars().all(|c| c.is_ascii_digit());
        let principal = match self.principal.as_str() {
            "*" => json!("*"),
            account if is_account => json!({ "AWS": format!("arn:aws:iam::{account}:root") }),
            arn if arn.starts_with("arn:") => json!({ "AWS": arn }),
            service => json!({ "Service": service }),
        };
        let mut statement = json!({
            "Sid": self.statement_id,
            "Effect": "Allow",
            "Principal": principal,
            "Action": self.action,
            "Resource": resource,
        });
        let condition = self.condition();
        if !condition.is_empty() {
            statement["Condition"] = condition.into();
        }
        statement
    }
}

fn whole(record: &PolicyRecord) -> String {
    json!({ "Version": "2012-10-17", "Id": "default", "Statement": record.statements }).to_string()
}

/// The function and the qualifier that its policy is kept under.
fn target(call: &Call) -> Result<(FunctionName, String, Option<String>), AwsError> {
    let asked = call.function()?;
    let key = asked.qualifier.clone().unwrap_or_else(|| LATEST.to_owned());
    Ok((asked.name, key, asked.qualifier))
}

pub(super) fn add(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, key, qualifier) = target(call)?;
    let asked: Asked = call.read()?;
    asked.check()?;
    let statement = asked.statement(&control.arn(&name, qualifier.as_deref()));
    control.change(|change| {
        control.check_there(change.writer, &name, &key)?;
        let mut record = change.writer.get::<PolicyRecord>(&name, &key)?.unwrap_or_default();
        check_etag(asked.revision_id.as_deref(), &record.etag)?;
        if record.statements.iter().any(|there| there["Sid"] == statement["Sid"]) {
            return Err(AwsError::conflict(&format!(
                "The statement id ({}) provided already exists. Please provide a new statement id, or remove the \
                 existing statement.",
                asked.statement_id
            )));
        }
        record.statements.push(statement.clone());
        record.etag = new_etag();
        if whole(&record).len() > POLICY_BYTES_MAX {
            return Err(AwsError::policy_too_long(POLICY_BYTES_MAX));
        }
        Ok(change.writer.put(&name, &key, &record)?)
    })?;
    Ok(Answer::with(StatusCode::CREATED, json!({ "Statement": statement.to_string() })))
}

fn none() -> AwsError {
    AwsError::not_found("The resource you requested does not exist.".to_owned())
}

pub(super) fn get(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, key, _) = target(call)?;
    let reader = control.store.read()?;
    control.function(&reader, &name)?;
    let record: PolicyRecord = reader.get(&name, &key)?.ok_or_else(none)?;
    Ok(json!({ "Policy": whole(&record), "RevisionId": record.etag }).into())
}

pub(super) fn remove(control: &Control, call: &Call) -> Result<Answer, AwsError> {
    let (name, key, _) = target(call)?;
    let id = call.param("StatementId");
    control.change(|change| {
        control.deployed(change.writer, &name)?;
        let mut record = change.writer.get::<PolicyRecord>(&name, &key)?.ok_or_else(none)?;
        check_etag(call.query("RevisionId"), &record.etag)?;
        let before = record.statements.len();
        record.statements.retain(|statement| statement["Sid"] != id);
        if record.statements.len() == before {
            return Err(AwsError::not_found(format!("Statement {id} is not found in resource policy.")));
        }
        record.etag = new_etag();
        if record.statements.is_empty() {
            change.writer.remove::<PolicyRecord>(&name, &key)?;
            return Ok(());
        }
        Ok(change.writer.put(&name, &key, &record)?)
    })?;
    Ok(Answer::nothing())
}
