//! The life of a sandbox: what its events mean for it, and for those who wait.

use std::collections::VecDeque;

use protocol::{InvocationId, RevisionId, SandboxId};

use super::{Brain, Turn};
use crate::deadlines::Due;
use crate::policy::SETTLES_WITHIN;
use crate::sandbox::{Phase, Sandbox};
use crate::{Action, Origin, StartId, Why};

impl Brain {
    pub(super) fn started(&mut self, turn: &mut Turn, start: StartId, id: SandboxId) {
        let Some(of) = self.starts.remove(&start) else { return };
        let Some(revision) = self.revisions.get_mut(&of) else { return };
        revision.starting -= 1;
        let is_late = revision.is_retired;
        self.enrol(Sandbox::new(id, of));
        if is_late {
            self.leave(turn, id, None); // Its revision retired while it was being launched.
        }
    }

    pub(super) fn start_failed(&mut self, turn: &mut Turn, start: StartId) {
        let Some(of) = self.starts.remove(&start) else { return };
        if let Some(revision) = self.revisions.get_mut(&of) {
            revision.starting -= 1;
        }
        self.blame_first(turn, of);
        self.serve(turn, of);
        self.forget_if_empty(of);
    }

    pub(super) fn ready(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        if matches!(sandbox.phase, Phase::Starting | Phase::Settling | Phase::Busy(None)) {
            self.rest(turn, id);
        }
    }

    /// Like one that is ready; but its memory is at its smallest now, and how long it may stay warm does not count.
    pub(super) fn snapshot(&mut self, turn: &mut Turn, id: SandboxId) {
        self.ready(turn, id);
        if self.sandboxes.get(&id).is_some_and(|sandbox| sandbox.phase == Phase::Warm) {
            self.sleep(turn, id, false);
        }
    }

    /// Nobody waits for it.
    pub(super) fn prepare(&mut self, turn: &mut Turn, id: RevisionId) {
        let is_bare = |revision: &super::Revision| !revision.is_retired && revision.alive() == 0;
        if self.revisions.get(&id).is_some_and(is_bare) {
            self.launch(turn, id);
        }
    }

    pub(super) fn init_failed(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        if sandbox.phase != Phase::Starting {
            return;
        }
        let of = sandbox.revision;
        self.leave(turn, id, None);
        self.blame_first(turn, of);
        self.serve(turn, of);
    }

    pub(super) fn answered(&mut self, turn: &Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        let Phase::Busy(serving) = &sandbox.phase else { return };
        let (of, was_serving) = (sandbox.revision, serving.is_some());
        self.alter(id, |sandbox| sandbox.phase = Phase::Settling);
        self.deadlines.set(Due::Sandbox(id), turn.now, SETTLES_WITHIN);
        if was_serving {
            self.over(of);
            self.no_more_setbacks(of);
        }
    }

    /// Nobody is to wait for it any longer.
    pub(super) fn does_not_settle(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(of) = self.sandboxes.get(&id).map(|sandbox| sandbox.revision) else { return };
        self.alter(id, |sandbox| sandbox.phase = Phase::Busy(None));
        self.serve(turn, of);
    }

    pub(super) fn not_taken(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        let Phase::Busy(Some(invocation)) = sandbox.phase.clone() else { return };
        let of = sandbox.revision;
        self.leave(turn, id, None);
        let Some(current) = self.current(of) else {
            self.over(of);
            return turn.reject(invocation, Why::UnknownRevision);
        };
        if current != of {
            self.over(of);
            self.adjust(current, |revision| revision.in_flight += 1);
        }
        self.wait(turn, invocation, current, VecDeque::push_front); // It was the first, and is again.
        self.serve(turn, current);
    }

    /// It runs and has nothing to do: it takes the first that waits, or idles. If its revision has retired, it goes.
    fn rest(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        let of = sandbox.revision;
        let Some(revision) = self.revisions.get(&of) else { return };
        if revision.is_retired {
            return self.leave(turn, id, None);
        }
        let after = self.policy.sleeps_after(&revision.plan, sandbox.left_warm);
        self.deadlines.set(Due::Sandbox(id), turn.now, after);
        self.alter(id, |sandbox| sandbox.phase = Phase::Warm);
        self.serve(turn, of);
    }

    pub(super) fn slept(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        let Phase::Freezing { by_hand } = sandbox.phase else { return };
        if let (false, Some(revision)) = (by_hand, self.revisions.get(&sandbox.revision)) {
            let after = self.policy.purges_after(&revision.plan);
            self.deadlines.set(Due::Sandbox(id), turn.now, after);
        }
        self.alter(id, |sandbox| {
            sandbox.phase = Phase::Dedup { by_hand };
            sandbox.left_warm = 0;
        });
    }

    pub(super) fn left_warm(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        if matches!(sandbox.phase, Phase::Freezing { .. }) {
            sandbox.left_warm = sandbox.left_warm.saturating_add(1);
            self.rest(turn, id);
        }
    }

    pub(super) fn woke(&mut self, turn: &mut Turn, id: SandboxId, restored: bool) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        if sandbox.phase == Phase::Waking {
            if restored {
                sandbox.origin = Origin::Dedup;
            }
            self.rest(turn, id);
        }
    }

    pub(super) fn checked(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        if sandbox.phase == Phase::Checking {
            self.rest(turn, id);
        }
    }

    pub(super) fn gone(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.strike(id) else { return };
        self.deadlines.clear(&Due::Sandbox(id));
        let of = sandbox.revision;
        match &sandbox.phase {
            Phase::Starting => self.blame_first(turn, of),
            Phase::Leaving(_) => {} // We killed it.
            _ => self.set_back(turn, of),
        }
        if let Phase::Busy(Some(invocation)) | Phase::Leaving(Some(invocation)) = sandbox.phase {
            self.over(of);
            turn.reject(invocation, Why::Died);
        }
        self.serve(turn, of);
        self.forget_if_empty(of);
    }

    pub(super) fn sleep(&mut self, turn: &mut Turn, id: SandboxId, by_hand: bool) {
        self.send(id, Phase::Freezing { by_hand });
        turn.actions.push(Action::Sleep { sandbox: id });
    }

    pub(super) fn wake(&mut self, turn: &mut Turn, id: SandboxId) {
        self.send(id, Phase::Waking);
        turn.actions.push(Action::Wake { sandbox: id });
    }

    pub(super) fn leave(&mut self, turn: &mut Turn, id: SandboxId, serving: Option<InvocationId>) {
        self.send(id, Phase::Leaving(serving));
        turn.actions.push(Action::Purge { sandbox: id });
    }

    /// It is on its way there; what was due of it is not any more.
    pub(super) fn send(&mut self, id: SandboxId, phase: Phase) {
        self.deadlines.clear(&Due::Sandbox(id));
        self.alter(id, |sandbox| sandbox.phase = phase);
    }
}
