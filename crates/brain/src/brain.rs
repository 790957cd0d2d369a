//! The books: revisions, their sandboxes, and the invocations that wait. One event in, actions out.
//!
//! An invocation is not tied to the sandbox that is started or woken for it: all of a revision's invocations
//! stand in one queue, and each sandbox that becomes ready takes the first. So a death on the way costs nobody.

mod life;
mod operator;
mod revisions;

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::{FunctionName, InvocationId, RevisionId, SandboxId, State};

use crate::deadlines::{Deadlines, Due};
use crate::sandbox::{Phase, Sandbox};
use crate::{Action, Demand, Event, Origin, Policy, StartId, Why};

use revisions::Revision;

/// Decides for all revisions of one node.
#[derive(Debug, Default)]
pub struct Brain {
    policy: Policy,
    revisions: BTreeMap<RevisionId, Revision>,
    /// Who stands in for a revision that has retired.
    successors: BTreeMap<RevisionId, Option<RevisionId>>,
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    starts: BTreeMap<StartId, RevisionId>,
    /// The revision of each invocation that waits.
    waiting: BTreeMap<InvocationId, RevisionId>,
    deadlines: Deadlines,
    last_start: u64,
    last_used: u64,
}

/// One call of `handle`: when it is, and what came of it so far.
struct Turn {
    now: Duration,
    actions: Vec<Action>,
}

impl Brain {
    /// A brain that knows no revision yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Takes note of `event` at `now` (time since any fixed moment, never running backwards) and says what is
    /// to be done. Call it with `Event::Tick` when `next_deadline` has come.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut turn = Turn { now, actions: Vec::new() };
        self.apply(&mut turn, event);
        self.fire_due(&mut turn);
        turn.actions
    }

    /// When to call again, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// Where the sandbox stands, as far as the brain knows; `None`: unknown, or dead.
    pub fn state(&self, sandbox: SandboxId) -> Option<State> {
        self.sandboxes.get(&sandbox).map(Sandbox::state)
    }

    /// Invocations of this function that wait, whichever revision for.
    pub fn queue_len(&self, function: &FunctionName) -> usize {
        self.revisions_of(function).map(|revision| revision.queue.len()).sum()
    }

    /// Sandboxes of this function that exist or are being started, those of retired revisions included.
    pub fn alive(&self, function: &FunctionName) -> usize {
        self.revisions_of(function).map(|revision| revision.starting + revision.sandboxes.len()).sum()
    }

    fn revisions_of(&self, function: &FunctionName) -> impl Iterator<Item = &Revision> {
        self.revisions.values().filter(move |revision| revision.function == *function)
    }

    fn apply(&mut self, turn: &mut Turn, event: Event) {
        match event {
            Event::Invoke { invocation, revision } => self.invoke(turn, invocation, revision),
            Event::Retire { revision, successor } => self.retire(turn, revision, successor),
            Event::Started { start, sandbox } => self.started(turn, start, sandbox),
            Event::StartFailed { start } => self.start_failed(turn, start),
            Event::Ready { sandbox } => self.ready(turn, sandbox),
            Event::Snapshot { sandbox } => self.snapshot(turn, sandbox),
            Event::Prepare { revision } => self.prepare(turn, revision),
            Event::InitFailed { sandbox } => self.init_failed(turn, sandbox),
            Event::Answered { sandbox } => self.answered(turn, sandbox),
            Event::NotTaken { sandbox } => self.not_taken(turn, sandbox),
            Event::Slept { sandbox } => self.slept(turn, sandbox),
            Event::LeftWarm { sandbox } => self.left_warm(turn, sandbox),
            Event::Woke { sandbox, restored } => self.woke(turn, sandbox, restored),
            Event::Checked { sandbox } => self.checked(turn, sandbox),
            Event::Gone { sandbox } => self.gone(turn, sandbox),
            Event::Sleep { sandbox } => self.sleep_by_hand(turn, sandbox),
            Event::Wake { sandbox } => self.wake_by_hand(turn, sandbox),
            Event::Check { sandbox } => self.check_by_hand(turn, sandbox),
            Event::Purge { sandbox } => self.purge_by_hand(turn, sandbox),
            Event::Tick => {}
        }
    }

    fn fire_due(&mut self, turn: &mut Turn) {
        while let Some(due) = self.deadlines.pop(turn.now) {
            match due {
                Due::Waiting(invocation) => {
                    self.unqueue(&invocation);
                    turn.reject(invocation, Why::QueuedTooLong);
                }
                Due::Sandbox(id) => match self.sandboxes.get(&id).map(|s| &s.phase) {
                    Some(Phase::Warm) => self.sleep(turn, id, false),
                    Some(Phase::Dedup { .. }) => self.leave(turn, id, None),
                    Some(Phase::Settling) => self.does_not_settle(turn, id),
                    _ => {}
                },
            }
        }
    }
}

