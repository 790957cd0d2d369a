//! What the live catalogue has to follow, and how a record becomes a function that can be launched.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use catalogue::{AliasRecord, LATEST, UrlRecord, VersionRecord};
use protocol::FunctionName;
use tokio::runtime::Handle;

use super::{Change, Control, Lease};
use crate::catalogue::{Alias, Version};
use crate::function_toml::{FunctionToml, Runtime};
use crate::function_url::{FunctionUrl, InvokeMode, UrlAuth, UrlLookup, UrlSettings};
use crate::functions::{CatalogueError, Function};

/// What follows a change of records.
pub(super) enum Effect {
    Put {
        version: Version,
        function: Box<Function>,
    },
    PutAlias {
        name: FunctionName,
        alias: String,
        stands_for: Alias,
    },
    RemoveAlias {
        name: FunctionName,
        alias: String,
    },
    RemoveVersion {
        name: FunctionName,
        version: Version,
    },
    Remove {
        name: FunctionName,
    },
    PutUrl {
        id: String,
        url: FunctionUrl,
    },
    /// So many invocations at once are the function's. It was checked that there are as many.
    Reserve {
        name: FunctionName,
        wanted: Option<usize>,
    },
    /// What provisioned concurrency follows has changed.
    Settings {
        name: FunctionName,
    },
    RemoveUrl {
        name: FunctionName,
        qualifier: String,
    },
}

impl Control {
    /// Blocking: to be called where that is allowed, within the runtime.
    pub(super) fn apply(&self, effect: Effect) {
        match effect {
            Effect::Put { version, function } => {
                self.serves(&function.name, &version.to_string());
                Handle::current().block_on(self.deployer.put(version, *function));
            }
            Effect::PutAlias { name, alias, stands_for } => {
                self.deployer.put_alias(&name, alias, stands_for);
            }
            Effect::RemoveAlias { name, alias } => {
                self.deployer.remove_alias(&name, &alias);
            }
            Effect::RemoveVersion { name, version } => {
                self.serves(&name, &version.to_string());
                Handle::current().block_on(self.deployer.remove_version(&name, version));
            }
            Effect::Remove { name } => {
                self.lock_unserved().retain(|(of, _), _| *of != name);
                self.change_urls(|urls| urls.retain(|_, url| url.function != name));
                Handle::current().block_on(async {
                    self.deployer.remove(&name).await;
                    drop(self.deployer.reserve(&name, None).await); // To reserve nothing is never refused.
                });
            }
            Effect::Reserve { name, wanted } => {
                if let Err(error) = Handle::current().block_on(self.deployer.reserve(&name, wanted)) {
                    tracing::error!(%name, %error, "reserved concurrency");
                }
            }
            Effect::Settings { name } => self.settle(&name),
            Effect::PutUrl { id, url } => self.change_urls(|urls| drop(urls.insert(id, url))),
            Effect::RemoveUrl { name, qualifier } => {
                let qualifier = url_qualifier(&qualifier);
                self.change_urls(|urls| {
                    urls.retain(|_, url| url.function != name || url.qualifier != qualifier);
                });
            }
        }
    }
}

