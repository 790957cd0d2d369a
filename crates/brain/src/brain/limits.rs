//! Lambda's limits: so many invocations of one function at once, over all its versions, and so many of all functions
//! together. An invocation counts from when it is taken until it is over, whether it waits for a start or is served.
//! What is provisioned counts whether it is used or not.

use protocol::{FunctionName, RevisionId};

use super::Brain;
use super::revisions::Revision;
use crate::{Beyond, Why};

/// One function, as long as something is reserved or in use.
#[derive(Debug, Default)]
pub(super) struct Group {
    reserved: Option<usize>,
    used: usize,
}

/// The limits of all functions together.
#[derive(Debug)]
pub(super) struct Allowance {
    concurrency: usize,
    /// Sum of what is reserved for single functions.
    reserved: usize,
    /// In use by functions for which nothing is reserved.
    unreserved_used: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { concurrency: usize::MAX, reserved: 0, unreserved_used: 0 }
    }
}

impl Revision {
    /// What it takes of the limits.
    fn usage(&self) -> usize {
        match self.plan.beyond {
            Beyond::Wait => 0,
            Beyond::Throttle => self.in_flight.max(self.provisioned.wanted),
        }
    }
}

impl Brain {
    /// How many invocations of all functions together may be under way. Without a call there is no limit.
    pub fn set_allowance(&mut self, concurrency: usize) {
        self.allowance.concurrency = concurrency;
    }

    /// Reserves so much of the allowance for one function, which gets no more than that; `None`: it shares what is left
    /// with the others. What runs already goes on.
    pub fn set_reserved(&mut self, function: &FunctionName, reserved: Option<usize>) {
        let group = self.groups.entry(function.clone()).or_default();
        let before = std::mem::replace(&mut group.reserved, reserved);
        self.allowance.reserved = self.allowance.reserved - before.unwrap_or(0) + reserved.unwrap_or(0);
        match (before, reserved) {
            (None, Some(_)) => self.allowance.unreserved_used -= group.used,
            (Some(_), None) => self.allowance.unreserved_used += group.used,
            _ => {}
        }
        self.drop_empty_group(function);
    }

    /// Whether this revision may take one more invocation.
    pub(super) fn admit(&self, id: RevisionId) -> Result<(), Why> {
        let Some(revision) = self.revisions.get(&id) else { return Ok(()) };
        if revision.plan.beyond == Beyond::Wait || revision.in_flight < revision.provisioned.wanted {
            return Ok(()); // Its queue is the limit, or its place is counted already.
        }
        let group = self.groups.get(&revision.function);
        let (reserved, used) = group.map_or((None, 0), |group| (group.reserved, group.used));
        let Allowance { concurrency, reserved: all_reserved, unreserved_used } = self.allowance;
        match reserved {
            Some(limit) if used >= limit => Err(Why::ReservedLimit),
            None if unreserved_used >= concurrency.saturating_sub(all_reserved) => Err(Why::AllowanceLimit),
            _ => Ok(()),
        }
    }

    /// Changes what a revision has in flight, provisioned or planned. Everything that does goes through here: the
    /// limits follow.
    pub(super) fn adjust(&mut self, id: RevisionId, change: impl FnOnce(&mut Revision)) {
        let Some(revision) = self.revisions.get_mut(&id) else { return };
        let before = revision.usage();
        change(revision);
        let after = revision.usage();
        if before == after {
            return;
        }
        if !self.groups.contains_key(&revision.function) {
            self.groups.insert(revision.function.clone(), Group::default());
        }
        let Some(group) = self.groups.get_mut(&revision.function) else { return };
        group.used = group.used + after - before;
        if group.reserved.is_none() {
            self.allowance.unreserved_used = self.allowance.unreserved_used + after - before;
        }
        if group.used == 0 {
            let function = revision.function.clone();
            self.drop_empty_group(&function);
        }
    }

    /// An invocation of this revision is over.
    pub(super) fn over(&mut self, id: RevisionId) {
        self.adjust(id, |revision| revision.in_flight -= 1);
    }

    fn drop_empty_group(&mut self, function: &FunctionName) {
        if self.groups.get(function).is_some_and(|group| group.reserved.is_none() && group.used == 0) {
            self.groups.remove(function);
        }
    }
}
