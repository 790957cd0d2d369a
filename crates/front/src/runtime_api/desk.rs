//! Where a sandbox stands: its runtime, and its extensions. It is ready when all of them wait.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::InvocationId;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::{About, Offer, Wrong};

/// Extensions of one sandbox, Lambda's.
const EXTENSIONS_MAX: usize = 10;

/// Events that may wait for an extension: one of an invocation, one of the end.
const EVENTS_MAX: usize = 2;

/// Where the runtime stands in the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Init,
    /// It waits in the middle of its snapshot hooks.
    Snapshot,
    /// It runs those that come after a snapshot, and will get this invocation then.
    Restoring,
    Waiting,
    Serving(InvocationId),
    /// Its answer is being read.
    Reading(InvocationId),
    Streaming(InvocationId),
    Answered(InvocationId),
    Failed,
}

/// Everything that the calls of one sandbox share.
pub(super) struct Desk {
    pub(super) phase: Phase,
    /// What was offered at a restore, and when.
    pub(super) pending: Option<(Offer, Instant)>,
    pub(super) extensions: Vec<Extension>,
    /// External extensions that have not registered yet.
    expected: Vec<String>,
    /// Dropped when the runtime asks again.
    waiting: Option<oneshot::Sender<()>>,
    is_told: bool,
    /// Something was offered that the runtime has not taken yet.
    is_offered: bool,
}

/// A registered extension.
pub(super) struct Extension {
    pub(super) id: String,
    pub(super) name: String,
    wants: Wants,
    is_resting: bool,
    events: VecDeque<Value>,
    pub(super) news: Arc<Notify>,
}

/// Of which events an extension wants to hear.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wants {
    pub(super) invoke: bool,
    pub(super) shutdown: bool,
}

impl Desk {
    pub(super) fn new(about: &About) -> Desk {
        let expected = about.extensions.clone();
        Desk {
            phase: Phase::Init,
            pending: None,
            extensions: Vec::new(),
            expected,
            waiting: None,
            is_told: false,
            is_offered: false,
        }
    }

    /// Whether all have come to rest, and nobody was told yet. Whoever asks tells.
    pub(super) fn is_news(&mut self) -> bool {
        let runtime_rests = matches!(self.phase, Phase::Waiting | Phase::Snapshot);
        let all_rest = self.expected.is_empty() && self.extensions.iter().all(|one| one.is_resting);
        let is_news = runtime_rests && all_rest && !self.is_told && !self.is_offered;
        self.is_told |= is_news;
        is_news
    }

    /// The runtime waits for an invocation. Ready when it asks again.
    pub(super) fn wait(&mut self) -> oneshot::Receiver<()> {
        self.phase = Phase::Waiting;
        let (waiting, replaced) = oneshot::channel();
        self.waiting = Some(waiting);
        replaced
    }

    /// Takes an extension in; returns its id.
    pub(super) fn register(&mut self, name: &str, wants: Wants) -> Result<String, Wrong> {
        let is_external = self.expected.iter().any(|expected| expected == name);
        if !is_external && self.phase != Phase::Init {
            return Err(Wrong::Order);
        }
        if wants.shutdown && !is_external {
            return Err(Wrong::Extension("ShutdownEventNotSupportedForInternalExtension"));
        }
        if self.extensions.len() >= EXTENSIONS_MAX || self.extensions.iter().any(|one| one.name == name) {
            return Err(Wrong::Extension("Extension.TooManyExtensions"));
        }
        self.expected.retain(|expected| expected != name);
        let id = uuid::Uuid::new_v4().to_string();
        self.extensions.push(Extension {
            id: id.clone(),
            name: name.to_owned(),
            wants,
            is_resting: false,
            events: VecDeque::new(),
            news: Arc::default(),
        });
        Ok(id)
    }

    pub(super) fn extension(&mut self, id: &str) -> Result<&mut Extension, Wrong> {
        let found = self.extensions.iter_mut().find(|one| one.id == id);
        found.ok_or(Wrong::Extension("Extension.UnknownExtensionIdentifier"))
    }

    /// The runtime has taken what was offered.
    pub(super) fn take(&mut self, phase: Phase) {
        self.phase = phase;
        (self.is_told, self.is_offered) = (false, false);
    }

    /// An invocation is on its way to the runtime: those who want to hear of it do.
    pub(super) fn begin(&mut self, offer: &Offer) {
        self.is_offered = std::mem::take(&mut self.is_told);
        let event = || {
            json!({
                "eventType": "INVOKE",
                "deadlineMs": offer.deadline_ms as u64,
                "requestId": offer.invocation.0,
                "invokedFunctionArn": offer.arn,
                "tracing": { "type": "X-Amzn-Trace-Id", "value": offer.trace_id },
            })
        };
        self.extensions.iter_mut().filter(|one| one.wants.invoke).for_each(|one| one.push(event()));
    }

    /// The sandbox is about to go. False: nobody wants to hear of it.
    pub(super) fn shut_down(&mut self, deadline_ms: u64) -> bool {
        let event =
            json!({ "eventType": "SHUTDOWN", "shutdownReason": "SPINDOWN", "deadlineMs": deadline_ms });
        let told = self.extensions.iter_mut().filter(|one| one.wants.shutdown);
        told.map(|one| one.push(event.clone())).count() > 0
    }
}

impl Extension {
    fn push(&mut self, event: Value) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
        self.news.notify_one();
    }

    /// It asks for an event: it has done what the last one was for.
    pub(super) fn rest(&mut self) {
        self.is_resting = self.events.is_empty();
    }

    pub(super) fn take(&mut self) -> Option<Value> {
        let event = self.events.pop_front();
        self.is_resting &= event.is_none();
        event
    }
}