impl Control {
    fn change_urls(&self, change: impl FnOnce(&mut BTreeMap<String, FunctionUrl>)) {
        change(&mut self.urls.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl UrlLookup for Control {
    fn find(&self, id: &str) -> Option<FunctionUrl> {
        self.urls.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// Under `$LATEST` are the URLs that name no alias.
fn url_qualifier(qualifier: &str) -> Option<String> {
    Some(qualifier.to_owned()).filter(|qualifier| qualifier != LATEST)
}

/// Has a URL lead to its function. What was checked when it came is read again here; what does not fit is left out.
pub(super) fn url_effect(name: &FunctionName, qualifier: &str, record: &UrlRecord) -> Effect {
    let settings = UrlSettings {
        auth: if record.auth == "NONE" { UrlAuth::None } else { UrlAuth::AwsIam },
        mode: if record.invoke_mode == "BUFFERED" {
            InvokeMode::Buffered
        } else {
            InvokeMode::ResponseStream
        },
        cors: record.cors.clone().and_then(|cors| serde_json::from_value(cors).ok()),
    };
    let url = FunctionUrl { function: name.clone(), qualifier: url_qualifier(qualifier), settings };
    Effect::PutUrl { id: record.id.clone(), url }
}

impl Change<'_> {
    /// Has this record answer under its version, once it is on disk.
    pub(super) fn follow(&mut self, number: &str, function: Function) {
        if let Some(version) = Version::read(number) {
            let function = Box::new(at_version(version, function));
            self.effects.push(Effect::Put { version, function });
        }
    }

    /// Has the live server follow what the records of this function say of provisioned concurrency, after all else: they
    /// may speak of versions that are only just being made.
    pub(super) fn settle(&mut self, name: &FunctionName) {
        self.effects.retain(|effect| !matches!(effect, Effect::Settings { name: of } if of == name));
        self.effects.push(Effect::Settings { name: name.clone() });
    }

    pub(super) fn follow_alias(&mut self, name: &FunctionName, alias: &str, record: &AliasRecord) {
        if let Some(stands_for) = alias_of(record) {
            let (name, alias) = (name.clone(), alias.to_owned());
            self.effects.push(Effect::PutAlias { name, alias, stands_for });
        }
    }
}

pub(super) fn alias_of(record: &AliasRecord) -> Option<Alias> {
    let also =
        record.weights.iter().next().and_then(|(number, share)| Some((Version::read(number)?, *share)));
    Some(Alias { version: Version::read(&record.version)?, also })
}

/// A function as it is launched. What Lambda has no words for comes from a `function.toml` in the package; what the
/// record says goes before it.
pub(super) fn function(
    name: &FunctionName,
    record: &VersionRecord,
    tree: &Path,
    lease: &Arc<Lease>,
) -> Result<Function, CatalogueError> {
    let toml = tree.join("function.toml");
    let own = FunctionToml::read(&toml)?;
    if own.python.is_some() {
        // The interpreter is asked what it is before any cell is built, with the server's rights.
        let why = "names a program of this machine: only functions from folders may do that".to_owned();
        return Err(CatalogueError::Value { path: toml, key: "python".to_owned(), why });
    }
    Ok(Function {
        name: name.clone(),
        root: tree.to_owned(),
        digest: digest(record),
        runtime: runtime(&record.runtime, tree),
        handler: record.handler.clone(),
        python: None,
        memory_mb: record.memory_mb.into(),
        timeout: Duration::from_secs(record.timeout_s.into()),
        environment: record.environment.clone(),
        sharing: own.sharing,
        layout: own.layout,
        depth: own.depth,
        merge: own.merge,
        concurrency: own.concurrency,
        keep_warm: own.keep_warm_s.map(Duration::from_secs_f64),
        keep_dedup: own.keep_dedup_s.map(Duration::from_secs_f64),
        processes: own.processes,
        open_files: own.open_files,
        file_mb: record.tmp_mb.into(),
        snap_start: record.snap_start,
        tmp_mb: record.tmp_mb.into(),
        network: own.network,
        is_deployed: true,
        url: None,                              // Its URLs are records of their own,
        events: events::EventConfig::default(), // and so is what becomes of its events.
        throttles: true,
        _lease: Some(Arc::clone(lease)),
    })
}

/// A `bootstrap` that a Node package brings is its runtime client.
fn runtime(name: &str, tree: &Path) -> Runtime {
    match name {
        name if name.starts_with("python") => Runtime::Python,
        name if name.starts_with("nodejs") && !tree.join("bootstrap").is_file() => Runtime::NodeJs,
        _ => Runtime::Provided,
    }
}

/// Snapshots are made of published versions only.
pub(super) fn at_version(version: Version, mut function: Function) -> Function {
    function.snap_start &= version != Version::Latest;
    function
}

/// Of what memory looks like: versions that differ in words only are alike.
fn digest(record: &VersionRecord) -> String {
    let VersionRecord { package, runtime, handler, environment, memory_mb, .. } = record;
    let text = format!("{package}\0{runtime}\0{handler}\0{memory_mb}\0{environment:?}");
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
