//! Records in Amazon's words.

use std::time::{Duration, UNIX_EPOCH};

use catalogue::{LATEST, Look, StoreError, VersionRecord};
use protocol::FunctionName;
use serde_json::{Value, json};

use super::Control;
use crate::aws_error::AwsError;

/// `2026-01-02T03:04:05.678+0000`.
pub(super) fn date(ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(time).to_string().replace('Z', "+0000")
}

impl Control {
    /// `FunctionConfiguration` of a version by qualifier, also of one whose record cannot be read.
    pub(super) fn shown(
        &self,
        look: &impl Look,
        name: &FunctionName,
        qualifier: Option<&str>,
    ) -> Result<Value, AwsError> {
        let (number, found) = self.find_version(look, name, qualifier)?;
        Ok(match found {
            Ok(record) => self.configuration(name, &number, qualifier, &record),
            Err(error) => self.unreadable(name, &number, qualifier, &error),
        })
    }

    /// As much of a `FunctionConfiguration` as is known of a version whose record cannot be read.
    pub(super) fn unreadable(
        &self,
        name: &FunctionName,
        number: &str,
        qualifier: Option<&str>,
        why: &StoreError,
    ) -> Value {
        let mut body = json!({
            "FunctionName": name,
            "FunctionArn": self.arn(name, qualifier),
            "Version": number,
            "PackageType": "Zip",
            "LastUpdateStatus": "Successful",
        });
        fail(&mut body, &why.to_string());
        body
    }

    /// `FunctionConfiguration`. `number` is the version; `qualifier` what the ARN ends with.
    pub(super) fn configuration(
        &self,
        name: &FunctionName,
        number: &str,
        qualifier: Option<&str>,
        record: &VersionRecord,
    ) -> Value {
        // Of folders nothing is published: what is there is what the hooks are for.
        let is_prepared = record.snap_start && (number != LATEST || self.folders.contains_key(name));
        let optimized = if is_prepared { "On" } else { "Off" };
        let mut body = json!({
            "FunctionName": name,
            "FunctionArn": self.arn(name, qualifier),
            "Version": number,
            "Runtime": record.runtime,
            "Handler": record.handler,
            "Role": record.role,
            "Description": record.description,
            "Timeout": record.timeout_s,
            "MemorySize": record.memory_mb,
            "CodeSize": record.package_bytes,
            "CodeSha256": code_sha256(record),
            "LastModified": date(record.modified_ms),
            "RevisionId": record.etag,
            "PackageType": "Zip",
            "Architectures": [record.architecture],
            "EphemeralStorage": { "Size": record.tmp_mb },
            "TracingConfig": { "Mode": "PassThrough" },
            "LoggingConfig": { "LogFormat": "Text", "LogGroup": format!("/aws/lambda/{name}") },
            "SnapStart": {
                "ApplyOn": if record.snap_start { "PublishedVersions" } else { "None" },
                "OptimizationStatus": optimized,
            },
            "State": "Active",
            "LastUpdateStatus": "Successful",
        });
        if !record.environment.is_empty() {
            body["Environment"] = json!({ "Variables": record.environment });
        }
        if let Some(arn) = &record.dead_letter {
            body["DeadLetterConfig"] = json!({ "TargetArn": arn });
        }
        if let Some(why) = self.lock_unserved().get(&(name.clone(), number.to_owned())) {
            fail(&mut body, why);
        }
        for (key, value) in &record.told {
            tell(&mut body[key.as_str()], value);
        }
        body
    }
}

/// The hash of a version's code.
pub(super) fn code_sha256(record: &VersionRecord) -> String {
    crate::base64::encode(record.package.as_bytes())
}

/// It is there, and is not served.
fn fail(body: &mut Value, why: &str) {
    body["State"] = "Failed".into();
    body["StateReasonCode"] = "InternalError".into();
    body["StateReason"] = why.into();
}

/// What was said goes over what is told by default, key by key.
fn tell(place: &mut Value, said: &Value) {
    match (place, said) {
        (Value::Object(place), Value::Object(said)) => {
            place.extend(said.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        (place, said) => *place = said.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_lambdas_form() {
        assert_eq!(date(0), "1970-01-01T00:00:00.000+0000");
        assert_eq!(date(1_700_000_000_123), "2023-11-14T22:13:20.123+0000");
    }
}
