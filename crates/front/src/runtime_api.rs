//! The AWS Lambda Runtime API, one listener for each sandbox: the address says who is calling. It passes
//! invocations in and answers out; which invocation, and what becomes of it, is `dispatch`'s.
//!
//! A sandbox that sleeps does so in the middle of `next`: its connection stays open, and nothing is written to it
//! before it woke, because nothing is offered before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::serve::ListenerExt;
use bytes::Bytes;
use protocol::{InvocationId, SandboxId};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::body::{self, ReadError};
use crate::connections;
use crate::dispatch::Message;
use crate::outcome::Outcome;
use crate::room::Room;
use crate::stream::Beginning;
use desk::{Desk, Phase};
pub(crate) use link::{INSIDE_PORT, Link};
pub(crate) use telemetry::Telemetry;

/// What Lambda takes as an answer: 6 MiB and a little for what wraps it.
pub(crate) const RESPONSE_BYTES_MAX: usize = 6 * 1024 * 1024 + 100;

/// An error report is text; Lambda shows 256 KB of it at most.
const ERROR_BYTES_MAX: usize = 256 * 1024;

/// What all bodies of one sandbox may take in memory while they are read: its answer, and some reports.
const BODIES_BYTES_MAX: usize = RESPONSE_BYTES_MAX + 8 * ERROR_BYTES_MAX;

/// How long a sandbox that is dead is listened to: what it has said lies in the kernel.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// How a runtime says that its answer comes piece by piece.
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";

/// The kind of an error: a header of errors, and a trailer of answers that failed on the way.
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

/// Characters of it that are passed on; runtimes send class names.
const ERROR_KIND_MAX: usize = 256;

/// An invocation on its way into a sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) invocation: InvocationId,
    pub(crate) payload: Bytes,
    /// Milliseconds since 1970.
    pub(crate) deadline_ms: u128,
    pub(crate) arn: String,
    pub(crate) trace_id: String,
    /// As the client sent them.
    pub(crate) client_context: Option<HeaderValue>,
    pub(crate) cognito_identity: Option<HeaderValue>,
}

/// What the sandbox did.
#[derive(Debug)]
pub(crate) enum RuntimeEvent {
    /// It asks for an invocation.
    Ready,
    /// The same, in the middle of its snapshot hooks.
    Snapshot,
    /// It has run its hooks and got the invocation that was offered before.
    Restored { invocation: InvocationId },
    /// It answers the invocation it has, piece by piece.
    Answering { invocation: InvocationId, beginning: Beginning },
    /// It answered the invocation it has, and this is the end of it.
    Answered { invocation: InvocationId, outcome: Outcome },
    /// It cannot initialise; this is its report.
    InitError(Bytes),
    /// It is of no use any more; this is its report.
    Failed(Bytes),
}

/// What the processes of a sandbox are told about it, and what is expected of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) function: String,
    pub(crate) version: String,
    pub(crate) handler: String,
    /// Extensions that were started with it: it is not ready before they are.
    pub(crate) extensions: Vec<String>,
}

/// The server of one sandbox. Dropping it closes the listener and every connection.
pub(crate) struct RuntimeApi {
    offers: mpsc::Sender<Offer>,
    desk: Arc<Mutex<Desk>>,
    telemetry: Telemetry,
    server: AbortHandle,
}

impl RuntimeApi {
    /// Serves it. The sandbox may be connected already: the kernel keeps its request until now. Beside it: what to await
    /// when the sandbox is dead, until all that it has said was heard.
    pub(crate) fn serve(
        link: Link,
        sandbox: SandboxId,
        about: About,
        messages: mpsc::Sender<Message>,
    ) -> (RuntimeApi, impl Future<Output = ()> + Send + use<>) {
        let (visitors, way_in) = link.split();
        let (offers, taken) = mpsc::channel(1); // A sandbox has one invocation at a time.
        let desk = Arc::new(Mutex::new(Desk::new(&about)));
        let telemetry = Telemetry::new(way_in);
        let call = Call {
            telemetry: telemetry.clone(),
            sandbox,
            about: Arc::new(about),
            desk: Arc::clone(&desk),
            offers: Arc::new(tokio::sync::Mutex::new(taken)),
            messages,
            room: Room::of(BODIES_BYTES_MAX),
        };
        let visitors = visitors.tap_io(|stream| {
            // Head and body are two writes: Nagle's algorithm would hold the second back for 40 ms.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
        });
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(connections::serve_sandbox(visitors, router(call), stopped));
        let api = RuntimeApi { offers, desk, telemetry, server: server.abort_handle() };
        let heard = async move {
            stop.send_replace(true);
            drop(tokio::time::timeout(LAST_WORDS_MAX, server).await);
        };
        (api, heard)
    }

    /// Hands over an invocation; false if the sandbox has not taken the one before.
    pub(crate) fn offer(&self, offer: Offer) -> bool {
        let mut desk = lock(&self.desk);
        let Ok(place) = self.offers.try_reserve() else { return false };
        desk.begin(&offer); // Before the runtime can be through with it.
        self.telemetry.platform(
            "start",
            || json!({ "requestId": offer.invocation.0, "tracing": { "value": offer.trace_id } }),
        );
        self.telemetry.work();
        place.send(offer);
        true
    }

