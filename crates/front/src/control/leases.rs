//! Code that is in use: as long as somebody has a lease on a package, it stays, and so does its tree. Versions that
//! answer have one, sandboxes have that of the version they were made of, and so has a call that brings code. When
//! the last one ends, what no record names goes; what a crash leaves behind is swept at the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use catalogue::{Look as _, PackageId, VersionRecord};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Control;

/// The right to use a package and its tree.
#[derive(Debug)]
pub(crate) struct Lease {
    id: PackageId,
    ended: UnboundedSender<PackageId>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.ended.send(self.id); // Nobody hears: the server has ended.
    }
}

/// All leases of a server.
pub(super) struct Leases {
    current: Mutex<BTreeMap<PackageId, Weak<Lease>>>,
    /// Holds one id for each lease that ended, and there are no more leases than versions and calls.
    ended: UnboundedSender<PackageId>,
}

impl Leases {
    /// With the ids of those that end.
    pub(super) fn new() -> (Self, UnboundedReceiver<PackageId>) {
        let (ended, ids) = unbounded_channel();
        (Self { current: Mutex::default(), ended }, ids)
    }

    /// From now on the package stays, if it is there.
    pub(super) fn take(&self, id: &PackageId) -> Arc<Lease> {
        let mut current = self.lock();
        if let Some(lease) = current.get(id).and_then(Weak::upgrade) {
            return lease;
        }
        let lease = Arc::new(Lease { id: *id, ended: self.ended.clone() });
        current.insert(*id, Arc::downgrade(&lease));
        lease
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PackageId, Weak<Lease>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Removes code as it falls out of use, as long as the server lives.
    pub(super) fn collect_code(self: &Arc<Self>, mut ended: UnboundedReceiver<PackageId>) {
        let control = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(id) = ended.recv().await {
                let mut ids = BTreeSet::from([id]);
                while let Ok(id) = ended.try_recv() {
                    ids.insert(id); // The records are read once for all of them.
                }
                let Some(control) = control.upgrade() else { return };
                let collected = tokio::task::spawn_blocking(move || control.remove_unused(ids));
                drop(collected.await);
            }
        });
    }

    /// What cannot be removed now is swept at the next start.
    fn remove_unused(&self, mut ids: BTreeSet<PackageId>) {
        let mut current = self.leases.lock(); // Nobody takes one while it is looked whether anybody has one.
        ids.retain(|id| current.get(id).is_none_or(|lease| lease.strong_count() == 0));
        // Whoever is about to name a package has a lease on it until its record is there.
        let all = match self.store.read().and_then(|reader| reader.all::<VersionRecord>()) {
            Ok(all) if all.damaged.is_empty() => all.records,
            _ => return, // Nobody knows what is still wanted.
        };
        for (_, _, record) in &all {
            ids.remove(&record.package);
        }
        ids.iter().for_each(|id| drop(current.remove(id)));
        let removed: Vec<_> =
            ids.iter().map(|id| (self.trees.detach(id), self.packages.remove(id))).collect();
        drop(current);
        for (tree, package) in removed {
            let tree = tree.and_then(|tree| tree.map_or(Ok(()), |tree| self.trees.remove(&tree)));
            if let Err(error) = tree {
                tracing::warn!(%error, "a tree that nobody uses stays until the next start");
            }
            if let Err(error) = package {
                tracing::warn!(%error, "a package that nobody names stays until the next start");
            }
        }
    }
}
