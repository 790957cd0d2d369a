//! `function.toml`: what an operator may say about one function, checked value by value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node::Network;
use protocol::{Depth, Merge};
use serde::Deserialize;

use crate::CatalogueError;
use crate::event_queue::EventsToml;
use crate::function_url::UrlSettings;

/// What runs a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// A Python interpreter with a runtime client.
    Python,
    /// Node with a runtime client.
    NodeJs,
    /// Its own `bootstrap`, which speaks the Runtime API itself.
    Provided,
}

/// With whom a function's pages may be shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharingScope {
    /// With all functions of this server: one server, one tenant.
    #[default]
    Tenant,
    /// With sandboxes of the same version only.
    Function,
    /// With nobody.
    None,
}

/// Where a function's memory lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutChoice {
    /// At the same secret addresses in all its sandboxes.
    #[default]
    Pinned,
    /// Elsewhere in each.
    Random,
}

/// Whether a function has a URL: yes, or how.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Url {
    Usual(bool),
    Set(UrlSettings),
}

impl Url {
    pub(crate) fn settings(self) -> Option<UrlSettings> {
        match self {
            Url::Usual(is_wanted) => is_wanted.then(UrlSettings::default),
            Url::Set(settings) => Some(settings),
        }
    }
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FunctionToml {
    pub(crate) handler: Option<String>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) python: Option<PathBuf>,
    pub(crate) memory_mb: u64,
    pub(crate) timeout_s: f64,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) sharing: SharingScope,
    pub(crate) layout: LayoutChoice,
    pub(crate) depth: Depth,
    pub(crate) merge: Merge,
    pub(crate) concurrency: Option<usize>,
    pub(crate) keep_warm_s: Option<f64>,
    pub(crate) keep_dedup_s: Option<f64>,
    pub(crate) processes: u64,
    pub(crate) open_files: u64,
    pub(crate) file_mb: u64,
    pub(crate) snap_start: bool,
    pub(crate) tmp_mb: u64,
    pub(crate) network: Option<Network>,
    pub(crate) events: EventsToml,
    pub(crate) url: Option<Url>,
}

impl Default for FunctionToml {
    fn default() -> Self {
        Self {
            handler: None,
            runtime: None,
            python: None,
            memory_mb: 512,
            timeout_s: 3.0, // Lambda's default.
            environment: BTreeMap::new(),
            sharing: SharingScope::default(),
            layout: LayoutChoice::default(),
            depth: Depth::default(),
            merge: Merge::default(),
            concurrency: None,
            keep_warm_s: None,
            keep_dedup_s: None,
            processes: 1024,  // Lambda's limit, threads included.
            open_files: 1024, // Lambda's limit.
            file_mb: 512,     // The size of Lambda's `/tmp`.
            snap_start: false,
            tmp_mb: 512,
            network: None,
            events: EventsToml::default(),
            url: None,
        }
    }
}

/// Lambda's longest time limit.
const TIMEOUT_S_MAX: f64 = 900.0;

/// A year: longer is "for ever", and `inf` would not fit a duration.
const KEEP_S_MAX: f64 = 365.0 * 86_400.0;

/// More sandboxes of one function than any machine holds.
const CONCURRENCY_MAX: usize = 10_000;

/// Lambda's largest function has 10 GB; larger is a slip of the keyboard.
const MEMORY_MB_MAX: u64 = 1_048_576;

/// Lambda's largest `/tmp`.
const TMP_MB_MAX: u64 = 10_240;

/// Variables that the front sets itself.
const RESERVED: [&str; 4] = ["_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "PYTHONHASHSEED"];

impl FunctionToml {
    /// Reads and checks the file; without a file everything is as Lambda has it.
    pub(crate) fn read(path: &Path) -> Result<Self, CatalogueError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(CatalogueError::Read { path: path.to_owned(), source }),
        };
        let config: Self = toml::from_str(&text)
            .map_err(|error| CatalogueError::Toml { path: path.to_owned(), message: error.to_string() })?;
        match config.fault() {
            Some((key, why)) => Err(CatalogueError::Value { path: path.to_owned(), key, why }),
            None => Ok(config),
        }
    }

    /// The first value that is out of range, and what it must be.
    fn fault(&self) -> Option<(String, String)> {
        let keep = |keep_s: Option<f64>| keep_s.is_none_or(|s| (0.0..=KEEP_S_MAX).contains(&s));
        let checks = [
            ("memory_mb", (1..=MEMORY_MB_MAX).contains(&self.memory_mb), "must be between 1 and 1048576"),
            (
                "timeout_s",
                self.timeout_s > 0.0 && self.timeout_s <= TIMEOUT_S_MAX,
                "must be above 0 and at most 900",
            ),
            (
                "concurrency",
                self.concurrency.is_none_or(|n| (1..=CONCURRENCY_MAX).contains(&n)),
                "must be between 1 and 10000",
            ),
            ("keep_warm_s", keep(self.keep_warm_s), "must be between 0 and 31536000"),
            ("keep_dedup_s", keep(self.keep_dedup_s), "must be between 0 and 31536000"),
            ("tmp_mb", (1..=TMP_MB_MAX).contains(&self.tmp_mb), "must be between 1 and 10240"),
            ("processes", self.processes > 0, "must be above 0"),
            ("open_files", self.open_files > 0, "must be above 0"),
        ];
        let fault = checks.into_iter().find(|(_, fits, _)| !fits);
        fault.map(|(key, _, why)| (key.to_owned(), why.to_owned())).or_else(|| self.environment_fault())
    }

    fn environment_fault(&self) -> Option<(String, String)> {
        self.environment.iter().find_map(|(key, value)| {
            variable_fault(key, value).map(|why| (format!("environment.{key}"), why.to_owned()))
        })
    }
}

/// What is wrong with a variable of a function's own, if anything is.
pub(crate) fn variable_fault(key: &str, value: &str) -> Option<&'static str> {
    let is_word = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_word {
        Some("must be letters, digits and '_'")
    } else if RESERVED.contains(&key) || key.starts_with("AWS_LAMBDA_") {
        Some("is reserved: the runtime environment sets it")
    } else if value.contains('\0') {
        Some("must not hold a zero byte")
    } else {
        None
    }
}
