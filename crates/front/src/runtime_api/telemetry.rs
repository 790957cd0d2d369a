//! Telemetry: what extensions can subscribe to, pushed over HTTP into their sandbox while it has something to do. What
//! comes while it rests is kept for the next time: nobody writes to a sandbox that may sleep.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::link::{Turn, WayIn};
use super::{Call, Phase, Wrong, extensions};

/// A subscription is a few words.
const SUBSCRIBE_BYTES_MAX: usize = 16 * 1024;

/// Events that wait for one subscriber, or for the first one; the oldest go first. Lambda's largest `maxItems`.
const WAITING_MAX: usize = 10_000;

/// Bytes of them; Lambda's largest `maxBytes`.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// How long events wait for more; Lambda's largest `timeoutMs`.
const TIMEOUT_MS_MAX: u64 = 30_000;

/// How long a subscriber may take to answer.
const PUSH_MAX: Duration = Duration::from_secs(1);

/// What an event is about, in the words of subscriptions.
const KINDS: [&str; 3] = ["platform", "function", "extension"];

/// The telemetry of one sandbox. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub(crate) struct Telemetry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    books: Mutex<Books>,
    news: Notify,
    way_in: WayIn,
}

#[derive(Default)]
struct Books {
    /// What came before anybody subscribed, while it could still be subscribed.
    early: Waiting,
    subscribers: Vec<Subscriber>,
    /// It is past its initialisation, so that nobody can subscribe any more.
    is_closed: bool,
    is_at_rest: bool,
    is_gone: bool,
}

/// The place of an extension that had no subscription before: nobody pushes to it yet.
struct IsFirst(Option<usize>);

/// What there is to do for a subscriber.
enum Next {
    /// Nothing before there is news.
    Later,
    /// A push, once this time has passed.
    After(Duration),
}

/// What one extension wants to hear.
struct Subscriber {
    extension: String,
    kinds: Vec<String>,
    buffering: Buffering,
    destination: Destination,
    waiting: Waiting,
}

/// Events in their order, with their kinds.
#[derive(Clone, Default)]
struct Waiting {
    events: VecDeque<(&'static str, String)>,
    bytes: usize,
}

#[derive(Clone)]
struct Destination {
    port: u16,
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    types: Vec<String>,
    #[serde(default)]
    buffering: Buffering,
    destination: Address,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "URI", alias = "uri")]
    uri: String,
}

/// When events are pushed; Lambda's defaults.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Buffering {
    max_items: usize,
    max_bytes: usize,
    timeout_ms: u64,
}

impl Default for Buffering {
    fn default() -> Self {
        Self { max_items: 10_000, max_bytes: 262_144, timeout_ms: 1000 }
    }
}

/// `PUT /2022-07-01/telemetry`, and the older `PUT /2020-08-15/logs`.
pub(super) async fn subscribe(
    State(call): State<Call>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, &'static str), Wrong> {
    let id = extensions::identifier(&headers)?;
    let body = call.read(body, SUBSCRIBE_BYTES_MAX).await?;
    {
        let mut desk = call.desk();
        desk.extension(&id)?;
        if !matches!(desk.phase, Phase::Init | Phase::Waiting | Phase::Snapshot) {
            return Err(Wrong::Order);
        }
    }
    let wrong = || Wrong::Extension("Telemetry.InvalidSubscription");
    let asked: Subscription = serde_json::from_slice(&body).map_err(|_| wrong())?;
    let destination = Destination::parse(&asked.destination.uri).ok_or_else(wrong)?;
    let is_known = |kind: &String| KINDS.contains(&kind.as_str());
    if asked.types.is_empty() || !asked.types.iter().all(is_known) {
        return Err(wrong());
    }
    let is_first = call.telemetry.subscribe(id, asked, destination).ok_or(Wrong::Order)?;
    if let IsFirst(Some(place)) = is_first {
        tokio::spawn(call.telemetry.clone().push(place));
    }
    Ok((StatusCode::OK, "OK"))
}

impl Destination {
    /// Extensions know their sandbox by Amazon's names for it. Other hosts are not ours to write to.
    fn parse(uri: &str) -> Option<Destination> {
        let uri: Uri = uri.parse().ok()?;
        let is_own = matches!(uri.host()?, "sandbox" | "sandbox.localdomain" | "localhost" | "127.0.0.1");
        let is_http = uri.scheme_str() == Some("http");
        let path = uri.path().to_owned();
        (is_own && is_http).then_some(Destination { port: uri.port_u16()?, path })
    }
}

impl Telemetry {
    pub(super) fn new(way_in: WayIn) -> Telemetry {
        Telemetry(Arc::new(Inner { way_in, ..Inner::default() }))
    }

    /// A line that a process of the sandbox printed.
    pub(crate) fn line(&self, line: &[u8]) {
        self.tell("function", "function", || String::from_utf8_lossy(line).into_owned().into());
    }

    /// Something that the platform did.
    pub(crate) fn platform(&self, what: &str, record: impl FnOnce() -> Value) {
        self.tell("platform", &format!("platform.{what}"), record);
    }

