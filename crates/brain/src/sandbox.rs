//! What the brain knows about one sandbox: where it sent it, not what the node has done of that so far.

use protocol::{InvocationId, RevisionId, SandboxId, State};

use crate::Origin;

/// One sandbox, from the launch to its death.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) revision: RevisionId,
    pub(crate) phase: Phase,
    /// What the next invocation will find.
    pub(crate) origin: Origin,
    /// Counts up over all sandboxes: the highest was used last.
    pub(crate) used: u64,
    /// Failed sleeps since the last one that worked.
    pub(crate) left_warm: u32,
}

/// Where it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Launched; not ready yet.
    Starting,
    /// Waits for an invocation.
    Warm,
    /// Serves this invocation; `None` when it has answered, but is long in getting ready again.
    Busy(Option<InvocationId>),
    /// Has just answered: its runtime will ask for the next invocation in a moment.
    Settling,
    /// Told to sleep.
    Freezing { by_hand: bool },
    /// Told to sleep and wake under comparison. Not broken off: the answer would be worthless.
    Checking,
    /// Asleep.
    Dedup { by_hand: bool },
    /// Told to wake.
    Waking,
    /// Told to die; this invocation it was serving.
    Leaving(Option<InvocationId>),
}

impl Sandbox {
    pub(crate) fn new(id: SandboxId, revision: RevisionId) -> Self {
        Self { id, revision, phase: Phase::Starting, origin: Origin::Cold, used: 0, left_warm: 0 }
    }

    /// Whether it will be ready without further doing.
    pub(crate) fn is_coming(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Waking | Phase::Settling)
    }

    /// Whether it counts as provisioned. One that was put to sleep by hand does: that is what the operator wants.
    pub(crate) fn is_up(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Leaving(_) | Phase::Freezing { by_hand: false } | Phase::Dedup { by_hand: false }
        )
    }

    /// Whether it counts as provisioned and has come up.
    pub(crate) fn is_available(&self) -> bool {
        self.is_up() && !matches!(self.phase, Phase::Starting | Phase::Waking)
    }

    /// Where it stands, in the words of the life cycle.
    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Starting => State::Starting,
            Phase::Warm => State::Warm,
            Phase::Busy(_) | Phase::Settling => State::Busy,
            Phase::Freezing { .. } | Phase::Checking => State::Freezing,
            Phase::Dedup { .. } => State::Dedup,
            Phase::Waking => State::Restoring,
            Phase::Leaving(_) => State::Gone,
        }
    }
}
