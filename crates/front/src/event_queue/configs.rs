//! What was set for events: by `function.toml` when the server starts, by the control API while it runs.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use catalogue::LATEST;
use events::{EventConfig, Target};
use protocol::FunctionName;

use crate::names::{self, FunctionRef};

/// Where the settings of events are found.
pub(crate) trait EventLookup: Send + Sync + 'static {
    /// What was set for the events of this function, or this version or alias of it; what holds where nothing was.
    /// May wait for the disk.
    fn find(&self, name: &FunctionName, qualifier: Option<&str>) -> Result<EventConfig, String>;
    /// Whether there is such a function, or version or alias of it, though it may not be served now. May wait for the
    /// disk.
    fn knows(&self, name: &FunctionName, qualifier: Option<&str>) -> Result<bool, String>;
}

/// The settings of functions from folders. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub(crate) struct EventConfigs(Arc<RwLock<BTreeMap<(FunctionName, String), EventConfig>>>);

impl EventConfigs {
    /// Sets them for one function, or one version or alias of it; what is not set for an alias is not that of its
    /// function, as in Lambda.
    pub(crate) fn set(&self, name: FunctionName, qualifier: Option<&str>, config: EventConfig) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert((name, qualifier.unwrap_or(LATEST).to_owned()), config);
    }

    /// What is set, if anything is.
    pub(crate) fn get(&self, name: &FunctionName, qualifier: Option<&str>) -> Option<EventConfig> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&(name.clone(), qualifier.unwrap_or(LATEST).to_owned())).cloned()
    }
}

impl EventLookup for EventConfigs {
    fn find(&self, name: &FunctionName, qualifier: Option<&str>) -> Result<EventConfig, String> {
        Ok(self.get(name, qualifier).unwrap_or_default())
    }

    fn knows(&self, _: &FunctionName, _: Option<&str>) -> Result<bool, String> {
        Ok(false) // Served as long as the server runs: what is not, is not there.
    }
}

/// Where records may be written to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Destinations {
    dirs: Arc<[PathBuf]>,
}

/// Events cannot go there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDestination {
    /// It is neither a function nor a file.
    #[error("{text:?} is no destination: use the name or the ARN of a function, or `file:///` and a path")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// It should be a function, and is none.
    #[error("{text:?} is no destination: {why}")]
    Function {
        /// What was given.
        text: String,
        /// Why not.
        why: String,
    },
    /// It is no plain path of a file.
    #[error("{path:?} is no destination: the path must be absolute, without `.` and `..`, and name a file")]
    Path {
        /// What was given.
        path: PathBuf,
    },
    /// Files may not be written there.
    #[error("{path:?} is no destination: `serve --destinations DIR` allows no directory around it")]
    NotAllowed {
        /// What was given.
        path: PathBuf,
    },
}

/// Reads the text of a destination; whether a file may be written is another question, for `Destinations`.
pub(crate) fn parse(text: &str) -> Result<Target, InvalidDestination> {
    if let Some(path) = text.strip_prefix("file://") {
        return file(path.into());
    }
    let is_function = !text.starts_with("arn:") || text.split(':').nth(2) == Some("lambda");
    if !is_function || text.contains('/') {
        return Err(InvalidDestination::Unknown { text: text.to_owned() });
    }
    let invalid = |error: names::NotAFunction| InvalidDestination::Function {
        text: text.to_owned(),
        why: error.to_string(),
    };
    let FunctionRef { name, qualifier } = names::parse(text).map_err(invalid)?;
    Ok(Target::Function { name, qualifier })
}

fn file(path: PathBuf) -> Result<Target, InvalidDestination> {
    let is_plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
    // `components` passes over some of what is not plain.
    let is_whole = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    if path.is_absolute() && is_whole && path.components().all(is_plain) && path.file_name().is_some() {
        Ok(Target::File { path })
    } else {
        Err(InvalidDestination::Path { path })
    }
}

impl Destinations {
    pub(crate) fn new(dirs: &[PathBuf]) -> Self {
        Self { dirs: dirs.into() }
    }

    /// Whether records may go there.
    pub(crate) fn check(&self, target: &Target) -> Result<(), InvalidDestination> {
        match target {
            Target::Function { .. } => Ok(()),
            Target::File { path } => self.split(path).map(|_| ()),
        }
    }

    /// The allowed directory that this file is in, and its path from there.
    pub(crate) fn split<'a>(&'a self, path: &'a Path) -> Result<(&'a Path, &'a Path), InvalidDestination> {
        let within = |dir: &'a PathBuf| Some((dir.as_path(), path.strip_prefix(dir).ok()?));
        let found = self.dirs.iter().find_map(within).filter(|(_, rest)| !rest.as_os_str().is_empty());
        found.ok_or_else(|| InvalidDestination::NotAllowed { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Target>) {
        assert_eq!(parse(text).ok(), expected, "{text:?}");
    }

    fn function(name: &str, qualifier: Option<&str>) -> Option<Target> {
        Some(Target::Function { name: name.parse().unwrap(), qualifier: qualifier.map(str::to_owned) })
    }

    #[test]
    fn a_destination_is_a_function_or_a_file() {
        check("after", function("after", None));
        check("after:live", function("after", Some("live")));
        check("arn:aws:lambda:us-east-1:123456789012:function:after", function("after", None));
        check("arn:aws:lambda:us-east-1:123456789012:function:after:3", function("after", Some("3")));
        check("file:///var/records/f.jsonl", Some(Target::File { path: "/var/records/f.jsonl".into() }));
    }

    #[test]
    fn other_text_is_none() {
        for text in [
            "",
            "arn:aws:sqs:us-east-1:123456789012:queue",
            "http://example.org",
            "/var/records/f.jsonl",
            "file://records/f.jsonl",
            "file:///",
            "file:///var/../etc/passwd",
            "file:///var//f",
            "file:///var/./f",
            "file:///var/f/",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn files_lie_in_allowed_directories() {
        let destinations = Destinations::new(&["/var/records".into(), "/srv".into()]);
        let allowed = |path: &str| destinations.check(&Target::File { path: path.into() }).is_ok();
        assert!(allowed("/var/records/a/b.jsonl") && allowed("/srv/x"));
        assert!(!allowed("/var/records2/x") && !allowed("/var/records") && !allowed("/etc/passwd"));
        assert!(destinations.check(&function("f", None).unwrap()).is_ok());
    }

    #[test]
    fn settings_are_those_of_the_qualifier() {
        let configs = EventConfigs::default();
        let name: FunctionName = "f".parse().unwrap();
        let config = |retries| EventConfig { retries, ..EventConfig::default() };
        configs.set(name.clone(), None, config(0));
        configs.set(name.clone(), Some("live"), config(1));
        let retries = |qualifier| configs.find(&name, qualifier).unwrap().retries;
        assert_eq!((retries(None), retries(Some("$LATEST")), retries(Some("live"))), (0, 0, 1));
        assert_eq!(retries(Some("other")), events::RETRIES_MAX);
    }
}
