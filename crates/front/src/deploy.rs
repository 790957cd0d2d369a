//! Changes of the catalogue while the server runs, so that no invocation is lost: dispatch learns of the new revision,
//! then requests find it, then the old one retires.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use brain::Provisioned;
use protocol::{FunctionName, RevisionId};
use tokio::sync::Mutex;

use crate::catalogue::{Alias, LiveCatalogue, Names, Revision, Version};
use crate::dispatch::Dispatch;
use crate::functions::Function;
use crate::promises::{Allowance, LimitError, Promises};

/// Makes changes, one after the other. Cloning gives another handle to the same. Only limits are checked here: that
/// a name is free, or that an alias leads somewhere, is for whoever takes orders.
#[derive(Clone)]
pub struct Deployer(Arc<Inner>);

struct Inner {
    catalogue: LiveCatalogue,
    dispatch: Dispatch,
    last_revision: AtomicU64,
    /// Held by the change under way, also while it waits for dispatch.
    turn: Mutex<()>,
    /// Changed by who has the turn, and read by anyone at any time. Never held while something is awaited: the event
    /// queue reads it where the tasks wait that dispatch waits for.
    promises: std::sync::Mutex<Promises>,
}

impl Deployer {
    pub(crate) fn new(catalogue: LiveCatalogue, dispatch: Dispatch, allowance: usize) -> Self {
        Self(Arc::new(Inner {
            catalogue,
            dispatch,
            last_revision: AtomicU64::new(0),
            turn: Mutex::new(()),
            promises: std::sync::Mutex::new(Promises::new(allowance)),
        }))
    }

    /// From now on, `function` is this version of the function of its name. What was this version before retires: who
    /// waits for it is served by the new one, idle sandboxes go, busy ones finish first.
    pub async fn put(&self, version: Version, function: Function) -> Arc<Revision> {
        let _turn = self.0.turn.lock().await;
        let id = RevisionId(self.0.last_revision.fetch_add(1, Ordering::Relaxed) + 1);
        let revision = Arc::new(Revision { id, version, function });
        self.0.dispatch.set_revision(Arc::clone(&revision)).await;
        let name = revision.function.name.clone();
        let before = self.0.catalogue.change(|snapshot| {
            snapshot.entry(name).or_default().versions.insert(version, Arc::clone(&revision))
        });
        let provisioned = self.promises().provisioned(&revision.function.name, version);
        if provisioned > 0 {
            self.0.dispatch.provision(id, provisioned).await;
        }
        if let Some(before) = before {
            self.0.dispatch.retire(before.id, Some(id)).await;
        }
        revision
    }

    /// Has an alias stand for this, whether it exists already or not. False: there is no such function.
    pub fn put_alias(&self, name: &FunctionName, alias: String, stands_for: Alias) -> bool {
        self.change_names(name, |names| names.aliases.insert(alias, stands_for)).is_some()
    }

    /// Removes an alias. False: there is none.
    pub fn remove_alias(&self, name: &FunctionName, alias: &str) -> bool {
        self.change_names(name, |names| names.aliases.remove(alias)).flatten().is_some()
    }

    /// Removes one version, if there is one: who waits for it is told so.
    pub async fn remove_version(&self, name: &FunctionName, version: Version) {
        let _turn = self.0.turn.lock().await;
        self.promises().remove_version(name, version);
        let removed = self.change_names(name, |names| names.versions.remove(&version));
        if let Some(revision) = removed.flatten() {
            self.0.dispatch.retire(revision.id, None).await;
        }
    }

    /// Removes a function with all its versions and aliases, if there is one.
    pub async fn remove(&self, name: &FunctionName) {
        let _turn = self.0.turn.lock().await;
        self.promises().remove(name);
        self.0.dispatch.set_reserved(name.clone(), None).await;
        let removed = self.0.catalogue.change(|snapshot| snapshot.remove(name));
        for revision in removed.into_iter().flat_map(|names| names.versions.into_values()) {
            self.0.dispatch.retire(revision.id, None).await;
        }
    }

    /// Reserves so much of the allowance for this function, which gets no more; `None`: it shares what is
    /// left. Of use to functions that have Lambda's limits only.
    pub async fn reserve(&self, name: &FunctionName, wanted: Option<usize>) -> Result<(), LimitError> {
        let _turn = self.0.turn.lock().await;
        self.promises().reserve(name, wanted)?;
        self.0.dispatch.set_reserved(name.clone(), wanted).await;
        Ok(())
    }

    /// What is reserved for this function.
    pub fn reserved(&self, name: &FunctionName) -> Option<usize> {
        self.promises().reserved(name)
    }

    /// Keeps so many sandboxes of this version ready, called or not; 0: no longer. It stays so when the version gets
    /// another revision, and ends when it is removed. Of a version that is not there, none are ready as it is: its
    /// package may be lost, which must not keep the others from theirs.
    pub async fn provision(
        &self,
        name: &FunctionName,
        version: Version,
        wanted: usize,
    ) -> Result<(), LimitError> {
        let _turn = self.0.turn.lock().await;
        match self.revision(name, version) {
            Some(revision) => {
                self.promises().provision(name, version, wanted)?;
                self.0.dispatch.provision(revision.id, wanted).await;
                Ok(())
            }
            None if wanted == 0 => Ok(()),
            None => Err(LimitError::NoVersion),
        }
    }

    /// The same for all these versions of a function, or none; those that are not served get theirs when they are.
    pub(crate) async fn provision_all(
        &self,
        name: &FunctionName,
        wanted: &BTreeMap<Version, usize>,
    ) -> Result<(), LimitError> {
        let _turn = self.0.turn.lock().await;
        self.promises().provision_all(name, wanted)?;
        for (version, wanted) in wanted {
            if let Some(revision) = self.revision(name, *version) {
                self.0.dispatch.provision(revision.id, *wanted).await;
            }
        }
        Ok(())
    }

    /// Whether this can be promised. Nothing is.
    pub(crate) fn check(
        &self,
        promise: impl FnOnce(&mut Promises) -> Result<(), LimitError>,
    ) -> Result<(), LimitError> {
        promise(&mut self.promises().clone())
    }

    /// How far that is; `None`: there is no such version.
    pub async fn provisioned(&self, name: &FunctionName, version: Version) -> Option<Provisioned> {
        let revision = self.revision(name, version)?;
        self.0.dispatch.provisioned(revision.id).await
    }

    /// The allowance: how much there is, and how much of it is not reserved.
    pub fn allowance(&self) -> Allowance {
        self.promises().allowance()
    }

    fn promises(&self) -> MutexGuard<'_, Promises> {
        self.0.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revision(&self, name: &FunctionName, version: Version) -> Option<Arc<Revision>> {
        self.0.catalogue.snapshot().get(name)?.versions.get(&version).cloned()
    }

    fn change_names<T>(&self, name: &FunctionName, change: impl FnOnce(&mut Names) -> T) -> Option<T> {
        self.0.catalogue.change(|snapshot| snapshot.get_mut(name).map(change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn promises_are_read_while_a_change_waits_for_dispatch() {
        let deployer = Deployer::new(LiveCatalogue::default(), Dispatch::stalled(), 10);
        let name: FunctionName = "f".parse().unwrap();
        let (changing, of) = (deployer.clone(), name.clone());
        let change = tokio::spawn(async move { changing.reserve(&of, Some(3)).await });
        while deployer.reserved(&name).is_none() {
            tokio::task::yield_now().await;
        }
        assert!(!change.is_finished(), "dispatch does not hear of it");
        assert_eq!(deployer.allowance().unreserved, 7);
        change.abort();
    }
}
