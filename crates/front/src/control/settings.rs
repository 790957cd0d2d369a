//! What a client may configure: read from its request, checked, and put into a record.

use std::collections::BTreeMap;

use catalogue::VersionRecord;
use serde::Deserialize;
use serde_json::Value;

use super::checks;
use crate::aws_error::AwsError;

/// Stands where Lambda has a role. There are no roles here: a function is nobody to Amazon.
pub(super) const NO_ROLE: &str = "arn:aws:iam::000000000000:role/none";

/// The processors that sandboxes run on.
pub(super) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// Settings as `CreateFunction` and `UpdateFunctionConfiguration` have them; what is not said is not changed.
/// Unknown ones are passed over, as clients learn new ones every month.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Settings {
    runtime: Option<String>,
    role: Option<String>,
    handler: Option<String>,
    description: Option<String>,
    timeout: Option<i64>,
    memory_size: Option<i64>,
    environment: Option<Environment>,
    ephemeral_storage: Option<EphemeralStorage>,
    snap_start: Option<SnapStart>,
    dead_letter_config: Option<DeadLetterConfig>,
    tracing_config: Option<Value>,
    logging_config: Option<Value>,
    #[serde(rename = "KMSKeyArn")]
    kms_key_arn: Option<String>,
    package_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Environment {
    variables: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EphemeralStorage {
    size: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SnapStart {
    apply_on: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeadLetterConfig {
    target_arn: Option<String>,
}

impl Settings {
    /// Whether what must be there is there, when a function is made.
    pub(super) fn check_complete(&self) -> Result<(), AwsError> {
        if self.package_type.as_deref().is_some_and(|kind| kind != "Zip") {
            return Err(AwsError::invalid("PackageType must be Zip: images are not supported."));
        }
        match (&self.runtime, &self.handler) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(AwsError::invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
            )),
        }
    }

    /// Puts what is said into the record, all of it or nothing.
    pub(super) fn apply(self, record: &mut VersionRecord) -> Result<(), AwsError> {
        let mut changed = record.clone();
        if let Some(runtime) = self.runtime {
            changed.runtime = checks::runtime(runtime)?;
        }
        if let Some(role) = self.role {
            changed.role = checks::role(role)?;
        }
        if let Some(handler) = self.handler {
            changed.handler = checks::handler(handler)?;
        }
        if let Some(description) = self.description {
            changed.description = checks::description(description)?;
        }
        if let Some(timeout) = self.timeout {
            changed.timeout_s = checks::number(timeout, "timeout", 1, 900)?;
        }
        if let Some(memory) = self.memory_size {
            changed.memory_mb = checks::number(memory, "memorySize", 128, 10_240)?;
        }
        if let Some(size) = self.ephemeral_storage.and_then(|storage| storage.size) {
            changed.tmp_mb = checks::number(size, "ephemeralStorage.size", 512, 10_240)?;
        }
        if let Some(environment) = self.environment {
            changed.environment = checks::environment(environment.variables.unwrap_or_default())?;
        }
        if let Some(snap_start) = self.snap_start {
            changed.snap_start = checks::snap_start(snap_start.apply_on)?;
        }
        if let Some(dead_letter) = self.dead_letter_config {
            changed.dead_letter = dead_letter.target_arn.filter(|arn| !arn.is_empty());
        }
        let told = [
            ("TracingConfig", self.tracing_config),
            ("LoggingConfig", self.logging_config),
            ("KMSKeyArn", self.kms_key_arn.filter(|arn| !arn.is_empty()).map(Value::from)),
        ];
        for (name, value) in told {
            if let Some(value) = value {
                checks::remembered(name, &value)?;
                changed.told.insert(name.to_owned(), value);
            }
        }
        *record = changed;
        Ok(())
    }
}
