//! The books: revisions, their sandboxes, and the invocations that wait. One event in, actions out.
//!
//! An invocation is not tied to the sandbox that is started or woken for it: all of a revision's invocations
//! stand in one queue, and each sandbox that becomes ready takes the first. So a death on the way costs nobody.

mod life;
mod limits;
mod operator;
mod provision;
mod revisions;
mod roster;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use protocol::{FunctionName, InvocationId, RevisionId, SandboxId, State};

use crate::deadlines::{Deadlines, Due};
use crate::sandbox::{Phase, Sandbox};
use crate::{Action, Beyond, Demand, Event, Origin, Policy, StartId, Why};

use limits::{Allowance, Group};
pub use provision::Provisioned;
use revisions::Revision;

/// Decides for all revisions of one node.
#[derive(Debug, Default)]
pub struct Brain {
    policy: Policy,
    revisions: BTreeMap<RevisionId, Revision>,
    /// Who stands in for a revision that has retired.
    successors: BTreeMap<RevisionId, Option<RevisionId>>,
    /// The same revisions, in the order in which they retired.
    retired: VecDeque<RevisionId>,
    groups: BTreeMap<FunctionName, Group>,
    allowance: Allowance,
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
        self.revisions_of(function).map(|revision| revision.alive()).sum()
    }

    fn revisions_of(&self, function: &FunctionName) -> impl Iterator<Item = &Revision> {
        self.revisions.values().filter(move |revision| revision.function == *function)
    }

    fn apply(&mut self, turn: &mut Turn, event: Event) {
        match event {
            Event::Invoke { invocation, revision } => self.invoke(turn, invocation, revision),
            Event::Retire { revision, successor } => self.retire(turn, revision, successor),
            Event::Provision { revision, wanted } => self.provision(turn, revision, wanted),
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
                Due::Waiting(invocation) => self.refuse_waiting(turn, invocation, Why::QueuedTooLong),
                Due::Provision(revision) => self.resume(turn, revision),
                Due::Sandbox(id) => match self.sandboxes.get(&id).map(|s| &s.phase) {
                    Some(Phase::Warm) if self.is_provisioned(id) => {} // Until it serves, or fewer are wanted.
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
        let Some(id) = self.current(asked) else {
            return turn.reject(invocation, Why::UnknownRevision);
        };
        if let Err(why) = self.admit(id) {
            return turn.reject(invocation, why);
        }
        self.adjust(id, |revision| revision.in_flight += 1);
        self.wait(turn, invocation.clone(), id, VecDeque::push_back);
        self.serve(turn, id);

        let demand = self.demand(id);
        let nothing_comes_for = demand.waiting.saturating_sub(demand.coming);
        if nothing_comes_for > self.queue_len_max(id) && self.waiting.contains_key(&invocation) {
            self.refuse_waiting(turn, invocation, Why::QueueFull); // Those before it were promised a place.
        }
    }

    fn queue_len_max(&self, id: RevisionId) -> usize {
        let plan = self.revisions.get(&id).map(|revision| &revision.plan);
        plan.filter(|plan| plan.beyond == Beyond::Wait).map_or(usize::MAX, |plan| plan.queue_len)
    }

    /// Puts it at one end of the queue.
    fn wait(
        &mut self,
        turn: &Turn,
        invocation: InvocationId,
        id: RevisionId,
        push: fn(&mut VecDeque<InvocationId>, InvocationId),
    ) {
        let Some(revision) = self.revisions.get_mut(&id) else { return };
        self.deadlines.set(Due::Waiting(invocation.clone()), turn.now, revision.plan.queue_wait);
        self.waiting.insert(invocation.clone(), id);
        push(&mut revision.queue, invocation);
    }

    /// Gives waiting invocations to warm sandboxes, and calls for sandboxes as long as more wait than come, or fewer
    /// are there than are to be.
    fn serve(&mut self, turn: &mut Turn, id: RevisionId) {
        while let Some(revision) = self.revisions.get(&id).filter(|revision| !revision.queue.is_empty()) {
            let Some(sandbox) = revision.roster.last_warm() else { break };
            self.assign(turn, id, sandbox);
        }
        while let Some(revision) = self.revisions.get(&id) {
            let demand = revision.demand();
            if demand.waiting <= demand.coming {
                break;
            }
            if let Some(sandbox) = revision.roster.last_asleep() {
                self.wake(turn, sandbox);
            } else if self.policy.starts(&revision.plan, demand) {
                self.launch(turn, id);
            } else {
                break;
            }
        }
        self.provide(turn, id);
    }

    fn assign(&mut self, turn: &mut Turn, revision: RevisionId, id: SandboxId) {
        let Some(revision) = self.revisions.get_mut(&revision) else { return };
        let Some(invocation) = revision.queue.pop_front() else { return };
        self.waiting.remove(&invocation);
        self.deadlines.clear(&Due::Waiting(invocation.clone()));
        self.deadlines.clear(&Due::Sandbox(id));
        self.last_used += 1;
        let (used, mut origin) = (self.last_used, Origin::Warm);
        self.alter(id, |sandbox| {
            sandbox.used = used;
            sandbox.phase = Phase::Busy(Some(invocation.clone()));
            std::mem::swap(&mut sandbox.origin, &mut origin);
        });
        turn.actions.push(Action::Assign { invocation, sandbox: id, origin });
    }

    fn launch(&mut self, turn: &mut Turn, id: RevisionId) {
        let Some(revision) = self.revisions.get_mut(&id) else { return };
        revision.starting += 1;
        self.last_start += 1;
        let start = StartId(self.last_start);
        self.starts.insert(start, id);
        turn.actions.push(Action::Start { start, revision: id });
    }

    fn demand(&self, id: RevisionId) -> Demand {
        let none = Demand { waiting: 0, coming: 0, alive: 0 };
        self.revisions.get(&id).map_or(none, Revision::demand)
    }

    /// One that waits gets no answer.
    fn refuse_waiting(&mut self, turn: &mut Turn, invocation: InvocationId, why: Why) {
        self.deadlines.clear(&Due::Waiting(invocation.clone()));
        let Some(id) = self.waiting.remove(&invocation) else { return };
        if let Some(revision) = self.revisions.get_mut(&id) {
            revision.queue.retain(|waiting| *waiting != invocation);
        }
        self.over(id);
        turn.reject(invocation, why);
    }

    /// A start failed: the first that waits is told so, whether or not it was the one that caused the start.
    /// Each failure costs one invocation, so a revision that cannot start is not started in a loop.
    fn blame_first(&mut self, turn: &mut Turn, id: RevisionId) {
        let first = self.revisions.get(&id).and_then(|revision| revision.queue.front().cloned());
        if let Some(invocation) = first {
            self.refuse_waiting(turn, invocation, Why::StartFailed);
        }
        self.set_back(turn, id);
    }
}

impl Turn {
    fn reject(&mut self, invocation: InvocationId, why: Why) {
        self.actions.push(Action::Reject { invocation, why });
    }
}