    /// Where what happens in the sandbox is told.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Tells extensions that the sandbox will go at this time, in milliseconds since 1970. False: none wants to hear.
    pub(crate) fn shut_down(&self, deadline_ms: u64) -> bool {
        lock(&self.desk).shut_down(deadline_ms)
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
        self.telemetry.close();
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every call needs.
#[derive(Clone)]
struct Call {
    sandbox: SandboxId,
    about: Arc<About>,
    telemetry: Telemetry,
    desk: Arc<Mutex<Desk>>,
    offers: Arc<tokio::sync::Mutex<mpsc::Receiver<Offer>>>,
    messages: mpsc::Sender<Message>,
    room: Room,
}

fn router(call: Call) -> Router {
    Router::new()
        .route("/2018-06-01/ping", get(|| async { "pong" }))
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(answers::response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(answers::error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .route("/2018-06-01/runtime/restore/next", get(restore::next))
        .route("/2018-06-01/runtime/restore/error", post(restore::error))
        .route("/2020-01-01/extension/register", post(extensions::register))
        .route("/2020-01-01/extension/event/next", get(extensions::next))
        .route("/2020-01-01/extension/init/error", post(extensions::init_error))
        .route("/2020-01-01/extension/exit/error", post(extensions::exit_error))
        .route("/2022-07-01/telemetry", put(telemetry::subscribe))
        .route("/2020-08-15/logs", put(telemetry::subscribe))
        .with_state(call)
}

async fn next(State(call): State<Call>) -> Result<Response, Wrong> {
    if let Some(offer) = call.restored() {
        call.report(RuntimeEvent::Restored { invocation: offer.invocation.clone() }).await?;
        return invocation_response(offer);
    }
    let replaced = {
        let mut desk = call.desk();
        match desk.phase {
            // Waiting: asked again after its connection broke.
            Phase::Init | Phase::Answered(_) | Phase::Waiting => desk.wait(),
            _ => return Err(Wrong::Order),
        }
    };
    call.report_if_ready().await?;
    let offer = tokio::select! {
        biased;
        _ = replaced => return Err(Wrong::Order), // One waits: who asked last.
        offer = async { call.offers.lock().await.recv().await } => offer.ok_or(Wrong::Closed)?,
    };
    call.desk().take(Phase::Serving(offer.invocation.clone()));
    invocation_response(offer)
}

fn invocation_response(offer: Offer) -> Result<Response, Wrong> {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, text: String| {
        let value = HeaderValue::try_from(text).map_err(|_| Wrong::Closed)?; // Ours are all plain ASCII.
        headers.insert(name, value);
        Ok::<_, Wrong>(())
    };
    set("lambda-runtime-aws-request-id", offer.invocation.0)?;
    set("lambda-runtime-deadline-ms", offer.deadline_ms.to_string())?;
    set("lambda-runtime-invoked-function-arn", offer.arn)?;
    set("lambda-runtime-trace-id", offer.trace_id)?;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        ("lambda-runtime-client-context", offer.client_context),
        ("lambda-runtime-cognito-identity", offer.cognito_identity),
    ] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    Ok((headers, offer.payload).into_response())
}

async fn init_error(State(call): State<Call>, body: Body) -> Result<StatusCode, Wrong> {
    let payload = call.read(body, ERROR_BYTES_MAX).await?;
    {
        let mut desk = call.desk();
        if desk.phase != Phase::Init {
            return Err(Wrong::Order);
        }
        desk.phase = Phase::Failed;
    }
    call.report(RuntimeEvent::InitError(payload)).await?;
    Ok(StatusCode::ACCEPTED)
}

impl Call {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    async fn read(&self, body: Body, limit: usize) -> Result<Bytes, ReadError> {
        let mut place = self.room.enter().map_err(|_| ReadError::NoRoom)?;
        body::of_sandbox(body, limit, &mut place).await
    }

    /// The invocation that was offered before the hooks ran; the function's time starts now.
    fn restored(&self) -> Option<Offer> {
        let mut desk = self.desk();
        let (mut offer, since) = desk.pending.take()?;
        offer.deadline_ms += since.elapsed().as_millis();
        desk.phase = Phase::Serving(offer.invocation.clone());
        Some(offer)
    }

    /// Called whenever somebody has come to rest.
    async fn report_if_ready(&self) -> Result<(), Wrong> {
        let event = {
            let mut desk = self.desk();
            let is_news = desk.is_news();
            if is_news {
                self.telemetry.initialised();
                self.telemetry.rest();
            }
            match (is_news, &desk.phase) {
                (false, _) => return Ok(()),
                (true, Phase::Snapshot) => RuntimeEvent::Snapshot,
                (true, _) => RuntimeEvent::Ready,
            }
        };
        self.report(event).await
    }

    async fn report(&self, event: RuntimeEvent) -> Result<(), Wrong> {
        let message = Message::Runtime { sandbox: self.sandbox, event };
        self.messages.send(message).await.map_err(|_| Wrong::Closed)
    }
}

/// What the sandbox did wrong.
#[derive(Debug)]
enum Wrong {
    Id,
    Order,
    TooLarge,
    Closed,
    /// What an extension did wrong, in Lambda's words.
    Extension(&'static str),
}

impl From<ReadError> for Wrong {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge(_) | ReadError::NoRoom => Wrong::TooLarge,
            ReadError::TooSlow | ReadError::Broken => Wrong::Closed,
        }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let (status, kind, message) = match self {
            Wrong::Id => (StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID".to_owned()),
            Wrong::Order => {
                (StatusCode::FORBIDDEN, "InvalidStateTransition", "Transition is not allowed".to_owned())
            }
            Wrong::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                format!("Exceeded maximum allowed payload size ({RESPONSE_BYTES_MAX} bytes)."),
            ),
            Wrong::Extension(kind) => (StatusCode::FORBIDDEN, kind, "Extension not served".to_owned()),
            Wrong::Closed => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Shutting down".to_owned())
            }
        };
        let body = serde_json::json!({ "errorType": kind, "errorMessage": message });
        (status, axum::Json(body)).into_response()
    }
}

mod answers;
mod desk;
mod extensions;
mod link;
mod restore;
mod streaming;
mod telemetry;
#[cfg(test)]
mod tests;
