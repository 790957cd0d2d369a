//! What falls due when. Each thing has one deadline at most; setting another replaces it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::{InvocationId, RevisionId, SandboxId};

/// What falls due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// An idle sandbox changes its state.
    Sandbox(SandboxId),
    /// An invocation has waited long enough.
    Waiting(InvocationId),
    /// Provisioned sandboxes are started again.
    Provision(RevisionId),
}

/// All deadlines, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    by_time: BTreeSet<(Duration, Due)>,
    by_due: BTreeMap<Due, Duration>,
}

impl Deadlines {
    /// `due` falls due `after` from `now`; never, if that is beyond the end of time.
    pub(crate) fn set(&mut self, due: Due, now: Duration, after: Duration) {
        self.clear(&due);
        if let Some(at) = now.checked_add(after) {
            self.by_time.insert((at, due.clone()));
            self.by_due.insert(due, at);
        }
    }

    /// `due` does not fall due any more.
    pub(crate) fn clear(&mut self, due: &Due) {
        if let Some(at) = self.by_due.remove(due) {
            self.by_time.remove(&(at, due.clone()));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest thing that is due at `now`.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        let (_, due) = self.by_time.pop_first()?;
        self.by_due.remove(&due);
        Some(due)
    }
}
