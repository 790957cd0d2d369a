//! Revisions come and go while the server runs, and no invocation is lost over it.

use std::collections::VecDeque;

use protocol::{FunctionName, InvocationId, RevisionId, SandboxId};

use super::provision::Provision;
use super::roster::Roster;
use super::{Brain, Turn};
use crate::deadlines::Due;
use crate::sandbox::Phase;
use crate::{Demand, FunctionPlan, Why};

/// Retired revisions whose successor is remembered: an invocation may have been on its way to one. That way takes
/// milliseconds.
const RETIRED_MAX: usize = 1024;

/// What sandboxes are made of, and who waits for one.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) function: FunctionName,
    pub(super) plan: FunctionPlan,
    /// Starts that have no sandbox yet.
    pub(super) starting: usize,
    pub(super) roster: Roster,
    pub(super) queue: VecDeque<InvocationId>,
    /// Invocations that wait or are served.
    pub(super) in_flight: usize,
    pub(super) provisioned: Provision,
    /// It is kept until its last sandbox is gone.
    pub(super) is_retired: bool,
}

impl Revision {
    fn new(function: FunctionName, plan: FunctionPlan) -> Self {
        Self {
            function,
            plan,
            starting: 0,
            roster: Roster::default(),
            queue: VecDeque::new(),
            in_flight: 0,
            provisioned: Provision::default(),
            is_retired: false,
        }
    }

    /// Sandboxes that exist or are being started.
    pub(super) fn alive(&self) -> usize {
        self.starting + self.roster.len()
    }

    pub(super) fn demand(&self) -> Demand {
        let coming = self.starting + self.roster.coming;
        Demand { waiting: self.queue.len(), coming, alive: self.alive() }
    }
}

impl Brain {
    /// Adds a revision of a function, or changes its plan; sandboxes that idle already keep the deadline they have.
    /// One that has retired stays so.
    pub fn set_revision(&mut self, id: RevisionId, function: FunctionName, plan: FunctionPlan) {
        if self.revisions.contains_key(&id) {
            self.adjust(id, |revision| revision.plan = plan);
        } else if !self.successors.contains_key(&id) {
            self.revisions.insert(id, Revision::new(function, plan));
        }
    }

    pub(super) fn retire(&mut self, turn: &mut Turn, id: RevisionId, successor: Option<RevisionId>) {
        // Only one that lives can succeed: so the way from successor to successor has an end.
        let successor = successor.and_then(|named| self.current(named)).filter(|found| *found != id);
        let Some(revision) = self.revisions.get_mut(&id).filter(|revision| !revision.is_retired) else {
            return;
        };
        revision.is_retired = true;
        let waiting = std::mem::take(&mut revision.queue);
        let sandboxes = revision.roster.ids();
        self.deadlines.clear(&Due::Provision(id));
        self.adjust(id, |revision| {
            revision.provisioned = Provision::default();
            revision.in_flight -= waiting.len();
        });
        self.remember(id, successor);
        match successor {
            Some(successor) => self.hand_over(turn, waiting, successor),
            None => self.reject_all(turn, waiting),
        }
        for sandbox in sandboxes {
            self.leave_if_idle(turn, sandbox);
        }
        self.forget_if_empty(id);
    }

    /// The revision that serves invocations of this one.
    pub(super) fn current(&self, id: RevisionId) -> Option<RevisionId> {
        let mut current = id;
        while let Some(successor) = self.successors.get(&current) {
            current = (*successor)?;
        }
        self.revisions.get(&current).filter(|revision| !revision.is_retired).map(|_| current)
    }

    /// A retired revision goes with its last sandbox.
    pub(super) fn forget_if_empty(&mut self, id: RevisionId) {
        let is_over = |r: &Revision| r.is_retired && r.starting == 0 && r.roster.is_empty();
        if self.revisions.get(&id).is_some_and(is_over) {
            self.revisions.remove(&id);
        }
    }

    fn remember(&mut self, id: RevisionId, successor: Option<RevisionId>) {
        self.successors.insert(id, successor);
        self.retired.push_back(id);
        if self.retired.len() > RETIRED_MAX {
            // The one that retired first, which need not be the one that was made first.
            self.retired.pop_front().map(|oldest| self.successors.remove(&oldest));
        }
    }

    /// They have waited longer than those of the successor, and keep their deadlines.
    fn hand_over(&mut self, turn: &mut Turn, waiting: VecDeque<InvocationId>, successor: RevisionId) {
        for invocation in &waiting {
            self.waiting.insert(invocation.clone(), successor);
        }
        self.adjust(successor, |revision| {
            revision.in_flight += waiting.len();
            waiting.into_iter().rev().for_each(|invocation| revision.queue.push_front(invocation));
        });
        self.serve(turn, successor);
    }

    fn reject_all(&mut self, turn: &mut Turn, waiting: VecDeque<InvocationId>) {
        for invocation in waiting {
            self.waiting.remove(&invocation);
            self.deadlines.clear(&Due::Waiting(invocation.clone()));
            turn.reject(invocation, Why::UnknownRevision);
        }
    }

    /// Those that serve, or are being checked, go when they next rest.
    fn leave_if_idle(&mut self, turn: &mut Turn, id: SandboxId) {
        let stays = |phase: &Phase| {
            matches!(phase, Phase::Busy(_) | Phase::Settling | Phase::Checking | Phase::Leaving(_))
        };
        if self.sandboxes.get(&id).is_some_and(|sandbox| !stays(&sandbox.phase)) {
            self.leave(turn, id, None);
        }
    }
}
