//! What the actor does: the brain's actions, each handed to whoever takes its time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use brain::{Action, Event, Origin, StartId, Why};
use protocol::{InvocationId, RevisionId, SandboxId, State};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Span;

use super::super::{Ended, Message, Request};
use super::launching::launch;
use super::timers::Owes;
use super::{Actor, Cause, Held, Open};
use crate::catalogue::Revision;
use crate::hands::SandboxHands;
use crate::log::{Left, Log, log_ended};
use crate::metrics::Ending;
use crate::outcome::{Fault, Outcome, Throttle};
use crate::runtime_api::Offer;

/// How long extensions may take to end; Lambda's.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// How long the hooks after a snapshot may take; Lambda's.
const RESTORE_MAX: Duration = Duration::from_secs(10);

/// The log's end of an invocation. Who does not want to see the log does not wait for it.
pub(super) struct Epilogue {
    invocation: InvocationId,
    span: Span,
    revision: Arc<Revision>,
    ending: Ending,
    after: Duration,
    left: Left,
    log: Option<(Arc<dyn SandboxHands>, Log)>,
}

impl Epilogue {
    fn tell(&self) {
        log_ended(&self.span, &self.revision, self.ending, self.after);
        if let Some((sandbox, log)) = &self.log {
            log.end(&self.invocation, self.left, || sandbox.peak_bytes());
        }
    }
}

impl Held {
    /// How long it may take for what it gets next, or for what comes before that.
    pub(super) fn limit(&self) -> Duration {
        if self.is_snapshot { RESTORE_MAX } else { self.revision.function.timeout }
    }
}

impl Actor {
    pub(super) fn tell(&mut self, cause: Cause) {
        let mut causes = VecDeque::from([cause]);
        while let Some((event, fault)) = causes.pop_front() {
            for action in self.brain.handle(self.started.elapsed(), event) {
                causes.extend(self.act(action, fault.as_ref()));
            }
        }
    }

    /// Does one action; returns what came of it at once, if anything did.
    pub(super) fn act(&mut self, action: Action, fault: Option<&Fault>) -> Option<Cause> {
        match action {
            Action::Start { start, revision } => return self.start(start, revision),
            Action::Assign { invocation, sandbox, origin } => {
                return self.assign(&invocation, sandbox, origin);
            }
            Action::Sleep { sandbox } => self.sleep(sandbox),
            Action::Wake { sandbox } => self.wake(sandbox),
            Action::Check { sandbox } => self.check(sandbox),
            Action::Purge { sandbox } => {
                self.purge(sandbox);
            }
            Action::Reject { invocation, why } => self.reject(&invocation, why, fault),
            Action::Refuse { sandbox, state } => {
                if let Some(held) = self.held.get_mut(&sandbox) {
                    held.waiters.refuse(&held.sandbox, state.unwrap_or(State::Gone));
                }
            }
        }
        None
    }

    pub(super) fn start(&mut self, start: StartId, id: RevisionId) -> Option<Cause> {
        let revision = self.revisions.get(&id).filter(|_| self.shutdown.is_none());
        let Some(revision) = revision.map(Arc::clone) else {
            let fault = Fault::Launch("the server is shutting down".to_owned());
            return Some((Event::StartFailed { start }, Some(fault)));
        };
        self.starts.insert(start, Arc::clone(&revision));
        let (launcher, node) = (Arc::clone(&self.setup.launcher), Arc::clone(&self.setup.node));
        self.report(
            async move { Message::Launched { start, result: launch(launcher, node, revision).await } },
        );
        None
    }

    pub(super) fn assign(
        &mut self,
        invocation: &InvocationId,
        id: SandboxId,
        origin: Origin,
    ) -> Option<Cause> {
        let not_taken = Some((Event::NotTaken { sandbox: id }, None));
        let (Some(held), Some(open)) = (self.held.get(&id), self.open.get_mut(invocation)) else {
            return not_taken;
        };
        if let Err(refused) = held.sandbox.begin_invocation() {
            tracing::debug!(sandbox = %id, %refused, "it died unnoticed: another gets the invocation");
            return not_taken;
        }
        let waited = open.since.elapsed();
        open.request.revision = Arc::clone(&held.revision); // It may have succeeded the one that was asked.
        let offer = offer(&open.request, &self.setup.plan.region, held.revision.function.timeout);
        let limit = held.limit();
        held.log.begin(invocation, &open.request.span, &held.revision.version.to_string()); // Before the sandbox has it, and may print.
        if !held.api.offer(offer) {
            return not_taken;
        }
        self.timers.set(id, Instant::now() + limit, Owes::Answer(invocation.clone()));
        self.setup.metrics.started(&held.revision.function.name, origin, waited);
        if let Some(held) = self.held.get_mut(&id) {
            held.serving = Some(invocation.clone());
            if let Some(open) = self.open.get_mut(invocation) {
                open.log = Some((Arc::clone(&held.sandbox), held.log.clone()));
            }
        }
        None
    }

