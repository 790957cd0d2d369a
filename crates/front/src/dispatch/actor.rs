//! The actor: messages in, the brain's actions out.

use std::collections::{BTreeMap, VecDeque};
use std::io::PipeReader;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use brain::{Action, Brain, Event, FunctionPlan, Origin, Policy, StartId, Why};
use node::{CheckError, Exit, SleepError, WakeError};
use protocol::{CheckRecord, FunctionName, InvocationId, SandboxId, SleepRecord, State, WakeRecord};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::operator::Waiters;
use super::{Count, Done, Message, OperateError, Plan, Request, Verb, arn};
use crate::functions::{Catalogue, Function};
use crate::hands::{NodeHands, SandboxHands};
use crate::launch::{Individual, Launcher};
use crate::metrics::{Ending, Metrics};
use crate::outcome::{self, Fault, Outcome, Throttle};
use crate::output::{self, Ring};
use crate::runtime_api::{self, Offer, RuntimeApi, RuntimeEvent};

/// Commands that may wait for one sandbox to settle; the next is refused as busy.
const LATER_MAX: usize = 4;

/// What the actor works with.
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) node: Arc<dyn NodeHands>,
    pub(crate) metrics: Metrics,
}

/// A sandbox that was launched and has not been served yet.
pub(crate) struct Launched {
    sandbox: Arc<dyn SandboxHands>,
    listener: TcpListener,
    output: PipeReader,
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
    starts: BTreeMap<StartId, Arc<Function>>,
    shutdown: Option<oneshot::Sender<()>>,
}

/// An invocation that has no answer yet.
struct Open {
    request: Request,
    reply: oneshot::Sender<Outcome>,
}

/// A sandbox that lives.
struct Held {
    sandbox: Arc<dyn SandboxHands>,
    function: Arc<Function>,
    api: RuntimeApi,
    is_ready: bool,
    /// What it was given last, until it asks for the next.
    serving: Option<InvocationId>,
    /// Runs while the sandbox owes something: its init, or an answer and the next `next`.
    timer: Option<Timer>,
    /// The sleep under way.
    sleeping: Option<JoinHandle<()>>,
    waiters: Waiters,
    /// It has answered and not asked for the next invocation yet.
    is_settling: bool,
    /// Commands that came while it was settling: milliseconds, and a refusal would surprise whoever saw the answer.
    later: Vec<(Verb, oneshot::Sender<Result<Done, OperateError>>)>,
    /// What it printed last. Kept for `LogType=Tail`.
    _ring: Ring,
}

/// A message that is sent later, unless this is dropped before.
struct Timer(JoinHandle<()>);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An event for the brain, and the fault behind it for whoever will be told.
type Cause = (Event, Option<Fault>);

