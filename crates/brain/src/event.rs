//! What the brain is told, and what it wants done.

use protocol::{InvocationId, RevisionId, SandboxId, State};

/// One start of a sandbox that has no number yet: the node gives numbers at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StartId(pub u64);

/// What happened. An event that does not fit what the brain knows (a stale result, a dead sandbox) is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client wants an answer from a function.
    Invoke {
        /// Its id, not in use.
        invocation: InvocationId,
        /// From which revision; one that has retired since stands for its successor.
        revision: RevisionId,
    },
    /// This revision takes no more invocations. Those that wait for it go to its successor, or are rejected; its
    /// sandboxes go as soon as they are idle.
    Retire {
        /// Which revision.
        revision: RevisionId,
        /// Who stands in for it; `None`: nobody, the function is gone.
        successor: Option<RevisionId>,
    },
    /// So many sandboxes of this revision are to be ready at any time, called or not.
    Provision {
        /// Which revision.
        revision: RevisionId,
        /// How many; 0: no longer.
        wanted: usize,
    },
    /// A start that was asked for has a process and a number.
    Started {
        /// Which start.
        start: StartId,
        /// Its number.
        sandbox: SandboxId,
    },
    /// A start that was asked for came to nothing.
    StartFailed {
        /// Which start.
        start: StartId,
    },
    /// The sandbox asks for an invocation: its first, or the next one after an answer.
    Ready {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// The sandbox is initialised and waits to be put away as a snapshot: if nobody waits for it, it sleeps at once.
    Snapshot {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// A sandbox of this revision is to be made before anybody asks, if there is none.
    Prepare {
        /// Which revision.
        revision: RevisionId,
    },
    /// The sandbox reported that it cannot initialise, or took too long for it.
    InitFailed {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// The sandbox answered its invocation. It is busy until it is ready again.
    Answered {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// The invocation could not be handed to this sandbox at all; another shall have it.
    NotTaken {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// A sleep ended in sleep.
    Slept {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// A sleep ended without sleep: the sandbox is warm and unharmed.
    LeftWarm {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// A wake ended: the sandbox runs.
    Woke {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Whether memory had to come back; not so if the wake broke off a sleep.
        restored: bool,
    },
    /// A check ended: the sandbox runs.
    Checked {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// The sandbox is dead, whoever killed it.
    Gone {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// The operator wants it asleep. It stays so until an invocation or a wake.
    Sleep {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// The operator wants it awake.
    Wake {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// The operator wants a sleep and a wake with every byte compared.
    Check {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// It is to be killed: by the operator, or because its invocation took too long.
    Purge {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// Nothing but time.
    Tick,
}

/// What is to be done. Each action but `Assign`, `Reject` and `Refuse` is answered by an event when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Launch a sandbox.
    Start {
        /// To be named in the answer.
        start: StartId,
        /// Of which revision.
        revision: RevisionId,
    },
    /// Hand this invocation to this sandbox.
    Assign {
        /// The invocation.
        invocation: InvocationId,
        /// A sandbox that runs and waits for one.
        sandbox: SandboxId,
        /// Where the sandbox came from.
        origin: Origin,
    },
    /// Put it to sleep.
    Sleep {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// Wake it; breaks off a sleep that has begun.
    Wake {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// Check it.
    Check {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// Kill it.
    Purge {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// This invocation gets no answer from a function.
    Reject {
        /// The invocation.
        invocation: InvocationId,
        /// Why not.
        why: Why,
    },
    /// What the operator wants does not fit where the sandbox stands.
    Refuse {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Where it stands; `None`: no such sandbox.
        state: Option<State>,
    },
}

/// What an invocation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A sandbox started for the occasion.
    Cold,
    /// A sandbox that was awake.
    Warm,
    /// A sandbox that slept.
    Dedup,
}

/// Why an invocation was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// There is no such revision, or no longer, and nobody stands in for it.
    UnknownRevision,
    /// Every sandbox is busy, no more may be started, and enough invocations wait already.
    QueueFull,
    /// As many invocations of the function are under way as are reserved for it.
    ReservedLimit,
    /// As many invocations are under way as the allowance has for functions for which nothing is reserved.
    AllowanceLimit,
    /// It waited as long as one may wait.
    QueuedTooLong,
    /// The sandbox that was started for it did not come up.
    StartFailed,
    /// The sandbox died while serving it.
    Died,
}
