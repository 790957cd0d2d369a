//! The control API: functions are made, changed, published and removed by Lambda's own clients.
//!
//! What was acknowledged is in the catalogue on disk (crate `catalogue`); what answers is in the live one
//! (`crate::catalogue`). A change is written first, then sandboxes follow, then the client is told.

mod account;
mod alias;
mod call;
mod checks;
mod code;
mod concurrency;
mod configuration;
mod event_invoke;
mod function;
mod leases;
mod live;
mod open;
mod operation;
mod policy;
mod provisioned;
mod settings;
mod shape;
mod tags;
mod url;
mod version;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use catalogue::{
    AliasRecord, CatalogueStore, FunctionRecord, LATEST, Look, Packages, Reader, Record, StoreError, Trees,
    VersionRecord, Writer,
};
use protocol::FunctionName;
use serde_json::Value;
use tokio::sync::Semaphore;

pub(crate) use leases::Lease;
pub use open::DeployedError;
pub(crate) use operation::{OPERATIONS, router};

use crate::aws_error::AwsError;
use crate::deploy::Deployer;
use crate::dispatch::arn;
use crate::event_queue::{Destinations, EventConfigs};
use crate::function_url::FunctionUrl;
use crate::isolation::Networks;
use crate::room::Room;
use call::{Answer, Call, listed};
use live::Effect;

/// Calls that are carried out at the same time; the largest needs 200 MB. Others wait.
const CALLS_MAX: usize = 4;

/// What calls may hold in memory while they are read and wait: seven packages of the largest.
const ROOM_BYTES: usize = 512 * 1024 * 1024;

/// What every call needs.
pub(crate) struct Control {
    store: CatalogueStore,
    packages: Packages,
    trees: Trees,
    leases: leases::Leases,
    deployer: Deployer,
    /// Functions from folders: they are shown, and changed in their folder only.
    folders: BTreeMap<FunctionName, VersionRecord>,
    /// What those say of their events.
    folder_events: EventConfigs,
    /// Which files events may go to.
    destinations: Destinations,
    networks: Networks,
    region: String,
    /// Where function URLs lead: host and port, behind the id.
    url_host: String,
    /// By id: looked up at each request to one.
    urls: RwLock<BTreeMap<String, FunctionUrl>>,
    room: Room,
    permits: Arc<Semaphore>,
    /// Held from a change of the records until sandboxes follow it, so that both happen in the same order.
    turn: Mutex<()>,
    /// Versions that are kept and cannot be served, and why.
    unserved: Mutex<BTreeMap<(FunctionName, String), String>>,
}

/// A change under way.
struct Change<'a> {
    writer: &'a mut Writer,
    /// What is to follow when it is on disk.
    effects: Vec<Effect>,
}

