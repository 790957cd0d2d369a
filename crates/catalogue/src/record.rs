//! What is remembered of a function. Each record is kept as JSON with a format number, so that a later program knows
//! what it reads.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::PackageId;

/// The qualifier of what can be changed; all others are numbers and aliases.
pub const LATEST: &str = "$LATEST";

/// A kind of record. Its key is this kind, the function's name, and a qualifier, which may be empty.
pub trait Record: Serialize + DeserializeOwned {
    /// What tells it from other kinds. Never changes: it is on disk.
    const KIND: &'static str;
    /// The number of its form. Goes up when what is written cannot be read by programs that know the number before.
    const FORMAT: u32 = 1;
}

macro_rules! records {
    ($($record:ty => $kind:literal),+ $(,)?) => {
        $(impl Record for $record { const KIND: &'static str = $kind; })+
    };
}

records! {
    FunctionRecord => "function",
    VersionRecord => "version",
    AliasRecord => "alias",
    UrlRecord => "url",
    PolicyRecord => "policy",
    ProvisionedRecord => "provisioned",
    EventInvokeRecord => "event-invoke",
}

/// A function as a whole. No qualifier. It is there exactly if the function is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// The number of the version published last; 0: none yet. Numbers are never used again.
    pub last_version: u64,
    /// Invocations at once that are kept for it, and that it may not exceed.
    pub reserved_concurrency: Option<u32>,
    /// Tags, key to value.
    pub tags: BTreeMap<String, String>,
    /// `RecursiveLoop`: what is to happen to a function that calls itself. Remembered, not acted upon.
    pub recursive_loop: Option<String>,
}

/// Code and configuration at one version. Qualifier: `$LATEST`, or the number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// What clients compare to see whether somebody else has changed it (`RevisionId`): a UUID.
    pub etag: String,
    /// When it was changed last, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Its code.
    pub package: PackageId,
    /// Bytes of the package, zipped.
    pub package_bytes: u64,
    /// As Lambda names them: `python3.12`.
    pub runtime: String,
    /// `module.function`.
    pub handler: String,
    /// An ARN. Remembered, not used: nobody is who it names.
    pub role: String,
    /// Free text.
    pub description: String,
    /// Seconds that one invocation may take.
    pub timeout_s: u32,
    /// MiB of one sandbox.
    pub memory_mb: u32,
    /// MiB of `/tmp`.
    pub tmp_mb: u32,
    /// Variables of its own.
    pub environment: BTreeMap<String, String>,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Whether hooks run before and after the first sleep (`SnapStart`).
    pub snap_start: bool,
    /// Where events go that failed: an ARN (`DeadLetterConfig`).
    pub dead_letter: Option<String>,
    /// What else was configured and is told as it was said (`TracingConfig`, `LoggingConfig`), by its name.
    pub told: BTreeMap<String, Value>,
}

/// A name for a version, or for two with weights. Qualifier: the name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The version it stands for.
    pub version: String,
    /// Another version, and which share of the invocations goes there, 0 to 1.
    pub weights: BTreeMap<String, f64>,
    /// Free text.
    pub description: String,
    /// As a version's.
    pub etag: String,
}

/// A URL of a function. Qualifier: `$LATEST` or an alias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UrlRecord {
    /// The first label of its host name: 32 letters and digits, random.
    pub id: String,
    /// `NONE` or `AWS_IAM`.
    pub auth: String,
    /// `BUFFERED` or `RESPONSE_STREAM`.
    pub invoke_mode: String,
    /// The answers to a browser's questions, as they were configured.
    pub cors: Option<Value>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was changed last.
    pub modified_ms: u64,
}

/// Who may do what. Qualifier: `$LATEST`, a version or an alias. Remembered, not acted upon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Statements in the order in which they were added.
    pub statements: Vec<Value>,
    /// As a version's.
    pub etag: String,
}

/// Sandboxes that are kept warm. Qualifier: a version or an alias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionedRecord {
    /// How many.
    pub count: u32,
    /// When it was changed last, in milliseconds since 1970.
    pub modified_ms: u64,
}

/// What is done with events. Qualifier: `$LATEST`, a version or an alias.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventInvokeRecord {
    /// Seconds that an event may wait, its retries included; Lambda's default where it is not said.
    pub maximum_age_s: Option<u32>,
    /// How often it is tried again.
    pub retries: Option<u32>,
    /// Where an event goes that was handled: an ARN.
    pub on_success: Option<String>,
    /// Where an event goes that was not.
    pub on_failure: Option<String>,
    /// When it was changed last, in milliseconds since 1970.
    pub modified_ms: u64,
}
