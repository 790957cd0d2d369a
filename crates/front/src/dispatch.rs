//! The one task that owns the brain. Everything that happens reaches it as a message; it tells the brain, and
//! has the actions done elsewhere: it never waits for anything itself.

mod actor;
mod operator;

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use brain::{FunctionPlan, Provisioned, StartId};
use bytes::Bytes;
use node::{CheckError, Exit, SleepError, WakeError};
use protocol::{CheckRecord, FunctionName, InvocationId, RevisionId, SandboxId, SleepRecord, WakeRecord};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Span;

pub(crate) use actor::{Launched, Setup};
pub(crate) use operator::{Done, OperateError, Verb};

use crate::catalogue::{LiveCatalogue, Revision};
use crate::invoke::random_share;
use crate::log::{TailSlot, log_ended};
use crate::metrics::{Ending, Metrics};
use crate::outcome::{Fault, Outcome};
use crate::runtime_api::RuntimeEvent;
use crate::stream::Reply;

/// Messages that may wait for the actor, which handles one in microseconds. Senders wait when it is full, and
/// none of them is waited for by the actor.
const MESSAGES_MAX: usize = 1024;

/// So many revisions may be removed from under one invocation before it fails; each removal is a call of a client.
pub(crate) const REMOVALS_MAX: usize = 16;

/// One invocation, as the door passes it on.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) invocation: InvocationId,
    /// Who is to answer; at the end, who was given it last.
    pub(crate) revision: Arc<Revision>,
    /// The version or alias that the client named.
    pub(crate) qualifier: Option<String>,
    pub(crate) payload: Bytes,
    pub(crate) trace_id: String,
    pub(crate) client_context: Option<HeaderValue>,
    pub(crate) cognito_identity: Option<HeaderValue>,
    /// Where the end of the log goes, if the client wants it.
    pub(crate) tail: Option<TailSlot>,
    /// What is logged of it.
    pub(crate) span: Span,
}

impl Request {
    /// What the client invoked, in Amazon's terms.
    fn arn(&self, region: &str) -> String {
        let arn = arn(region, &self.revision.function.name);
        match &self.qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }
    }
}

/// How an invocation ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// Whose sandbox it was, if it got one; else whose it would have been.
    pub(crate) revision: Arc<Revision>,
}

/// What the actor hears.
pub(crate) enum Message {
    Invoke { request: Request, since: Instant, reply: oneshot::Sender<Reply> },
    SetRevision { revision: Arc<Revision> },
    Retire { revision: RevisionId, successor: Option<RevisionId> },
    SetReserved { function: FunctionName, reserved: Option<usize> },
    Provision { revision: RevisionId, wanted: usize },
    Provisioned { revision: RevisionId, reply: oneshot::Sender<Option<Provisioned>> },
    Launched { start: StartId, result: Result<Launched, Fault> },
    Runtime { sandbox: SandboxId, event: RuntimeEvent },
    Slept { sandbox: SandboxId, result: Result<SleepRecord, SleepError> },
    Woke { sandbox: SandboxId, result: Result<Option<WakeRecord>, WakeError> },
    Checked { sandbox: SandboxId, result: Result<CheckRecord, CheckError> },
    Exited { sandbox: SandboxId, exit: Exit },
    Operate { sandbox: SandboxId, verb: Verb, reply: oneshot::Sender<Result<Done, OperateError>> },
    Count { reply: oneshot::Sender<Vec<Count>> },
    Shutdown { reply: oneshot::Sender<()> },
}

/// What is there now, of one function.
pub(crate) struct Count {
    pub(crate) function: FunctionName,
    pub(crate) queued: usize,
    pub(crate) sandboxes: usize,
}

/// A handle to the actor.
#[derive(Clone)]
pub(crate) struct Dispatch {
    messages: mpsc::Sender<Message>,
    metrics: Metrics,
}

impl Dispatch {
    /// Starts the actor. It ends after `shutdown`.
    pub(crate) fn start(setup: Setup) -> Dispatch {
        let (messages, inbox) = mpsc::channel(MESSAGES_MAX);
        let metrics = setup.metrics.clone();
        tokio::spawn(actor::run(setup, messages.clone(), inbox));
        Dispatch { messages, metrics }
    }

    /// One that hears nothing, ever: who tells it something waits.
    #[cfg(test)]
    pub(crate) fn stalled() -> Dispatch {
        let (messages, inbox) = mpsc::channel(1);
        let (reply, _) = oneshot::channel();
        messages.try_send(Message::Shutdown { reply }).unwrap();
        std::mem::forget(inbox); // Open, though nobody reads.
        Dispatch { messages, metrics: Metrics::new() }
    }