    /// Extensions of one that idles may hear of it, and have a moment to end; one that sleeps is not woken for it.
    fn purge(&mut self, id: SandboxId) {
        let Some(held) = self.held.get(&id) else { return };
        let idles = held.serving.is_none() && held.sandbox.state() == State::Warm;
        let deadline = SystemTime::now() + SHUTDOWN_MAX;
        let since_1970 = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if idles && held.api.shut_down(since_1970.as_millis() as u64) {
            self.timers.set(id, Instant::now() + SHUTDOWN_MAX, Owes::End);
            return;
        }
        self.purge_now(id);
    }

    pub(super) fn purge_now(&mut self, id: SandboxId) {
        if let Some(held) = self.held.get_mut(&id) {
            self.timers.clear(id);
            held.sandbox.purge();
        }
    }

    pub(super) fn sleep(&mut self, id: SandboxId) {
        let Some(held) = self.held.get(&id) else { return };
        let work = held.sandbox.sleep();
        let task = self.report(async move { Message::Slept { sandbox: id, result: work.await } });
        if let Some(held) = self.held.get_mut(&id) {
            held.sleeping = Some(task);
        }
    }

    /// The sleep that it breaks off reports first: its late word would be taken for the next sleep's.
    pub(super) fn wake(&mut self, id: SandboxId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let (work, sleeping) = (held.sandbox.wake(), held.sleeping.take());
        self.report(async move {
            let result = work.await;
            if let Some(sleeping) = sleeping {
                drop(sleeping.await);
            }
            Message::Woke { sandbox: id, result }
        });
    }

    pub(super) fn check(&mut self, id: SandboxId) {
        let Some(held) = self.held.get(&id) else { return };
        let work = held.sandbox.check();
        self.report(async move { Message::Checked { sandbox: id, result: work.await } });
    }

    pub(super) fn reject(&mut self, invocation: &InvocationId, why: Why, fault: Option<&Fault>) {
        let unknown = || Outcome::ServiceError { message: "the sandbox failed".to_owned() };
        let outcome = match why {
            Why::QueueFull => Outcome::Throttled(Throttle::QueueFull),
            Why::ReservedLimit => Outcome::Throttled(Throttle::Reserved),
            Why::AllowanceLimit => Outcome::Throttled(Throttle::Allowance),
            Why::QueuedTooLong => Outcome::Throttled(Throttle::QueuedTooLong),
            Why::StartFailed | Why::Died => fault.map_or_else(unknown, |f| f.outcome(invocation)),
            Why::UnknownRevision => Outcome::Removed,
        };
        self.finish(invocation, outcome, Left::Answered);
    }

    /// Answers the client. An invocation that has its answer already (a death after a timeout) is passed over.
    pub(super) fn finish(&mut self, invocation: &InvocationId, outcome: Outcome, left: Left) {
        let Some(open) = self.open.remove(invocation) else { return };
        let Open { request: Request { revision, tail, span, .. }, listener, log, since } = open;
        if outcome == Outcome::Removed {
            // Nobody has had it, and it may go to another: it has not ended yet.
            return listener.end(Ended { outcome, revision });
        }
        let (ending, after) = (Ending::of(&outcome), since.elapsed());
        self.setup.metrics.ended(&revision.function.name, ending, after);
        let (invocation, of) = (invocation.clone(), Arc::clone(&revision));
        let epilogue = Epilogue { invocation, span, revision: of, ending, after, left, log };
        match tail {
            Some(slot) => {
                epilogue.tell();
                epilogue.log.iter().for_each(|(_, log)| log.fill(&slot));
                listener.end(Ended { outcome, revision });
            }
            None => {
                listener.end(Ended { outcome, revision });
                self.epilogues.push(epilogue);
            }
        }
    }

    /// What is left to be done for those who have their answers.
    pub(super) fn tell_epilogues(&mut self) {
        self.epilogues.drain(..).for_each(|epilogue| epilogue.tell());
    }

    /// Lets something run, and hears of it.
    pub(super) fn report(&self, work: impl Future<Output = Message> + Send + 'static) -> JoinHandle<()> {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let message = work.await;
            drop(messages.send(message).await); // Fails when the actor has ended: nobody wants to know.
        })
    }
}

fn offer(request: &Request, region: &str, limit: Duration) -> Offer {
    let deadline = SystemTime::now() + limit;
    let since_1970 = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Offer {
        invocation: request.invocation.clone(),
        payload: request.payload.clone(),
        deadline_ms: since_1970.as_millis(),
        arn: request.arn(region),
        trace_id: request.trace_id.clone(),
        client_context: request.client_context.clone(),
        cognito_identity: request.cognito_identity.clone(),
    }
}
