//! What the actor hears, and which event each message is to the brain.

use std::collections::BTreeSet;
use std::sync::Arc;

use brain::{Event, StartId};
use node::{CheckError, Exit, SleepError, WakeError};
use protocol::{CheckRecord, FunctionName, InvocationId, RevisionId, SandboxId, SleepRecord, WakeRecord};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::operator::Waiters;
use super::super::{Count, Done, Message, OperateError, Request, Verb};
use super::launching::Launched;
use super::timers::Owes;
use super::{Actor, Held, LATER_MAX, Open, function_plan, init_limit};
use crate::catalogue::Revision;
use crate::log::{Left, Log};
use crate::outcome::{self, Fault, Outcome};
use crate::output::Output;
use crate::runtime_api::{RuntimeApi, RuntimeEvent};
use crate::stream::{Beginning, Listener, Reply};

impl Actor {
    pub(super) fn hear(&mut self, message: Message) {
        match message {
            Message::Invoke { request, since, reply } => self.invoke(request, since, reply),
            Message::SetRevision { revision } => self.set_revision(revision),
            Message::Retire { revision, successor } => self.retire(revision, successor),
            Message::SetReserved { function, reserved } => self.brain.set_reserved(&function, reserved),
            Message::Provision { revision, wanted } => {
                self.tell((Event::Provision { revision, wanted }, None));
            }
            Message::Provisioned { revision, reply } => drop(reply.send(self.brain.provisioned(revision))),
            Message::Launched { start, result } => self.launched(start, result),
            Message::Runtime { sandbox, event } => self.runtime_event(sandbox, event),
            Message::Slept { sandbox, result } => self.slept(sandbox, result),
            Message::Woke { sandbox, result } => self.woke(sandbox, result),
            Message::Checked { sandbox, result } => self.checked(sandbox, result),
            Message::Exited { sandbox, exit } => self.exited(sandbox, exit),
            Message::Operate { sandbox, verb, reply } => self.operate(sandbox, verb, reply),
            Message::Count { reply } => drop(reply.send(self.count())),
            Message::Shutdown { reply } => self.shut_down(reply),
        }
    }

    pub(super) fn invoke(&mut self, request: Request, since: Instant, reply: oneshot::Sender<Reply>) {
        let (invocation, revision) = (request.invocation.clone(), request.revision.id);
        let listener = Listener::Fresh(reply);
        self.open.insert(invocation.clone(), Open { request, listener, log: None, since });
        if self.shutdown.is_some() {
            let message = "the server is shutting down".to_owned();
            return self.finish(&invocation, Outcome::ServiceError { message }, Left::Answered);
        }
        self.tell((Event::Invoke { invocation, revision }, None));
    }

    pub(super) fn set_revision(&mut self, revision: Arc<Revision>) {
        let Revision { id, function, .. } = &*revision;
        self.brain.set_revision(*id, function.name.clone(), function_plan(&self.setup.plan, function));
        let prepare = function.snap_start.then_some(Event::Prepare { revision: *id });
        self.revisions.insert(*id, revision);
        prepare.into_iter().for_each(|prepare| self.tell((prepare, None)));
    }

    pub(super) fn retire(&mut self, revision: RevisionId, successor: Option<RevisionId>) {
        self.revisions.remove(&revision);
        self.tell((Event::Retire { revision, successor }, None));
    }

    pub(super) fn launched(&mut self, start: StartId, result: Result<Launched, Fault>) {
        let Some(revision) = self.starts.remove(&start) else { return };
        let launched = match result {
            Ok(launched) => launched,
            Err(fault) => {
                tracing::error!(function = %revision.function.name, ?fault, "it cannot be launched");
                return self.tell((Event::StartFailed { start }, Some(fault)));
            }
        };
        let id = launched.sandbox.id();
        let limit = init_limit(&self.setup.plan, &revision.function);
        let held = self.hold(id, revision, launched);
        self.held.insert(id, held);
        self.timers.set(id, Instant::now() + limit, Owes::Init);
        self.tell((Event::Started { start, sandbox: id }, None));
        if self.shutdown.is_some() {
            self.tell((Event::Purge { sandbox: id }, None));
        }
    }

    pub(super) fn hold(&self, id: SandboxId, revision: Arc<Revision>, launched: Launched) -> Held {
        let Launched { sandbox, link, output, started, about } = launched;
        let output = Output::new(output, revision.function.name.clone(), id, self.setup.logs.clone());
        let exit = sandbox.exit();
        let (api, heard) = RuntimeApi::serve(link, id, about, self.messages.clone());
        self.report(async move {
            let exit = exit.await;
            heard.await; // An answer that it gave before it died comes before its death.
            Message::Exited { sandbox: id, exit }
        });
        output.tell(api.telemetry().clone());
        Held {
            api,
            log: Log::new(output, revision.function.memory_mb, started),
            sandbox,
            revision,
            is_ready: false,
            is_snapshot: false,
            serving: None,
            sleeping: None,
            waiters: Waiters::default(),
            is_settling: false,
            later: Vec::new(),
        }
    }

