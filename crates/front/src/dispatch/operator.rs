//! What an operator wants of one sandbox, and who waits for it.

use std::sync::Arc;

use protocol::{CheckRecord, SandboxId, State};
use tokio::sync::oneshot;

use crate::hands::SandboxHands;

/// What can be done by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Sleep,
    Wake,
    Check,
    Purge,
}

impl Verb {
    /// Whether a sandbox in this state is where the operator wants it.
    fn is_done_in(self, state: State) -> bool {
        match self {
            Verb::Sleep => state == State::Dedup,
            Verb::Wake => matches!(state, State::Warm | State::Busy),
            Verb::Check | Verb::Purge => false,
        }
    }
}

/// It is done.
pub(crate) struct Done {
    pub(crate) sandbox: Arc<dyn SandboxHands>,
    pub(crate) check: Option<CheckRecord>,
}

/// It is not done; each variant is another HTTP status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperateError {
    #[error("there is no sandbox {sandbox}")]
    Unknown { sandbox: SandboxId },
    #[error("sandbox {sandbox} is {state}")]
    Refused { sandbox: SandboxId, state: State },
    #[error("{why}")]
    Failed { why: String },
    #[error("too many commands wait for sandbox {sandbox}")]
    Busy { sandbox: SandboxId },
}

/// Commands that may wait for one sandbox: people and scripts, not traffic.
const WAITERS_MAX: usize = 16;

type Reply = oneshot::Sender<Result<Done, OperateError>>;

/// Those who wait for one sandbox.
#[derive(Default)]
pub(super) struct Waiters(Vec<(Verb, Reply)>);

impl Waiters {
    /// Notes that somebody waits.
    pub(super) fn push(&mut self, sandbox: SandboxId, verb: Verb, reply: Reply) {
        if self.0.len() < WAITERS_MAX {
            self.0.push((verb, reply));
        } else {
            answer(reply, Err(OperateError::Busy { sandbox }));
        }
    }

    /// The brain will not: the command that was just noted is done already, or cannot be.
    pub(super) fn refuse(&mut self, sandbox: &Arc<dyn SandboxHands>, state: State) {
        if let Some((verb, reply)) = self.0.pop() {
            answer(
                reply,
                if verb.is_done_in(state) {
                    Ok(Done { sandbox: Arc::clone(sandbox), check: None })
                } else {
                    Err(OperateError::Refused { sandbox: sandbox.id(), state })
                },
            );
        }
    }

    /// What `verb` waited for has ended.
    pub(super) fn end(
        &mut self,
        verb: Verb,
        sandbox: &Arc<dyn SandboxHands>,
        result: Result<Option<CheckRecord>, String>,
    ) {
        for (_, reply) in self.0.extract_if(.., |(waits_for, _)| *waits_for == verb) {
            let done = |check| Done { sandbox: Arc::clone(sandbox), check };
            answer(reply, result.clone().map(done).map_err(|why| OperateError::Failed { why }));
        }
    }

    /// The sandbox is dead: good news for those who wanted just that.
    pub(super) fn end_all(&mut self, sandbox: &Arc<dyn SandboxHands>) {
        self.end(Verb::Purge, sandbox, Ok(None));
        for verb in [Verb::Sleep, Verb::Wake, Verb::Check] {
            self.end(verb, sandbox, Err("the sandbox is gone".to_owned()));
        }
    }
}

/// An operator who has gone away needs no answer.
fn answer(reply: Reply, result: Result<Done, OperateError>) {
    drop(reply.send(result));
}
