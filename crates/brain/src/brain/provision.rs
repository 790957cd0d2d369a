//! Sandboxes that are kept ready whether somebody calls or not.

use std::time::Duration;

use protocol::{RevisionId, SandboxId};

use super::{Brain, Turn};
use crate::deadlines::Due;
use crate::sandbox::Phase;

/// The pause after the first setback; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Setbacks in a row from which it counts as failing.
const FAILING_FROM: u32 = 3;

/// What is provisioned of one revision.
#[derive(Debug, Default)]
pub(super) struct Provision {
    pub(super) wanted: usize,
    /// Starts that failed and deaths, in a row.
    setbacks: u32,
    /// Nothing is started for it before the next attempt is due.
    pauses: bool,
    last_setback: Duration,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Sandboxes that were asked for.
    pub wanted: usize,
    /// Of them, ready or serving.
    pub available: usize,
    /// Whether sandboxes failed to start, or died, several times in a row. It is tried on, with pauses.
    pub is_failing: bool,
}

impl Brain {
    /// How far provisioning this revision is; `None`: no such revision.
    pub fn provisioned(&self, id: RevisionId) -> Option<Provisioned> {
        let revision = self.revisions.get(&id).filter(|revision| !revision.is_retired)?;
        let wanted = revision.provisioned.wanted;
        Some(Provisioned {
            wanted,
            available: revision.roster.available.min(wanted),
            is_failing: revision.provisioned.setbacks >= FAILING_FROM,
        })
    }

    pub(super) fn provision(&mut self, turn: &mut Turn, id: RevisionId, wanted: usize) {
        let Some(revision) = self.revisions.get(&id).filter(|revision| !revision.is_retired) else { return };
        let keep_warm = revision.plan.keep_warm;
        for sandbox in revision.roster.warm_ids() {
            self.deadlines.set(Due::Sandbox(sandbox), turn.now, keep_warm); // It may be one too many now.
        }
        self.deadlines.clear(&Due::Provision(id));
        self.adjust(id, |revision| revision.provisioned = Provision { wanted, ..Provision::default() });
        self.provide(turn, id);
    }

    /// Wakes or starts what is missing.
    pub(super) fn provide(&mut self, turn: &mut Turn, id: RevisionId) {
        while let Some(revision) = self.revisions.get(&id) {
            let has = revision.starting + revision.roster.up;
            if revision.provisioned.pauses || has >= revision.provisioned.wanted {
                return;
            }
            if let Some(sandbox) = revision.roster.last_asleep_by_time() {
                self.wake(turn, sandbox);
            } else if revision.alive() < revision.plan.concurrency {
                self.launch(turn, id);
            } else {
                return; // Dying ones are in the way; when they are gone this is looked at again.
            }
        }
    }

    /// Whether this warm sandbox is one of those that never sleep.
    pub(super) fn is_provisioned(&self, id: SandboxId) -> bool {
        let sandbox = self.sandboxes.get(&id).filter(|sandbox| sandbox.phase == Phase::Warm);
        let revision = sandbox.and_then(|sandbox| self.revisions.get(&sandbox.revision));
        revision.is_some_and(|revision| revision.roster.available <= revision.provisioned.wanted)
    }

    /// A start failed, or a sandbox died: the next attempt waits, so that what cannot live is not started in a loop.
    pub(super) fn set_back(&mut self, turn: &Turn, id: RevisionId) {
        let Some(revision) = self.revisions.get_mut(&id) else { return };
        let provision = &mut revision.provisioned;
        if provision.wanted == 0 {
            return;
        }
        if turn.now.saturating_sub(provision.last_setback) > 2 * PAUSE_MAX {
            provision.setbacks = 0; // It went well for a while.
        }
        let pause = PAUSE_MIN.saturating_mul(1 << provision.setbacks.min(16)).min(PAUSE_MAX);
        provision.setbacks += 1;
        provision.last_setback = turn.now;
        provision.pauses = true;
        self.deadlines.set(Due::Provision(id), turn.now, pause);
    }

    /// The pause is over.
    pub(super) fn resume(&mut self, turn: &mut Turn, id: RevisionId) {
        if let Some(revision) = self.revisions.get_mut(&id) {
            revision.provisioned.pauses = false;
        }
        self.provide(turn, id);
    }

    /// It works: it has answered.
    pub(super) fn no_more_setbacks(&mut self, id: RevisionId) {
        if let Some(revision) = self.revisions.get_mut(&id) {
            revision.provisioned.setbacks = 0;
        }
    }
}