    pub(super) fn runtime_event(&mut self, sandbox: SandboxId, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Ready => self.ready(sandbox, Event::Ready { sandbox }),
            RuntimeEvent::Snapshot => {
                if let Some(held) = self.held.get_mut(&sandbox) {
                    held.is_snapshot = true;
                }
                self.ready(sandbox, Event::Snapshot { sandbox });
            }
            RuntimeEvent::Restored { invocation } => self.restored(sandbox, invocation),
            RuntimeEvent::Failed(payload) => self.failed(sandbox, payload),
            RuntimeEvent::Answering { invocation, beginning } => self.answering(&invocation, beginning),
            RuntimeEvent::Answered { invocation, outcome } => {
                if let Some(held) = self.held.get_mut(&sandbox) {
                    held.is_settling = true; // Before the client hears: it may command at once.
                }
                self.finish(&invocation, outcome, Left::Answered);
                self.tell((Event::Answered { sandbox }, None));
            }
            RuntimeEvent::InitError(payload) => {
                self.tell((Event::InitFailed { sandbox }, Some(Fault::InitError(payload))));
            }
        }
    }

    /// The client hears the beginning; the sandbox is busy until the end.
    fn answering(&mut self, invocation: &InvocationId, beginning: Beginning) {
        let Some(open) = self.open.remove(invocation) else { return };
        let listener = open.listener.begin(beginning, &open.request.revision);
        self.open.insert(invocation.clone(), Open { listener, ..open });
    }

    /// Its hooks have run: now the time of its invocation starts.
    fn restored(&mut self, id: SandboxId, invocation: InvocationId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.is_snapshot = false;
        let due = Instant::now() + held.revision.function.timeout;
        self.timers.set(id, due, Owes::Answer(invocation));
    }

    /// It says that it is of no use. What it serves has failed.
    fn failed(&mut self, id: SandboxId, payload: bytes::Bytes) {
        let Some(held) = self.held.get(&id) else { return };
        if let Some(invocation) = held.serving.clone() {
            self.finish(&invocation, outcome::function_error(payload, None), Left::Answered);
        }
        self.tell((Event::Purge { sandbox: id }, None));
    }

    /// `rests` is what that means for the brain.
    pub(super) fn ready(&mut self, id: SandboxId, rests: Event) {
        let Some(held) = self.held.get_mut(&id) else { return };
        self.timers.clear(id);
        held.serving = None;
        held.is_settling = false;
        let later = std::mem::take(&mut held.later);
        if !held.is_ready {
            held.log.initialised();
        }
        let marked = if held.is_ready { held.sandbox.end_invocation() } else { held.sandbox.mark_ready() };
        held.is_ready = true;
        match marked {
            Ok(()) => self.tell((rests, None)),
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

    pub(super) fn slept(&mut self, id: SandboxId, result: Result<SleepRecord, SleepError>) {
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

    pub(super) fn woke(&mut self, id: SandboxId, result: Result<Option<WakeRecord>, WakeError>) {
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

    pub(super) fn checked(&mut self, id: SandboxId, result: Result<CheckRecord, CheckError>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let told = result.as_ref().map(|record| Some(record.clone())).map_err(ToString::to_string);
        held.waiters.end(Verb::Check, &held.sandbox, told);
        let event = match result {
            Ok(_) | Err(CheckError::Sleep(_)) => Event::Checked { sandbox: id },
            Err(CheckError::Wake(_)) => Event::Purge { sandbox: id },
        };
        self.tell((event, None));
    }

    pub(super) fn exited(&mut self, id: SandboxId, exit: Exit) {
        let Some(mut held) = self.held.remove(&id) else { return };
        self.timers.clear(id);
        tracing::debug!(sandbox = %id, ?exit, "gone");
        held.waiters.end_all(&held.sandbox);
        if let Some(invocation) = &held.serving {
            held.log.end(invocation, Left::Died(exit), || held.sandbox.peak_bytes());
        }
        self.tell((Event::Gone { sandbox: id }, Some(Fault::Exit(exit))));
    }

    /// The answer took too long, or after it the next `next`.
    pub(super) fn overdue(&mut self, sandbox: SandboxId, invocation: &InvocationId) {
        let Some(held) = self.held.get(&sandbox) else { return };
        if held.serving.as_ref() != Some(invocation) {
            return; // It asked for the next while this message was under way.
        }
        let limit = held.limit();
        self.finish(invocation, outcome::timed_out(invocation, limit), Left::Overdue(limit));
        self.tell((Event::Purge { sandbox }, None));
    }

    pub(super) fn operate(
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

    pub(super) fn count(&self) -> Vec<Count> {
        let names = self.revisions.values().map(|revision| revision.function.name.clone());
        let names: BTreeSet<_> = names.collect(); // A function has a revision for each of its versions.
        let count = |function: FunctionName| Count {
            queued: self.brain.queue_len(&function),
            sandboxes: self.brain.alive(&function),
            function,
        };
        names.into_iter().map(count).collect()
    }
}