pub(super) async fn run(setup: Setup, messages: mpsc::Sender<Message>, mut inbox: mpsc::Receiver<Message>) {
    let mut brain = Brain::new(Policy::Fixed);
    for function in setup.catalogue.iter() {
        brain.set_function(function.name.clone(), function_plan(&setup.plan, function));
    }
    let (open, held, starts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let started = Instant::now();
    let mut actor = Actor { setup, brain, started, messages, open, held, starts, shutdown: None };
    while !actor.is_over() {
        let deadline = actor.brain.next_deadline().map(|after| started + after);
        tokio::select! {
            message = inbox.recv() => match message {
                Some(message) => actor.hear(message),
                None => break,
            },
            () = until(deadline) => actor.tell((Event::Tick, None)),
        }
    }
    actor.end();
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What the function says, and the server's defaults for the rest.
fn function_plan(plan: &Plan, function: &Function) -> FunctionPlan {
    let mut own = plan.function.clone();
    own.concurrency = function.concurrency.unwrap_or(own.concurrency);
    own.keep_warm = function.keep_warm.unwrap_or(own.keep_warm);
    own.keep_dedup = function.keep_dedup.unwrap_or(own.keep_dedup);
    own
}

/// What is heard.
impl Actor {
    fn hear(&mut self, message: Message) {
        match message {
            Message::Invoke { request, reply } => self.invoke(request, reply),
            Message::Launched { start, result } => self.launched(start, result),
            Message::Runtime { sandbox, event } => self.runtime_event(sandbox, event),
            Message::Slept { sandbox, result } => self.slept(sandbox, result),
            Message::Woke { sandbox, result } => self.woke(sandbox, result),
            Message::Checked { sandbox, result } => self.checked(sandbox, result),
            Message::Exited { sandbox, exit } => self.exited(sandbox, exit),
            Message::InitOverdue { sandbox } => {
                let fault = Fault::InitTimeout(self.setup.plan.init_timeout);
                self.tell((Event::InitFailed { sandbox }, Some(fault)));
            }
            Message::InvocationOverdue { sandbox, invocation } => self.overdue(sandbox, &invocation),
            Message::Operate { sandbox, verb, reply } => self.operate(sandbox, verb, reply),
            Message::Count { reply } => drop(reply.send(self.count())),
            Message::Shutdown { reply } => self.shut_down(reply),
        }
    }

    fn invoke(&mut self, request: Request, reply: oneshot::Sender<Outcome>) {
        let (invocation, function) = (request.invocation.clone(), request.function.clone());
        self.open.insert(invocation.clone(), Open { request, reply });
        if self.shutdown.is_some() {
            let message = "the server is shutting down".to_owned();
            return self.finish(&invocation, Outcome::ServiceError { message });
        }
        self.tell((Event::Invoke { invocation, function }, None));
    }

    fn launched(&mut self, start: StartId, result: Result<Launched, String>) {
        let Some(function) = self.starts.remove(&start) else { return };
        let launched = match result {
            Ok(launched) => launched,
            Err(message) => {
                tracing::error!(function = %function.name, "{message}");
                return self.tell((Event::StartFailed { start }, Some(Fault::Launch(message))));
            }
        };
        let id = launched.sandbox.id();
        let held = self.hold(id, function, launched);
        self.held.insert(id, held);
        self.tell((Event::Started { start, sandbox: id }, None));
        if self.shutdown.is_some() {
            self.tell((Event::Purge { sandbox: id }, None));
        }
    }

    fn hold(&self, id: SandboxId, function: Arc<Function>, launched: Launched) -> Held {
        let Launched { sandbox, listener, output } = launched;
        let ring = Ring::default();
        tokio::spawn(output::follow(output, function.name.clone(), id, ring.clone()));
        let exit = sandbox.exit();
        self.report(async move { Message::Exited { sandbox: id, exit: exit.await } });
        Held {
            api: RuntimeApi::serve(listener, id, self.messages.clone()),
            timer: Some(self.timer(self.setup.plan.init_timeout, Message::InitOverdue { sandbox: id })),
            sandbox,
            function,
            is_ready: false,
            serving: None,
            sleeping: None,
            waiters: Waiters::default(),
            is_settling: false,
            later: Vec::new(),
            _ring: ring,
        }
    }

    fn runtime_event(&mut self, sandbox: SandboxId, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Ready => self.ready(sandbox),
            RuntimeEvent::Answered { invocation, outcome } => {
                if let Some(held) = self.held.get_mut(&sandbox) {
                    held.is_settling = true; // Before the client hears: it may command at once.
                }
                self.finish(&invocation, outcome);
                self.tell((Event::Answered { sandbox }, None));
            }
            RuntimeEvent::InitError(payload) => {
                self.tell((Event::InitFailed { sandbox }, Some(Fault::InitError(payload))));
            }
        }
    }

    fn ready(&mut self, id: SandboxId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.timer = None;
        held.serving = None;
        held.is_settling = false;
        let later = std::mem::take(&mut held.later);
        let marked = if held.is_ready { held.sandbox.end_invocation() } else { held.sandbox.mark_ready() };
        held.is_ready = true;
        match marked {
            Ok(()) => self.tell((Event::Ready { sandbox: id }, None)),
            Err(refused) => {
                // It was purged, or it died; if neither, nobody knows what it is, and it must go.
                tracing::debug!(sandbox = %id, %refused, "a sandbox asks for an invocation");
                self.tell((Event::Purge { sandbox: id }, None));
            }
        }
        for (verb, reply) in later {
            self.operate(id, verb, reply);
        }
    }

    fn slept(&mut self, id: SandboxId, result: Result<SleepRecord, SleepError>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.sleeping = None;
        let told = result.as_ref().map(|_| None).map_err(ToString::to_string);
        held.waiters.end(Verb::Sleep, &held.sandbox, told);
        match result {
            Ok(record) => {
                self.setup.metrics.slept(&record);
                self.tell((Event::Slept { sandbox: id }, None));
            }
            Err(SleepError::Gone) => {} // Its exit follows.
            Err(error) => {
                tracing::debug!(sandbox = %id, %error, "no sleep");
                self.tell((Event::LeftWarm { sandbox: id }, None));
            }
        }
    }

    fn woke(&mut self, id: SandboxId, result: Result<Option<WakeRecord>, WakeError>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let told = result.as_ref().map(|_| None).map_err(ToString::to_string);
        held.waiters.end(Verb::Wake, &held.sandbox, told);
        match result {
            Ok(record) => {
                let restored = record.is_some();
                record.iter().for_each(|record| self.setup.metrics.woke(record));
                self.tell((Event::Woke { sandbox: id, restored }, None));
            }
            Err(error) => {
                tracing::warn!(sandbox = %id, %error, "no wake: it is purged");
                self.tell((Event::Purge { sandbox: id }, None));
            }
        }
    }

    fn checked(&mut self, id: SandboxId, result: Result<CheckRecord, CheckError>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let told = result.as_ref().map(|record| Some(record.clone())).map_err(ToString::to_string);
        held.waiters.end(Verb::Check, &held.sandbox, told);
        let event = match result {
            Ok(_) | Err(CheckError::Sleep(_)) => Event::Checked { sandbox: id },
            Err(CheckError::Wake(_)) => Event::Purge { sandbox: id },
        };
        self.tell((event, None));
    }

    fn exited(&mut self, id: SandboxId, exit: Exit) {
        let Some(mut held) = self.held.remove(&id) else { return };
        tracing::debug!(sandbox = %id, ?exit, "gone");
        held.waiters.end_all(&held.sandbox);
        self.tell((Event::Gone { sandbox: id }, Some(Fault::Exit(exit))));
    }

    /// The answer took too long, or after it the next `next`.
    fn overdue(&mut self, sandbox: SandboxId, invocation: &InvocationId) {
        let Some(held) = self.held.get(&sandbox) else { return };
        if held.serving.as_ref() != Some(invocation) {
            return; // It asked for the next while this message was under way.
        }
        let outcome = outcome::timed_out(invocation, held.function.timeout);
        self.finish(invocation, outcome);
        self.tell((Event::Purge { sandbox }, None));
    }

    fn operate(
        &mut self,
        sandbox: SandboxId,
        verb: Verb,
        reply: oneshot::Sender<Result<Done, OperateError>>,
    ) {
        let Some(held) = self.held.get_mut(&sandbox) else {
            return drop(reply.send(Err(OperateError::Unknown { sandbox })));
        };
        if held.is_settling && matches!(verb, Verb::Sleep | Verb::Check) && held.later.len() < LATER_MAX {
            return held.later.push((verb, reply));
        }
        held.waiters.push(sandbox, verb, reply);
        let event = match verb {
            Verb::Sleep => Event::Sleep { sandbox },
            Verb::Wake => Event::Wake { sandbox },
            Verb::Check => Event::Check { sandbox },
            Verb::Purge => Event::Purge { sandbox },
        };
        self.tell((event, None));
    }

    fn count(&self) -> Vec<Count> {
        let names = self.setup.catalogue.iter().map(|function| function.name.clone());
        let count = |function: FunctionName| Count {
            queued: self.brain.queue_len(&function),
            sandboxes: self.brain.alive(&function),
            function,
        };
        names.map(count).collect()
    }
}

/// What is done.
impl Actor {
    fn tell(&mut self, cause: Cause) {
        let mut causes = VecDeque::from([cause]);
        while let Some((event, fault)) = causes.pop_front() {
            for action in self.brain.handle(self.started.elapsed(), event) {
                causes.extend(self.act(action, fault.as_ref()));
            }
        }
    }

    /// Does one action; returns what came of it at once, if anything did.
    fn act(&mut self, action: Action, fault: Option<&Fault>) -> Option<Cause> {
        match action {
            Action::Start { start, function } => return self.start(start, &function),
            Action::Assign { invocation, sandbox, origin } => {
                return self.assign(&invocation, sandbox, origin);
            }
            Action::Sleep { sandbox } => self.sleep(sandbox),
            Action::Wake { sandbox } => self.wake(sandbox),
            Action::Check { sandbox } => self.check(sandbox),
            Action::Purge { sandbox } => {
                if let Some(held) = self.held.get_mut(&sandbox) {
                    held.timer = None;
                    held.sandbox.purge();
                }
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

    fn start(&mut self, start: StartId, name: &FunctionName) -> Option<Cause> {
        let function = self.setup.catalogue.get(name).filter(|_| self.shutdown.is_none());
        let Some(function) = function.map(Arc::clone) else {
            let fault = Fault::Launch("the server is shutting down".to_owned());
            return Some((Event::StartFailed { start }, Some(fault)));
        };
        self.starts.insert(start, Arc::clone(&function));
        let (launcher, node) = (Arc::clone(&self.setup.launcher), Arc::clone(&self.setup.node));
        self.report(
            async move { Message::Launched { start, result: launch(launcher, node, function).await } },
        );
        None
    }

    fn assign(&mut self, invocation: &InvocationId, id: SandboxId, origin: Origin) -> Option<Cause> {
        let not_taken = Some((Event::NotTaken { sandbox: id }, None));
        let (Some(held), Some(open)) = (self.held.get(&id), self.open.get(invocation)) else {
            return not_taken;
        };
        if let Err(refused) = held.sandbox.begin_invocation() {
            tracing::debug!(sandbox = %id, %refused, "it died unnoticed: another gets the invocation");
            return not_taken;
        }
        let limit = held.function.timeout;
        let offer = offer(&open.request, &self.setup.plan.region, limit);
        if !held.api.offer(offer) {
            return not_taken;
        }
        let overdue = Message::InvocationOverdue { sandbox: id, invocation: invocation.clone() };
        let timer = self.timer(limit, overdue);
        self.setup.metrics.started(&held.function.name, origin);
        if let Some(held) = self.held.get_mut(&id) {
            held.timer = Some(timer);
            held.serving = Some(invocation.clone());
        }
        None
    }

    fn sleep(&mut self, id: SandboxId) {
        let Some(held) = self.held.get(&id) else { return };
        let work = held.sandbox.sleep();
        let task = self.report(async move { Message::Slept { sandbox: id, result: work.await } });
        if let Some(held) = self.held.get_mut(&id) {
            held.sleeping = Some(task);
        }
    }

    /// The sleep that it breaks off reports first: its late word would be taken for the next sleep's.
    fn wake(&mut self, id: SandboxId) {
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

    fn check(&mut self, id: SandboxId) {
        let Some(held) = self.held.get(&id) else { return };
        let work = held.sandbox.check();
        self.report(async move { Message::Checked { sandbox: id, result: work.await } });
    }

    fn reject(&mut self, invocation: &InvocationId, why: Why, fault: Option<&Fault>) {
        let unknown = || Outcome::ServiceError { message: "the sandbox failed".to_owned() };
        let outcome = match why {
            Why::QueueFull => Outcome::Throttled(Throttle::QueueFull),
            Why::QueuedTooLong => Outcome::Throttled(Throttle::QueuedTooLong),
            Why::StartFailed | Why::Died => fault.map_or_else(unknown, |f| f.outcome(invocation)),
            Why::UnknownFunction => Outcome::ServiceError { message: "no such function".to_owned() },
        };
        self.finish(invocation, outcome);
    }

    /// Answers the client. An invocation that has its answer already (a death after a timeout) is passed over.
    fn finish(&mut self, invocation: &InvocationId, outcome: Outcome) {
        let Some(open) = self.open.remove(invocation) else { return };
        self.setup.metrics.ended(&open.request.function, Ending::of(&outcome));
        drop(open.reply.send(outcome)); // A client that has hung up needs no answer.
    }

    /// Lets something run, and hears of it.
    fn report(&self, work: impl Future<Output = Message> + Send + 'static) -> JoinHandle<()> {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let message = work.await;
            drop(messages.send(message).await); // Fails when the actor has ended: nobody wants to know.
        })
    }

    fn timer(&self, after: Duration, message: Message) -> Timer {
        Timer(self.report(async move {
            tokio::time::sleep(after).await;
            message
        }))
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
            self.finish(&invocation, Outcome::ServiceError { message });
        }
        if let Some(reply) = self.shutdown.take() {
            let _ = reply.send(()); // Who asked may have stopped waiting.
        }
    }
}

fn offer(request: &Request, region: &str, limit: Duration) -> Offer {
    let deadline = SystemTime::now() + limit;
    let since_1970 = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Offer {
        invocation: request.invocation.clone(),
        payload: request.payload.clone(),
        deadline_ms: since_1970.as_millis(),
        arn: arn(region, &request.function),
        trace_id: request.trace_id.clone(),
        client_context: request.client_context.clone(),
        cognito_identity: request.cognito_identity.clone(),
    }
}

/// Launches one sandbox. The error is for the log and the client both, so it is text.
async fn launch(
    launcher: Arc<Launcher>,
    node: Arc<dyn NodeHands>,
    function: Arc<Function>,
) -> Result<Launched, String> {
    let listener = runtime_api::bind().await.map_err(|error| format!("bind a port: {error}"))?;
    let port = listener.local_addr().map_err(|error| format!("bind a port: {error}"))?.port();
    let blocking = tokio::task::spawn_blocking(move || {
        let (output, stdout) = std::io::pipe().map_err(|error| format!("make a pipe: {error}"))?;
        let stderr = stdout.try_clone().map_err(|error| format!("make a pipe: {error}"))?;
        let own = Individual {
            port,
            log_stream: format!("[$LATEST]{}", uuid::Uuid::new_v4().simple()),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let spec = launcher.spec(&function, own).map_err(|error| chain(&error))?;
        let sandbox = node.launch(spec).map_err(|error| chain(&error))?;
        Ok::<_, String>((sandbox, output))
    });
    let (sandbox, output) = blocking.await.map_err(|error| format!("launch: {error}"))??;
    Ok(Launched { sandbox, listener, output })
}

/// An error and what is behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