    fn tell(&self, kind: &'static str, what: &str, record: impl FnOnce() -> Value) {
        let mut books = self.books();
        if books.is_closed && books.subscribers.is_empty() {
            return; // The usual case costs nothing.
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let event = json!({ "time": time, "type": what, "record": record() }).to_string();
        if !books.is_closed {
            books.early.push(kind, event.clone());
        }
        let wanted = |one: &&mut Subscriber| one.kinds.iter().any(|wanted| wanted == kind);
        books.subscribers.iter_mut().filter(wanted).for_each(|one| one.waiting.push(kind, event.clone()));
        drop(books);
        self.0.news.notify_waiters();
    }

    /// All wait for the first time; told once.
    pub(super) fn initialised(&self) {
        let is_first = !self.books().is_closed;
        if is_first {
            self.platform("initRuntimeDone", || json!({ "phase": "init", "status": "success" }));
        }
    }

    /// The sandbox has come to rest, and its initialisation is over.
    pub(super) fn rest(&self) {
        let mut books = self.books();
        (books.is_at_rest, books.is_closed) = (true, true);
        books.early = Waiting::default();
    }

    /// It has something to do.
    pub(super) fn work(&self) {
        self.books().is_at_rest = false;
        self.0.news.notify_waiters();
    }

    /// An extension has one subscription: the last. `None`: too late.
    fn subscribe(&self, extension: String, asked: Subscription, destination: Destination) -> Option<IsFirst> {
        let mut books = self.books();
        if books.is_closed {
            return None;
        }
        let mut waiting = books.early.clone();
        waiting.keep(|kind| asked.types.iter().any(|wanted| wanted == kind));
        let (kinds, buffering) = (asked.types, asked.buffering);
        let place = books.subscribers.iter().position(|one| one.extension == extension);
        let subscriber = Subscriber { extension, kinds, buffering, destination, waiting };
        Some(match place {
            Some(place) => {
                books.subscribers[place] = subscriber;
                self.0.news.notify_waiters();
                IsFirst(None)
            }
            None => {
                books.subscribers.push(subscriber);
                IsFirst(Some(books.subscribers.len() - 1))
            }
        })
    }

    /// The sandbox is gone.
    pub(super) fn close(&self) {
        self.books().is_gone = true;
        self.0.news.notify_waiters();
    }

    /// Pushes to one subscriber as long as the sandbox lives. What could not be pushed is tried again.
    async fn push(self, place: usize) {
        loop {
            let news = self.0.news.notified();
            tokio::pin!(news);
            news.as_mut().enable(); // What comes after the look below is heard of.
            match self.next_push(place) {
                None => return,
                Some(Next::Later) => news.await,
                Some(Next::After(pause)) => {
                    tokio::time::sleep(pause).await;
                    if !self.push_once(place).await {
                        tokio::time::sleep(PUSH_MAX).await;
                    }
                }
            }
        }
    }

    /// False: it is to be tried again.
    async fn push_once(&self, place: usize) -> bool {
        let turn = self.0.way_in.turn().await; // Subscribers of a cell wait for each other.
        let Some((destination, batch)) = self.take(place) else { return true };
        let pushed = tokio::time::timeout(PUSH_MAX, destination.post(&turn, &batch)).await;
        let is_pushed = matches!(pushed, Ok(Some(())));
        if !is_pushed {
            self.put_back(place, batch);
        }
        is_pushed
    }

    fn next_push(&self, place: usize) -> Option<Next> {
        let books = self.books();
        let one = books.subscribers.get(place).filter(|_| !books.is_gone)?;
        let Buffering { max_items, max_bytes, timeout_ms } = one.buffering;
        let waiting = &one.waiting;
        Some(if books.is_at_rest || waiting.events.is_empty() {
            Next::Later
        } else if waiting.events.len() >= max_items || waiting.bytes >= max_bytes {
            Next::After(Duration::ZERO)
        } else {
            Next::After(Duration::from_millis(timeout_ms.min(TIMEOUT_MS_MAX)))
        })
    }

    /// What is pushed at once; nothing to who has come to rest meanwhile.
    fn take(&self, place: usize) -> Option<(Destination, Waiting)> {
        let mut books = self.books();
        if books.is_at_rest {
            return None;
        }
        let one = books.subscribers.get_mut(place)?;
        let Buffering { max_items, max_bytes, .. } = one.buffering;
        let mut batch = Waiting::default();
        while batch.events.len() < max_items.max(1)
            && (batch.events.is_empty() || batch.bytes < max_bytes)
            && let Some((kind, event)) = one.waiting.pop()
        {
            batch.push(kind, event);
        }
        (!batch.events.is_empty()).then(|| (one.destination.clone(), batch))
    }

    fn put_back(&self, place: usize, mut batch: Waiting) {
        let mut books = self.books();
        let Some(one) = books.subscribers.get_mut(place) else { return };
        while let Some((kind, event)) = one.waiting.pop() {
            batch.push(kind, event);
        }
        one.waiting = batch;
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, kind: &'static str, event: String) {
        self.bytes += event.len();
        self.events.push_back((kind, event));
        while self.events.len() > WAITING_MAX || self.bytes > WAITING_BYTES_MAX {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<(&'static str, String)> {
        let (kind, event) = self.events.pop_front()?;
        self.bytes -= event.len();
        Some((kind, event))
    }

    fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.events.retain(|(kind, _)| wanted(kind));
        self.bytes = self.events.iter().map(|(_, event)| event.len()).sum();
    }

    fn json(&self) -> String {
        let events: Vec<_> = self.events.iter().map(|(_, event)| event.as_str()).collect();
        format!("[{}]", events.join(","))
    }
}

impl Destination {
    /// `None`: it was not taken.
    async fn post(&self, turn: &Turn<'_>, batch: &Waiting) -> Option<()> {
        let stream = turn.connect(self.port).await.ok()?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let request = axum::http::Request::post(&self.path)
            .header("host", "sandbox.localdomain")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(batch.json())))
            .ok()?;
        let response = sender.send_request(request).await;
        connection.abort();
        response.ok()?.status().is_success().then_some(())
    }
}
