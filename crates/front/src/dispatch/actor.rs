//! The actor: messages in, the brain's actions out.

mod act;
mod hear;
mod launching;
mod timers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use brain::{Beyond, Brain, Event, FunctionPlan, Policy, StartId};
use protocol::{InvocationId, RevisionId, SandboxId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use act::Epilogue;
pub(crate) use launching::Launched;
use timers::{Owes, Timers};

use super::operator::Waiters;
use super::{Done, Message, OperateError, Plan, Request, Verb};
use crate::catalogue::Revision;
use crate::functions::Function;
use crate::hands::{NodeHands, SandboxHands};
use crate::launch::Launcher;
use crate::log::{Left, Log};
use crate::log_store::LogStore;
use crate::metrics::Metrics;
use crate::outcome::{Fault, Outcome};
use crate::runtime_api::RuntimeApi;
use crate::stream::Listener;

/// Commands that may wait for one sandbox to settle; the next is refused as busy.
const LATER_MAX: usize = 4;

/// The alarm goes off at the latest after this time, for nothing.
const ALARM_MAX: Duration = Duration::from_secs(3600);

/// What the actor works with.
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) node: Arc<dyn NodeHands>,
    pub(crate) metrics: Metrics,
    pub(crate) logs: LogStore,
}

struct Actor {
    setup: Setup,
    brain: Brain,
    /// The brain's time starts here.
    started: Instant,
    /// For everything that reports back.
    messages: mpsc::Sender<Message>,
    open: BTreeMap<InvocationId, Open>,
    held: BTreeMap<SandboxId, Held>,
    /// Starts under way, and whose.
    starts: BTreeMap<StartId, Arc<Revision>>,
    /// Those that take invocations.
    revisions: BTreeMap<RevisionId, Arc<Revision>>,
    timers: Timers,
    /// Of those who were answered just now.
    epilogues: Vec<Epilogue>,
    shutdown: Option<oneshot::Sender<()>>,
}

/// An invocation that has no answer yet.
struct Open {
    request: Request,
    listener: Listener,
    /// The log of the sandbox that has it, which is told when it has left.
    log: Option<(Arc<dyn SandboxHands>, Log)>,
    /// When its request came.
    since: Instant,
}

/// A sandbox that lives.
struct Held {
    sandbox: Arc<dyn SandboxHands>,
    revision: Arc<Revision>,
    api: RuntimeApi,
    is_ready: bool,
    /// It has not come back from the middle of its snapshot hooks.
    is_snapshot: bool,
    /// What it was given last, until it asks for the next.
    serving: Option<InvocationId>,
    /// The sleep under way.
    sleeping: Option<JoinHandle<()>>,
    waiters: Waiters,
    /// It has answered and not asked for the next invocation yet.
    is_settling: bool,
    /// Commands that came while it was settling: milliseconds, and a refusal would surprise whoever saw the answer.
    later: Vec<(Verb, oneshot::Sender<Result<Done, OperateError>>)>,
    log: Log,
}

/// An event for the brain, and the fault behind it for whoever will be told.
type Cause = (Event, Option<Fault>);

pub(super) async fn run(setup: Setup, messages: mpsc::Sender<Message>, mut inbox: mpsc::Receiver<Message>) {
    let (open, held, starts, revisions, timers, epilogues) = Default::default();
    let (mut brain, started) = (Brain::new(Policy::Fixed), Instant::now());
    brain.set_allowance(setup.plan.allowance);
    let mut actor = Actor {
        setup,
        brain,
        started,
        messages,
        open,
        held,
        starts,
        revisions,
        timers,
        epilogues,
        shutdown: None,
    };
    let alarm = tokio::time::sleep(ALARM_MAX);
    tokio::pin!(alarm);
    while !actor.is_over() {
        // Left as it is when it goes off too early: almost all that is due is called off before, and to set an alarm
        // anew wakes a thread.
        if let Some(deadline) = actor.deadline().filter(|deadline| *deadline < alarm.deadline()) {
            alarm.as_mut().reset(deadline);
        }
        tokio::select! {
            message = inbox.recv() => match message {
                Some(message) => actor.hear(message),
                None => break,
            },
            () = &mut alarm => {
                alarm.as_mut().reset(Instant::now() + ALARM_MAX);
                actor.look_at_the_clock();
            }
        }
        if !actor.epilogues.is_empty() {
            tokio::task::yield_now().await; // The answers go out first.
            actor.tell_epilogues();
        }
    }
    actor.end();
}

/// How long a runtime may take until it asks for its first invocation. Lambda stops it after ten seconds and starts it
/// again with the time that the function has for an invocation; here it has that time at once.
fn init_limit(plan: &Plan, function: &Function) -> Duration {
    plan.init_timeout.max(function.timeout)
}

/// What the function says, and the server's defaults for the rest.
pub(super) fn function_plan(plan: &Plan, function: &Function) -> FunctionPlan {
    let mut own = plan.function.clone();
    let default = if function.throttles { plan.allowance } else { own.concurrency };
    own.concurrency = function.concurrency.unwrap_or(default);
    if function.timeout > plan.init_timeout {
        // Whoever waits for a start does not give up before it.
        own.queue_wait = own.queue_wait.max(function.timeout + plan.init_timeout);
    }
    own.beyond = if function.throttles { Beyond::Throttle } else { Beyond::Wait };
    own.keep_warm = function.keep_warm.unwrap_or(own.keep_warm);
    own.keep_dedup = function.keep_dedup.unwrap_or(own.keep_dedup);
    own
}

/// Time.
impl Actor {
    fn deadline(&self) -> Option<Instant> {
        let of_brain = self.brain.next_deadline().map(|after| self.started + after);
        of_brain.into_iter().chain(self.timers.next()).min()
    }

    fn look_at_the_clock(&mut self) {
        self.tell((Event::Tick, None));
        while let Some((sandbox, owes)) = self.timers.pop(Instant::now()) {
            match owes {
                Owes::Init => {
                    let Some(held) = self.held.get(&sandbox) else { continue };
                    let fault = Fault::InitTimeout(init_limit(&self.setup.plan, &held.revision.function));
                    self.tell((Event::InitFailed { sandbox }, Some(fault)));
                }
                Owes::Answer(invocation) => self.overdue(sandbox, &invocation),
                Owes::End => self.purge_now(sandbox),
            }
        }
    }
}

/// The end.
impl Actor {
    fn shut_down(&mut self, reply: oneshot::Sender<()>) {
        self.shutdown = Some(reply);
        let sandboxes: Vec<_> = self.held.keys().copied().collect();
        for sandbox in sandboxes {
            self.tell((Event::Purge { sandbox }, None));
        }
    }

    fn is_over(&self) -> bool {
        self.shutdown.is_some() && self.held.is_empty() && self.starts.is_empty()
    }

    fn end(mut self) {
        let open: Vec<_> = self.open.keys().cloned().collect();
        for invocation in open {
            let message = "the server is shutting down".to_owned();
            self.finish(&invocation, Outcome::ServiceError { message }, Left::Answered);
        }
        self.tell_epilogues();
        if let Some(reply) = self.shutdown.take() {
            let _ = reply.send(()); // Who asked may have stopped waiting.
        }
    }
}
