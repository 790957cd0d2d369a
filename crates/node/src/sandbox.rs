//! A handle to one sandbox. The work is done by its driver, a thread of its own; these calls tell it what to do.

use protocol::{CheckRecord, SandboxId, SandboxRecord, SleepRecord, State, WakeRecord};

use crate::Exit;

/// One process tree that can sleep. Cloning gives another handle to the same sandbox.
#[derive(Clone)]
pub struct Sandbox {}

/// The sandbox did not fall asleep.
#[derive(Debug, thiserror::Error)]
pub enum SleepError {
    /// A wake came before its memory had left: it is warm and unharmed.
    #[error("interrupted by a wake")]
    Interrupted,
    /// It holds something that cannot be carried through a sleep; it is warm and unharmed.
    #[error("left warm: {why}")]
    LeftWarm {
        /// What, in words for `ps`.
        why: String,
    },
    /// It is not in a state from which it can sleep.
    #[error(transparent)]
    Refused(#[from] protocol::Refused),
    /// It died.
    #[error("the sandbox is gone")]
    Gone,
}

/// The sandbox did not wake.
#[derive(Debug, thiserror::Error)]
pub enum WakeError {
    /// It is not in a state from which it can wake.
    #[error(transparent)]
    Refused(#[from] protocol::Refused),
    /// It died, or its memory could not be rebuilt and it was killed.
    #[error("the sandbox is gone")]
    Gone,
}

/// The check of a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It did not fall asleep.
    #[error(transparent)]
    Sleep(#[from] SleepError),
    /// It did not wake.
    #[error(transparent)]
    Wake(#[from] WakeError),
}

impl Sandbox {
    /// Its number.
    pub fn id(&self) -> SandboxId {
        todo!()
    }

    /// Its first process.
    pub fn pid(&self) -> i32 {
        todo!()
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        todo!()
    }

    /// It asked for its first invocation (`Starting` to `Warm`).
    pub fn mark_ready(&self) -> Result<(), protocol::Refused> {
        todo!()
    }

    /// It gets an invocation (`Warm` to `Busy`).
    pub fn begin_invocation(&self) -> Result<(), protocol::Refused> {
        todo!()
    }

    /// It answered (`Busy` to `Warm`). The first answer after a wake closes the recording of the working set.
    pub fn end_invocation(&self) -> Result<(), protocol::Refused> {
        todo!()
    }

    /// Puts it to sleep. Returns when it sleeps, or stays warm.
    pub async fn sleep(&self) -> Result<SleepRecord, SleepError> {
        todo!()
    }

    /// Wakes it; breaks off a sleep that has begun. `Ok(None)`: it was warm already.
    pub async fn wake(&self) -> Result<Option<WakeRecord>, WakeError> {
        todo!()
    }

    /// Puts it to sleep and wakes it, hashing all its private memory before and after.
    pub async fn check(&self) -> Result<CheckRecord, CheckError> {
        todo!()
    }

    /// Kills the whole tree and removes its cgroup, in the background; `exit` resolves when it is done.
    pub fn purge(&self) {
        todo!()
    }

    /// Resolves when its first process is dead and nothing of the tree is left.
    pub async fn exit(&self) -> Exit {
        todo!()
    }

    /// What it costs and what happened to it. Reads `/proc`: milliseconds, so not from an async task.
    pub fn record(&self) -> SandboxRecord {
        todo!()
    }
}
