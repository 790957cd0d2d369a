//! The catalogue of a running server: which revision answers under which name. Every request reads it and none waits:
//! a change makes a new snapshot, and whoever reads the old one is left alone.
//!
//! Changes are made through `deploy`, which has sandboxes follow.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use catalogue::LATEST;
use protocol::{FunctionName, RevisionId};

use crate::functions::Function;

/// Which version of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `$LATEST`: what was deployed last.
    Latest,
    /// Published under this number, from 1; never changes again.
    Number(u64),
}

impl Version {
    /// Reads `$LATEST`, or a number as it is given: `1`, and neither `+1` nor `01`.
    pub fn read(text: &str) -> Option<Self> {
        if text == LATEST {
            return Some(Version::Latest);
        }
        let number: u64 = text.parse().ok()?;
        (number.to_string() == text).then_some(Version::Number(number))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Latest => f.pad(LATEST),
            Version::Number(number) => f.pad(&number.to_string()),
        }
    }
}

/// What sandboxes are made of. It never changes; a deploy makes another.
#[derive(Debug)]
pub struct Revision {
    /// Its number, on this server, in this run.
    pub id: RevisionId,
    /// The version that it is, or was.
    pub version: Version,
    /// Code and configuration.
    pub function: Function,
}

/// A name for a version, which can be given to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alias {
    /// Who answers.
    pub version: Version,
    /// Who answers instead, and for which share of the invocations: 0 to 1.
    pub also: Option<(Version, f64)>,
}

/// All names of one function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) versions: BTreeMap<Version, Arc<Revision>>,
    pub(crate) aliases: BTreeMap<String, Alias>,
}

/// All functions at one moment.
pub(crate) type Snapshot = BTreeMap<FunctionName, Names>;

/// A handle to the catalogue: cheap to clone, and all clones see the same.
#[derive(Clone, Default)]
pub(crate) struct LiveCatalogue(Arc<RwLock<Arc<Snapshot>>>);

impl LiveCatalogue {
    /// Everything as it is now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The revision that answers under this name. `qualifier`: a version, or an alias; none is `$LATEST`. `pick` gives
    /// a random number from 0 to less than 1, for aliases that stand for two versions.
    pub(crate) fn resolve(
        &self,
        name: &FunctionName,
        qualifier: Option<&str>,
        pick: impl FnOnce() -> f64,
    ) -> Option<Arc<Revision>> {
        let snapshot = self.snapshot();
        let names = snapshot.get(name)?;
        names.versions.get(&names.version(qualifier, pick)?).cloned()
    }

    /// Makes a change; those that are made at the same time come one after the other. The snapshot is copied: changes
    /// are rare, and its parts are small or shared.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut current))
    }
}

impl Names {
    fn version(&self, qualifier: Option<&str>, pick: impl FnOnce() -> f64) -> Option<Version> {
        let Some(qualifier) = qualifier else { return Some(Version::Latest) };
        if let Some(version) = Version::read(qualifier) {
            return Some(version);
        }
        let alias = self.aliases.get(qualifier)?;
        match alias.also {
            Some((version, share)) if pick() < share => Some(version),
            _ => Some(alias.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::load_function;

    /// Function `f` with `$LATEST` (revision 1), versions 1 and 2 (revisions 2 and 3), and aliases.
    fn catalogue() -> LiveCatalogue {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("f");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("lambda_function.py"), "").unwrap();
        let function = load_function(&root).unwrap();
        let catalogue = LiveCatalogue::default();
        catalogue.change(|snapshot| {
            let names = snapshot.entry("f".parse().unwrap()).or_default();
            for (id, version) in [(1, Version::Latest), (2, Version::Number(1)), (3, Version::Number(2))] {
                let revision = Revision { id: RevisionId(id), version, function: function.clone() };
                names.versions.insert(version, Arc::new(revision));
            }
            let (one, two) = (Version::Number(1), Version::Number(2));
            names.aliases.insert("live".to_owned(), Alias { version: two, also: None });
            names.aliases.insert("canary".to_owned(), Alias { version: two, also: Some((one, 0.25)) });
            names.aliases.insert("gone".to_owned(), Alias { version: Version::Number(9), also: None });
        });
        catalogue
    }

    #[track_caller]
    fn check(qualifier: Option<&str>, pick: f64, expected: Option<u64>) {
        let found = catalogue().resolve(&"f".parse().unwrap(), qualifier, || pick);
        assert_eq!(found.map(|revision| revision.id.0), expected, "{qualifier:?}");
    }

    #[test]
    fn a_qualifier_names_a_version_or_an_alias() {
        check(None, 0.0, Some(1));
        check(Some("$LATEST"), 0.0, Some(1));
        check(Some("1"), 0.0, Some(2));
        check(Some("2"), 0.0, Some(3));
        check(Some("3"), 0.0, None);
        check(Some("live"), 0.0, Some(3));
        check(Some("gone"), 0.0, None);
        check(Some("nobody"), 0.0, None);
        for strange in ["+1", "01", "001", "-1", "1 ", "", "$latest"] {
            check(Some(strange), 0.0, None);
        }
    }

    #[test]
    fn an_alias_for_two_versions_gives_each_its_share() {
        check(Some("canary"), 0.0, Some(2));
        check(Some("canary"), 0.249, Some(2));
        check(Some("canary"), 0.25, Some(3));
        check(Some("canary"), 0.999, Some(3));
    }

    #[test]
    fn who_reads_a_snapshot_keeps_it() {
        let catalogue = catalogue();
        let before = catalogue.snapshot();
        catalogue.clone().change(Snapshot::clear);
        assert_eq!((before.len(), catalogue.snapshot().len()), (1, 0));
    }
}
