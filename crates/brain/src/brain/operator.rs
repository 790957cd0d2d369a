//! What the operator asks for by hand.

use protocol::SandboxId;

use super::{Brain, Turn};
use crate::Action;
use crate::sandbox::Phase;

impl Brain {
    pub(super) fn sleep_by_hand(&mut self, turn: &mut Turn, id: SandboxId) {
        match self.sandboxes.get(&id).map(|s| &s.phase) {
            Some(Phase::Warm) => self.sleep(turn, id, true),
            Some(Phase::Freezing { .. }) => self.send(id, Phase::Freezing { by_hand: true }), // It is on its way.
            Some(Phase::Dedup { .. }) => {
                self.send(id, Phase::Dedup { by_hand: true }); // It sleeps already; from now on it is kept.
                self.refuse(turn, id);
            }
            _ => self.refuse(turn, id),
        }
    }

    pub(super) fn wake_by_hand(&mut self, turn: &mut Turn, id: SandboxId) {
        match self.sandboxes.get(&id).map(|s| &s.phase) {
            Some(Phase::Dedup { .. } | Phase::Freezing { .. }) => self.wake(turn, id),
            Some(Phase::Waking) => {}
            _ => self.refuse(turn, id),
        }
    }

    pub(super) fn check_by_hand(&mut self, turn: &mut Turn, id: SandboxId) {
        match self.sandboxes.get(&id) {
            Some(sandbox) if sandbox.phase == Phase::Warm => {
                self.send(id, Phase::Checking);
                turn.actions.push(Action::Check { sandbox: id });
            }
            _ => self.refuse(turn, id),
        }
    }

    pub(super) fn purge_by_hand(&mut self, turn: &mut Turn, id: SandboxId) {
        match self.sandboxes.get(&id).map(|s| s.phase.clone()) {
            None => self.refuse(turn, id),
            Some(Phase::Leaving(_)) => {}
            Some(Phase::Busy(serving)) => self.leave(turn, id, serving),
            Some(_) => self.leave(turn, id, None),
        }
        if let Some(revision) = self.sandboxes.get(&id).map(|s| s.revision) {
            self.serve(turn, revision); // Someone may have waited for just this one.
        }
    }

    fn refuse(&self, turn: &mut Turn, sandbox: SandboxId) {
        turn.actions.push(Action::Refuse { sandbox, state: self.state(sandbox) });
    }
}
