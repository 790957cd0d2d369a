//! The life of a sandbox: what its events mean for it, and for those who wait.

use protocol::{InvocationId, RevisionId, SandboxId};

use super::{Brain, Turn};
use crate::deadlines::Due;
use crate::policy::SETTLES_WITHIN;
use crate::sandbox::{Phase, Sandbox};
use crate::{Action, Demand, Origin, StartId, Why};

impl Brain {
    pub(super) fn started(&mut self, turn: &mut Turn, start: StartId, id: SandboxId) {
        let Some(of) = self.starts.remove(&start) else { return };
        let Some(revision) = self.revisions.get_mut(&of) else { return };
        revision.starting -= 1;
        revision.sandboxes.insert(id);
        let is_late = revision.is_retired;
        self.sandboxes.insert(id, Sandbox::new(id, of));
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

    /// As if one invocation waited.
    pub(super) fn prepare(&mut self, turn: &mut Turn, id: RevisionId) {
        let is_bare = |r: &super::Revision| !r.is_retired && r.starting == 0 && r.sandboxes.is_empty();
        if self.revisions.get(&id).is_some_and(is_bare) {
            self.start(turn, id, Demand { waiting: 1, coming: 0, alive: 0 });
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
        if let Some(sandbox) = self.sandboxes.get_mut(&id)
            && matches!(sandbox.phase, Phase::Busy(_))
        {
            sandbox.phase = Phase::Settling;
            self.deadlines.set(Due::Sandbox(id), turn.now, SETTLES_WITHIN);
        }
    }

    /// Nobody is to wait for it any longer.
    pub(super) fn does_not_settle(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        sandbox.phase = Phase::Busy(None);
        let of = sandbox.revision;
        self.serve(turn, of);
    }

    pub(super) fn not_taken(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let Phase::Busy(Some(invocation)) = sandbox.phase.clone() else { return };
        let of = sandbox.revision;
        self.leave(turn, id, None);
        let current = self.current(of);
        let Some((of, revision)) = current.and_then(|of| Some((of, self.revisions.get_mut(&of)?))) else {
            return turn.reject(invocation, Why::UnknownRevision);
        };
        revision.queue.push_front(invocation.clone()); // It was the first, and is again.
        self.deadlines.set(Due::Waiting(invocation.clone()), turn.now, revision.plan.queue_wait);
        self.waiting.insert(invocation, of);
        self.serve(turn, of);
    }

    /// It runs and has nothing to do: it takes the first that waits, or idles. If its revision has retired, it goes.
    fn rest(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let of = sandbox.revision;
        let Some(revision) = self.revisions.get(&of) else { return };
        if revision.is_retired {
            return self.leave(turn, id, None);
        }
        sandbox.phase = Phase::Warm;
        let after = self.policy.sleeps_after(&revision.plan, sandbox.left_warm);
        self.deadlines.set(Due::Sandbox(id), turn.now, after);
        self.serve(turn, of);
    }

    pub(super) fn slept(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let Phase::Freezing { by_hand } = sandbox.phase else { return };
        sandbox.phase = Phase::Dedup { by_hand };
        sandbox.left_warm = 0;
        if let (false, Some(revision)) = (by_hand, self.revisions.get(&sandbox.revision)) {
            let after = self.policy.purges_after(&revision.plan);
            self.deadlines.set(Due::Sandbox(id), turn.now, after);
        }
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
        let Some(sandbox) = self.sandboxes.remove(&id) else { return };
        self.deadlines.clear(&Due::Sandbox(id));
        let of = sandbox.revision;
        if let Some(revision) = self.revisions.get_mut(&of) {
            revision.sandboxes.remove(&id);
        }
        match sandbox.phase {
            Phase::Busy(Some(invocation)) | Phase::Leaving(Some(invocation)) => {
                turn.reject(invocation, Why::Died);
            }
            Phase::Starting => self.blame_first(turn, of),
            _ => {}
        }
        self.serve(turn, of);
        self.forget_if_empty(of);
    }

    pub(super) fn sleep(&mut self, turn: &mut Turn, id: SandboxId, by_hand: bool) {
        self.deadlines.clear(&Due::Sandbox(id));
        if let Some(sandbox) = self.sandboxes.get_mut(&id) {
            sandbox.phase = Phase::Freezing { by_hand };
            turn.actions.push(Action::Sleep { sandbox: id });
        }
    }

    pub(super) fn wake(&mut self, turn: &mut Turn, id: SandboxId) {
        self.deadlines.clear(&Due::Sandbox(id));
        if let Some(sandbox) = self.sandboxes.get_mut(&id) {
            sandbox.phase = Phase::Waking;
            turn.actions.push(Action::Wake { sandbox: id });
        }
    }

    pub(super) fn leave(&mut self, turn: &mut Turn, id: SandboxId, serving: Option<InvocationId>) {
        self.deadlines.clear(&Due::Sandbox(id));
        if let Some(sandbox) = self.sandboxes.get_mut(&id) {
            sandbox.phase = Phase::Leaving(serving);
            turn.actions.push(Action::Purge { sandbox: id });
        }
    }
}