impl Control {
    /// Changes records, all or none, and has sandboxes follow.
    fn change<T>(&self, change: impl FnOnce(&mut Change<'_>) -> Result<T, AwsError>) -> Result<T, AwsError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, effects) = self.store.write(|writer| {
            let mut under_way = Change { writer, effects: Vec::new() };
            let value = change(&mut under_way)?;
            Ok::<_, AwsError>((value, under_way.effects))
        })?;
        for effect in effects {
            self.apply(effect);
        }
        Ok(value)
    }

    /// An ARN; `qualifier` as the client gave it.
    fn arn(&self, name: &FunctionName, qualifier: Option<&str>) -> String {
        let arn = arn(&self.region, name);
        qualifier.map_or(arn.clone(), |qualifier| format!("{arn}:{qualifier}"))
    }

    fn not_found(&self, name: &FunctionName, qualifier: Option<&str>) -> AwsError {
        let qualifier = qualifier.filter(|qualifier| *qualifier != LATEST);
        AwsError::not_found(format!("Function not found: {}", self.arn(name, qualifier)))
    }

    /// A page of all records of one kind that a function has.
    fn list<R: Record>(
        &self,
        call: &Call,
        title: &str,
        show: impl Fn(&Reader, &FunctionName, &str, &R) -> Result<Value, AwsError>,
    ) -> Result<Answer, AwsError> {
        let name = call.whole_function()?;
        let reader = self.store.read()?;
        self.function(&reader, &name)?;
        let records = reader.of::<R>(&name)?.into_iter();
        let items = records.map(|(qualifier, record)| {
            let shown = show(&reader, &name, &qualifier, &record)?;
            Ok((qualifier, shown))
        });
        let items = items.collect::<Result<Vec<_>, AwsError>>()?;
        Ok(listed(title, call.page(items)?).into())
    }

    /// Whether there is such a function, deployed or from a folder.
    fn knows(&self, look: &impl Look, name: &FunctionName) -> Result<bool, AwsError> {
        Ok(self.folders.contains_key(name) || look.has::<FunctionRecord>(name, "")?)
    }

    /// The function, deployed or from a folder.
    fn function(&self, look: &impl Look, name: &FunctionName) -> Result<FunctionRecord, AwsError> {
        match look.get(name, "")? {
            Some(function) => Ok(function),
            None if self.folders.contains_key(name) => Ok(FunctionRecord::default()),
            None => Err(self.not_found(name, None)),
        }
    }

    /// Fails if it is from a folder: it is not to be changed.
    fn check_no_folder(&self, name: &FunctionName) -> Result<(), AwsError> {
        if !self.folders.contains_key(name) {
            return Ok(());
        }
        Err(AwsError::conflict(&format!(
            "The function {name} is served from a folder: change it there, and start the server again."
        )))
    }

    /// The function, to be changed: not one from a folder.
    fn deployed(&self, look: &impl Look, name: &FunctionName) -> Result<FunctionRecord, AwsError> {
        self.check_no_folder(name)?;
        self.function(look, name)
    }

    /// A version by qualifier, aliases included; none is `$LATEST`. Returns its own number, too.
    fn version(
        &self,
        look: &impl Look,
        name: &FunctionName,
        qualifier: Option<&str>,
    ) -> Result<(String, VersionRecord), AwsError> {
        let (number, found) = self.find_version(look, name, qualifier)?;
        Ok((number, found?))
    }

    /// The same; a record that is there and cannot be read is no error of the outer kind.
    fn find_version(
        &self,
        look: &impl Look,
        name: &FunctionName,
        qualifier: Option<&str>,
    ) -> Result<(String, Result<VersionRecord, StoreError>), AwsError> {
        if !self.knows(look, name)? {
            return Err(self.not_found(name, None));
        }
        let asked = qualifier.unwrap_or(LATEST);
        let number = match look.get::<AliasRecord>(name, asked)? {
            Some(alias) => alias.version,
            None => asked.to_owned(),
        };
        if let Some(folder) = self.folders.get(name).filter(|_| number == LATEST) {
            return Ok((number, Ok(folder.clone())));
        }
        match look.get(name, &number) {
            Ok(Some(record)) => Ok((number, Ok(record))),
            Ok(None) => Err(self.not_found(name, qualifier)),
            Err(error) if error.is_of_record() => Ok((number, Err(error))),
            Err(error) => Err(error.into()),
        }
    }

    /// The version cannot be served, for this reason.
    fn cannot_serve(&self, name: &FunctionName, number: &str, why: String) {
        self.lock_unserved().insert((name.clone(), number.to_owned()), why);
    }

    /// It can, or it is gone.
    fn serves(&self, name: &FunctionName, number: &str) {
        self.lock_unserved().remove(&(name.clone(), number.to_owned()));
    }

    /// Whether some version of the function cannot be served.
    pub(crate) fn fails(&self, name: &FunctionName) -> bool {
        self.lock_unserved().keys().any(|(of, _)| of == name)
    }

    /// What to tell whoever invokes what nobody answers for: there is no such version or alias, or it cannot be served.
    /// Blocking.
    pub(crate) fn why_nobody_answers(&self, name: &FunctionName, qualifier: Option<&str>) -> AwsError {
        let found = self.store.read().map_err(AwsError::from);
        match found.and_then(|reader| self.find_version(&reader, name, qualifier)) {
            Err(error) => error,
            Ok((number, _)) => match self.lock_unserved().get(&(name.clone(), number)) {
                Some(why) => AwsError::failed(why),
                None => self.not_found(name, qualifier),
            },
        }
    }

    fn lock_unserved(&self) -> MutexGuard<'_, BTreeMap<(FunctionName, String), String>> {
        self.unserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails unless the qualifier names a version or an alias of a deployed function.
    fn check_there(&self, look: &impl Look, name: &FunctionName, qualifier: &str) -> Result<(), AwsError> {
        self.deployed(look, name)?;
        self.version(look, name, Some(qualifier)).map(|_| ())
    }
}

/// What clients compare to see whether somebody else has changed something.
fn new_etag() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Fails unless the client has seen the last change, where it says what it has seen.
fn check_etag(seen: Option<&str>, current: &str) -> Result<(), AwsError> {
    match seen {
        Some(seen) if !seen.is_empty() && seen != current => Err(AwsError::precondition()),
        _ => Ok(()),
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

impl From<StoreError> for AwsError {
    fn from(error: StoreError) -> Self {
        if let StoreError::TooLarge { .. } = error {
            return AwsError::invalid(&error.to_string()); // What a client has said, in all.
        }
        tracing::error!(%error, "catalogue");
        AwsError::service(error.to_string())
    }
}
