//! The life of a sandbox: what its events mean for it, and for those who wait.

use protocol::{InvocationId, SandboxId};

use super::{Brain, Turn};
use crate::deadlines::Due;
use crate::policy::SETTLES_WITHIN;
use crate::sandbox::{Phase, Sandbox};
use crate::{Action, Origin, StartId, Why};

impl Brain {
    pub(super) fn started(&mut self, start: StartId, id: SandboxId) {
        let Some(name) = self.starts.remove(&start) else { return };
        let Some(function) = self.functions.get_mut(&name) else { return };
        function.starting -= 1;
        function.sandboxes.insert(id);
        self.sandboxes.insert(id, Sandbox::new(id, name));
    }

    pub(super) fn start_failed(&mut self, turn: &mut Turn, start: StartId) {
        let Some(name) = self.starts.remove(&start) else { return };
        if let Some(function) = self.functions.get_mut(&name) {
            function.starting -= 1;
        }
        self.blame_first(turn, &name);
        self.serve(turn, &name);
    }

    pub(super) fn ready(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        if matches!(sandbox.phase, Phase::Starting | Phase::Settling | Phase::Busy(None)) {
            self.rest(turn, id);
        }
    }

    pub(super) fn init_failed(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        if sandbox.phase != Phase::Starting {
            return;
        }
        let name = sandbox.function.clone();
        self.leave(turn, id, None);
        self.blame_first(turn, &name);
        self.serve(turn, &name);
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
        let name = sandbox.function.clone();
        self.serve(turn, &name);
    }

    pub(super) fn not_taken(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let Phase::Busy(Some(invocation)) = sandbox.phase.clone() else { return };
        let name = sandbox.function.clone();
        self.leave(turn, id, None);
        if let Some(function) = self.functions.get_mut(&name) {
            function.queue.push_front(invocation.clone()); // It was the first, and is again.
            self.deadlines.set(Due::Waiting(invocation.clone()), turn.now, function.plan.queue_wait);
            self.waiting.insert(invocation, name.clone());
        }
        self.serve(turn, &name);
    }

    /// It runs and has nothing to do: it takes the first that waits, or idles.
    fn rest(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let Some(function) = self.functions.get(&sandbox.function) else { return };
        sandbox.phase = Phase::Warm;
        let after = self.policy.sleeps_after(&function.plan, sandbox.left_warm);
        self.deadlines.set(Due::Sandbox(id), turn.now, after);
        let name = sandbox.function.clone();
        self.serve(turn, &name);
    }

    pub(super) fn slept(&mut self, turn: &mut Turn, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let Phase::Freezing { by_hand } = sandbox.phase else { return };
        sandbox.phase = Phase::Dedup { by_hand };
        sandbox.left_warm = 0;
        if let (false, Some(function)) = (by_hand, self.functions.get(&sandbox.function)) {
            let after = self.policy.purges_after(&function.plan);
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
        if let Some(function) = self.functions.get_mut(&sandbox.function) {
            function.sandboxes.remove(&id);
        }
        match sandbox.phase {
            Phase::Busy(Some(invocation)) | Phase::Leaving(Some(invocation)) => {
                turn.reject(invocation, Why::Died);
            }
            Phase::Starting => self.blame_first(turn, &sandbox.function),
            _ => {}
        }
        self.serve(turn, &sandbox.function);
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