/// Invocations, and the sandboxes they call for.
impl Brain {
    fn invoke(&mut self, turn: &mut Turn, invocation: InvocationId, asked: RevisionId) {
        let current = self.current(asked);
        let Some((id, revision)) = current.and_then(|id| Some((id, self.revisions.get_mut(&id)?))) else {
            return turn.reject(invocation, Why::UnknownRevision);
        };
        let queue_len = revision.plan.queue_len;
        revision.queue.push_back(invocation.clone());
        self.deadlines.set(Due::Waiting(invocation.clone()), turn.now, revision.plan.queue_wait);
        self.waiting.insert(invocation.clone(), id);
        self.serve(turn, id);

        let demand = self.demand(id);
        let nothing_comes_for = demand.waiting.saturating_sub(demand.coming);
        if nothing_comes_for > queue_len && self.waiting.contains_key(&invocation) {
            self.unqueue(&invocation); // The newest goes: those before it were promised a place.
            turn.reject(invocation, Why::QueueFull);
        }
    }

    /// Gives waiting invocations to warm sandboxes, and calls for sandboxes as long as more wait than come.
    fn serve(&mut self, turn: &mut Turn, id: RevisionId) {
        while self.revisions.get(&id).is_some_and(|revision| !revision.queue.is_empty()) {
            let Some(sandbox) = self.last_used(id, |phase| *phase == Phase::Warm) else { break };
            self.assign(turn, id, sandbox);
        }
        loop {
            let demand = self.demand(id);
            if demand.waiting <= demand.coming {
                break;
            }
            let idle = self
                .last_used(id, |phase| matches!(phase, Phase::Dedup { .. }))
                .or_else(|| self.last_used(id, |phase| matches!(phase, Phase::Freezing { .. })));
            if let Some(sandbox) = idle {
                self.wake(turn, sandbox);
            } else if !self.start(turn, id, demand) {
                break;
            }
        }
    }

    fn assign(&mut self, turn: &mut Turn, revision: RevisionId, id: SandboxId) {
        let Some(revision) = self.revisions.get_mut(&revision) else { return };
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let Some(invocation) = revision.queue.pop_front() else { return };
        self.waiting.remove(&invocation);
        self.deadlines.clear(&Due::Waiting(invocation.clone()));
        self.deadlines.clear(&Due::Sandbox(id));
        self.last_used += 1;
        sandbox.used = self.last_used;
        sandbox.phase = Phase::Busy(Some(invocation.clone()));
        let origin = std::mem::replace(&mut sandbox.origin, Origin::Warm);
        turn.actions.push(Action::Assign { invocation, sandbox: id, origin });
    }

    fn start(&mut self, turn: &mut Turn, id: RevisionId, demand: Demand) -> bool {
        let Some(revision) = self.revisions.get_mut(&id) else { return false };
        if !self.policy.starts(&revision.plan, demand) {
            return false;
        }
        revision.starting += 1;
        self.last_start += 1;
        let start = StartId(self.last_start);
        self.starts.insert(start, id);
        turn.actions.push(Action::Start { start, revision: id });
        true
    }

    /// The sandbox of this revision in such a phase that was used last.
    fn last_used(&self, id: RevisionId, fits: impl Fn(&Phase) -> bool) -> Option<SandboxId> {
        let ids = self.revisions.get(&id)?.sandboxes.iter();
        let sandboxes = ids.filter_map(|id| self.sandboxes.get(id));
        sandboxes.filter(|s| fits(&s.phase)).max_by_key(|s| (s.used, s.id)).map(|s| s.id)
    }

    fn demand(&self, id: RevisionId) -> Demand {
        let Some(revision) = self.revisions.get(&id) else {
            return Demand { waiting: 0, coming: 0, alive: 0 };
        };
        let sandboxes = revision.sandboxes.iter().filter_map(|id| self.sandboxes.get(id));
        Demand {
            waiting: revision.queue.len(),
            coming: revision.starting + sandboxes.filter(|s| s.is_coming()).count(),
            alive: revision.starting + revision.sandboxes.len(),
        }
    }

    fn unqueue(&mut self, invocation: &InvocationId) {
        self.deadlines.clear(&Due::Waiting(invocation.clone()));
        let Some(id) = self.waiting.remove(invocation) else { return };
        if let Some(revision) = self.revisions.get_mut(&id) {
            revision.queue.retain(|waiting| waiting != invocation);
        }
    }

    /// A start failed: the first that waits is told so, whether or not it was the one that caused the start.
    /// Each failure costs one invocation, so a revision that cannot start is not started in a loop.
    fn blame_first(&mut self, turn: &mut Turn, id: RevisionId) {
        let first = self.revisions.get(&id).and_then(|revision| revision.queue.front().cloned());
        if let Some(invocation) = first {
            self.unqueue(&invocation);
            turn.reject(invocation, Why::StartFailed);
        }
    }
}

impl Turn {
    fn reject(&mut self, invocation: InvocationId, why: Why) {
        self.actions.push(Action::Reject { invocation, why });
    }
}