    /// Has a revision answer, or whoever has succeeded it; piece by piece if the function likes.
    async fn begin(&self, request: Request, since: Instant) -> Reply {
        let revision = Arc::clone(&request.revision);
        let outcome = || Outcome::ServiceError { message: "the server is shutting down".to_owned() };
        let asked = self.ask(|reply| Message::Invoke { request, since, reply }).await;
        asked.unwrap_or_else(|| Reply::Whole(Ended { outcome: outcome(), revision }))
    }

    /// The same for whoever named an alias or a version: is the revision removed while the request is on its way or
    /// waits, it goes to whoever answers under that name by then. `Removed` means that nobody does. However often it was
    /// passed on, it is one invocation, and is counted as one.
    pub(crate) async fn begin_as_named(&self, catalogue: &LiveCatalogue, mut request: Request) -> Reply {
        let since = Instant::now();
        let mut removals = 0;
        loop {
            let reply = self.begin(request.clone(), since).await;
            let Reply::Whole(Ended { outcome: Outcome::Removed, .. }) = &reply else { return reply };
            removals += 1;
            let (name, qualifier) = (&request.revision.function.name, request.qualifier.as_deref());
            match catalogue.resolve(name, qualifier, random_share) {
                Some(found) if found.id != request.revision.id && removals < REMOVALS_MAX => {
                    request.revision = found;
                }
                _ => {
                    self.metrics.removed(name, since.elapsed());
                    log_ended(&request.span, &request.revision, Ending::Error, since.elapsed());
                    return reply;
                }
            }
        }
    }

    /// Takes invocations for this revision, from this call on.
    pub(crate) async fn set_revision(&self, revision: Arc<Revision>) {
        self.send(Message::SetRevision { revision }).await;
    }

    /// Invocations for this revision go to its successor from now on; without one they are rejected. Idle sandboxes
    /// of it go, busy ones finish first.
    pub(crate) async fn retire(&self, revision: RevisionId, successor: Option<RevisionId>) {
        self.send(Message::Retire { revision, successor }).await;
    }

    /// Does what the operator wants with one sandbox; returns when it is done.
    pub(crate) async fn operate(&self, sandbox: SandboxId, verb: Verb) -> Result<Done, OperateError> {
        let asked = self.ask(|reply| Message::Operate { sandbox, verb, reply }).await;
        asked.unwrap_or(Err(OperateError::Unknown { sandbox }))
    }

    /// Queue and sandboxes of every function.
    pub(crate) async fn count(&self) -> Vec<Count> {
        self.ask(|reply| Message::Count { reply }).await.unwrap_or_default()
    }

    /// Whether messages are still handled.
    pub(crate) async fn answers(&self) -> bool {
        self.ask(|reply| Message::Count { reply }).await.is_some()
    }

    /// Takes no more invocations and purges every sandbox. Returns when they are gone, or after `wait`.
    pub(crate) async fn shutdown(&self, wait: Duration) {
        let ended = self.ask(|reply| Message::Shutdown { reply });
        if tokio::time::timeout(wait, ended).await.is_err() {
            tracing::warn!("sandboxes are still dying after {wait:?}");
        }
    }

    /// At most so many invocations of this function are under way at once; `None`: as many as the allowance has left.
    pub(crate) async fn set_reserved(&self, function: FunctionName, reserved: Option<usize>) {
        self.send(Message::SetReserved { function, reserved }).await;
    }

    /// Keeps so many sandboxes of this revision ready.
    pub(crate) async fn provision(&self, revision: RevisionId, wanted: usize) {
        self.send(Message::Provision { revision, wanted }).await;
    }

    /// How far that is.
    pub(crate) async fn provisioned(&self, revision: RevisionId) -> Option<Provisioned> {
        self.ask(|reply| Message::Provisioned { revision, reply }).await.flatten()
    }

    /// Fails only when the actor has ended, and with it every revision.
    async fn send(&self, message: Message) {
        drop(self.messages.send(message).await);
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Nobody's: there is one account.
pub(crate) const ACCOUNT: &str = "000000000000";

/// The address of a function in Amazon's terms.
pub(crate) fn arn(region: &str, function: &FunctionName) -> String {
    format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{function}")
}

/// What dispatch needs to know of the server's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) region: String,
    pub(crate) init_timeout: Duration,
    /// Invocations of all functions together that have Lambda's limits.
    pub(crate) allowance: usize,
    /// For what a function leaves open.
    pub(crate) function: FunctionPlan,
}
