//! The sandboxes of one revision, by what they are good for: an invocation looks at none but the one it gets.

use std::collections::BTreeSet;

use protocol::SandboxId;

use super::Brain;
use crate::sandbox::{Phase, Sandbox};

/// Sandboxes by when they were used, the last used at the end.
type ByUse = BTreeSet<(u64, SandboxId)>;

/// Who there is, and where they stand.
#[derive(Debug, Default)]
pub(super) struct Roster {
    all: BTreeSet<SandboxId>,
    warm: ByUse,
    /// Each: sent by time, sent by hand.
    freezing: [ByUse; 2],
    asleep: [ByUse; 2],
    /// Those that will be ready without further doing.
    pub(super) coming: usize,
    /// Those that count as provisioned, those that start or wake included.
    pub(super) up: usize,
    /// Those of them that have started.
    pub(super) available: usize,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn ids(&self) -> Vec<SandboxId> {
        self.all.iter().copied().collect()
    }

    pub(super) fn warm_ids(&self) -> Vec<SandboxId> {
        self.warm.iter().map(|(_, id)| *id).collect()
    }

    /// The warm one that was used last.
    pub(super) fn last_warm(&self) -> Option<SandboxId> {
        self.warm.last().map(|(_, id)| *id)
    }

    /// Of those that sleep the one that was used last; if none does, of those that fall asleep.
    pub(super) fn last_asleep(&self) -> Option<SandboxId> {
        let last = |both: &[ByUse; 2]| both.iter().filter_map(BTreeSet::last).max().map(|(_, id)| *id);
        last(&self.asleep).or_else(|| last(&self.freezing))
    }

    /// The same, but those that were sent by hand are left in peace.
    pub(super) fn last_asleep_by_time(&self) -> Option<SandboxId> {
        self.asleep[0].last().or_else(|| self.freezing[0].last()).map(|(_, id)| *id)
    }

    fn count(&mut self, sandbox: &Sandbox, is_in: bool) {
        let place = (sandbox.used, sandbox.id);
        let by_use = match sandbox.phase {
            Phase::Warm => Some(&mut self.warm),
            Phase::Freezing { by_hand } => Some(&mut self.freezing[usize::from(by_hand)]),
            Phase::Dedup { by_hand } => Some(&mut self.asleep[usize::from(by_hand)]),
            _ => None,
        };
        match by_use {
            Some(by_use) if is_in => drop(by_use.insert(place)),
            Some(by_use) => drop(by_use.remove(&place)),
            None => {}
        }
        for (count, is_one) in [
            (&mut self.coming, sandbox.is_coming()),
            (&mut self.up, sandbox.is_up()),
            (&mut self.available, sandbox.is_available()),
        ] {
            match (is_one, is_in) {
                (true, true) => *count += 1,
                (true, false) => *count -= 1,
                (false, _) => {}
            }
        }
    }
}

impl Brain {
    /// Takes in a sandbox that is new.
    pub(super) fn enrol(&mut self, sandbox: Sandbox) {
        if let Some(revision) = self.revisions.get_mut(&sandbox.revision) {
            revision.roster.all.insert(sandbox.id);
            revision.roster.count(&sandbox, true);
        }
        self.sandboxes.insert(sandbox.id, sandbox);
    }

    /// Changes a sandbox. Everything that changes one goes through here: the roster follows.
    pub(super) fn alter(&mut self, id: SandboxId, change: impl FnOnce(&mut Sandbox)) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let Some(revision) = self.revisions.get_mut(&sandbox.revision) else { return };
        revision.roster.count(sandbox, false);
        change(sandbox);
        revision.roster.count(sandbox, true);
    }

    /// Strikes one that is dead.
    pub(super) fn strike(&mut self, id: SandboxId) -> Option<Sandbox> {
        let sandbox = self.sandboxes.remove(&id)?;
        if let Some(revision) = self.revisions.get_mut(&sandbox.revision) {
            revision.roster.all.remove(&id);
            revision.roster.count(&sandbox, false);
        }
        Some(sandbox)
    }
}
