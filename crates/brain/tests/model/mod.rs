//! Lambda's limits as one would write them down: everything is counted anew each time.

use std::collections::BTreeMap;

use protocol::{InvocationId, RevisionId};

/// The first function has a queue, the others have Lambda's limits.
pub(crate) fn is_throttled(function: usize) -> bool {
    function > 0
}

/// What is known of limits and of what counts against them.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) allowance: usize,
    /// By function.
    pub(crate) reserved: BTreeMap<usize, usize>,
    pub(crate) provisioned: BTreeMap<RevisionId, usize>,
    /// The function of each revision.
    pub(crate) revisions: BTreeMap<RevisionId, usize>,
    /// The revision of each invocation that is not over.
    pub(crate) open: BTreeMap<InvocationId, RevisionId>,
}

impl Model {
    pub(crate) fn admits(&self, revision: RevisionId) -> bool {
        let function = self.revisions[&revision];
        if !is_throttled(function) || self.in_flight(revision) < self.wanted(revision) {
            return true;
        }
        match self.reserved.get(&function) {
            Some(limit) => self.used(function) < *limit,
            None => {
                let reserved: usize = self.reserved.values().sum();
                let sharing = |f: &usize| is_throttled(*f) && !self.reserved.contains_key(f);
                let functions = self.revisions.values().copied().filter(sharing);
                let functions: std::collections::BTreeSet<_> = functions.collect();
                let used: usize = functions.into_iter().map(|f| self.used(f)).sum();
                used < self.allowance.saturating_sub(reserved)
            }
        }
    }

    pub(crate) fn wanted(&self, revision: RevisionId) -> usize {
        self.provisioned.get(&revision).copied().unwrap_or(0)
    }

    fn in_flight(&self, revision: RevisionId) -> usize {
        self.open.values().filter(|of| **of == revision).count()
    }

    fn used(&self, function: usize) -> usize {
        let revisions = self.revisions.iter().filter(|(_, of)| **of == function);
        revisions.map(|(revision, _)| self.in_flight(*revision).max(self.wanted(*revision))).sum()
    }
}
