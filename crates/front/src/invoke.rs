//! Lambda's `Invoke`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use catalogue::LATEST;
use events::NewEvent;
use protocol::{FunctionName, InvocationId};
use serde::Deserialize;
use tracing::{Instrument, Span};

use crate::aws_error::AwsError;
use crate::body;
use crate::catalogue::{LiveCatalogue, Revision};
use crate::control::Control;
use crate::dispatch::{Dispatch, Ended, Request, arn};
use crate::event_queue::EventQueue;
use crate::log::{TailSlot, request_span};
use crate::names::{self, FunctionRef};
use crate::outcome::Outcome;
use crate::room::{Place, Room};
use crate::stream::Reply;

/// What Lambda takes as a request.
pub(crate) const REQUEST_BYTES_MAX: usize = 6 * 1024 * 1024;

/// What requests may hold in memory together: 512 of the largest, or 200,000 small ones, more than a machine has
/// sandboxes for.
const ROOM_BYTES: usize = 512 * REQUEST_BYTES_MAX;

/// What Lambda takes as client context. It reaches the runtime as a header, and runtimes have bounds for those.
const CLIENT_CONTEXT_BYTES_MAX: usize = 3583;

/// What every request needs.
#[derive(Clone)]
pub(crate) struct Door {
    dispatch: Dispatch,
    catalogue: LiveCatalogue,
    events: EventQueue,
    /// Knows why nobody answers under a name.
    control: Arc<Control>,
    region: Arc<str>,
    room: Room,
}

impl Door {
    pub(crate) fn new(
        dispatch: Dispatch,
        catalogue: LiveCatalogue,
        events: EventQueue,
        control: Arc<Control>,
        region: Arc<str>,
    ) -> Self {
        Self { dispatch, catalogue, events, control, region, room: Room::of(ROOM_BYTES) }
    }
}

#[derive(Deserialize)]
struct Qualifier {
    #[serde(rename = "Qualifier")]
    qualifier: Option<String>,
}

/// The route of the call.
pub(crate) async fn invoke(State(door): State<Door>, asked: Asked) -> Response {
    let invocation = InvocationId(uuid::Uuid::new_v4().to_string());
    let answered = door.answer(&invocation, asked).instrument(request_span(&invocation)).await;
    identified(invocation, answered)
}

/// The response to the client, who is told which invocation it was.
pub(crate) fn identified(invocation: InvocationId, answered: Result<Response, AwsError>) -> Response {
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    if let Ok(id) = HeaderValue::try_from(invocation.0) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

/// A request as it came in.
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) qualifier: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Response> {
        let (mut head, body) = request.into_parts();
        let name = Path::<String>::from_request_parts(&mut head, state).await;
        let Path(name) = name.map_err(IntoResponse::into_response)?;
        let query = Query::<Qualifier>::from_request_parts(&mut head, state).await;
        let Query(Qualifier { qualifier }) = query.map_err(IntoResponse::into_response)?;
        Ok(Self { name, qualifier, headers: head.headers, body })
    }
}

impl Door {
    async fn answer(&self, invocation: &InvocationId, asked: Asked) -> Result<Response, AwsError> {
        let mut place = self.place()?;
        let kind = asked.headers.get("x-amz-invocation-type").cloned();
        let tail = wants_tail(&asked.headers).then(TailSlot::default);
        let mut request = self.request(invocation, asked, &mut place).await?;
        match kind.as_ref().map(HeaderValue::as_bytes) {
            None | Some(b"RequestResponse") => {
                request.tail = tail.clone();
                let named = request.qualifier.clone();
                let ended = self.begin(request).await.whole().await;
                let response = self.response(ended, named.as_deref(), place)?;
                Ok(with_tail(response, tail))
            }
            Some(b"Event") => {
                self.events.accept(new_event(request)).await?;
                Ok(StatusCode::ACCEPTED.into_response())
            }
            Some(b"DryRun") => Ok(StatusCode::NO_CONTENT.into_response()),
            Some(_) => {
                Err(AwsError::invalid("X-Amz-Invocation-Type must be Event, RequestResponse or DryRun"))
            }
        }
    }

    /// Room for a request, until it is dropped.
    pub(crate) fn place(&self) -> Result<Place, AwsError> {
        Ok(self.room.enter()?)
    }

    /// Has it answered by whoever has the name that the client called.
    pub(crate) async fn begin(&self, request: Request) -> Reply {
        self.dispatch.begin_as_named(&self.catalogue, request).await
    }

    /// What is to be done for a request as it came in.
    pub(crate) async fn request(
        &self,
        invocation: &InvocationId,
        asked: Asked,
        place: &mut Place,
    ) -> Result<Request, AwsError> {
        self.find(&asked.name, asked.qualifier.as_deref()).await?; // Before megabytes are read for nothing,
        let payload = read_payload(asked.body, place).await?;
        let target = self.find(&asked.name, asked.qualifier.as_deref()).await?; // and again: a deploy may have come in between.
        Ok(request(invocation, target, payload, &asked.headers))
    }

    /// The same with a payload that is known to be JSON, for a function and a qualifier.
    pub(crate) async fn request_with(
        &self,
        invocation: &InvocationId,
        (name, qualifier): (&str, Option<&str>),
        headers: &HeaderMap,
        payload: Bytes,
    ) -> Result<Request, AwsError> {
        Ok(request(invocation, self.find(name, qualifier).await?, payload, headers))
    }

    async fn find(&self, name: &str, qualifier: Option<&str>) -> Result<Target, AwsError> {
        let FunctionRef { name, qualifier } = names::find(name, qualifier)?;
        match self.catalogue.resolve(&name, qualifier.as_deref(), random_share) {
            Some(revision) => Ok(Target { revision, qualifier }),
            None if self.control.fails(&name) => Err(self.why_nobody(name, qualifier).await),
            None => Err(self.not_found(&name, qualifier.as_deref())),
        }
    }

    /// Of a function that has lost something: which version is meant is on the disk.
    async fn why_nobody(&self, name: FunctionName, qualifier: Option<String>) -> AwsError {
        let control = Arc::clone(&self.control);
        let asked =
            tokio::task::spawn_blocking(move || control.why_nobody_answers(&name, qualifier.as_deref()));
        asked.await.unwrap_or_else(|error| AwsError::service(error.to_string()))
    }

    fn not_found(&self, name: &FunctionName, qualifier: Option<&str>) -> AwsError {
        let suffix = qualifier.filter(|text| *text != LATEST).map(|text| format!(":{text}"));
        let suffix = suffix.unwrap_or_default();
        AwsError::not_found(format!("Function not found: {}{suffix}", arn(&self.region, name)))
    }

    /// Why there is no answer to be read from the outcome; `None`: there is. `qualifier`: what the client named.
    pub(crate) fn refusal(&self, ended: &Ended, qualifier: Option<&str>) -> Option<AwsError> {
        Some(match &ended.outcome {
            Outcome::Answer { .. } | Outcome::FunctionError { .. } => return None,
            Outcome::Throttled(throttle) => AwsError::throttled(*throttle),
            Outcome::Removed => self.not_found(&ended.revision.function.name, qualifier),
            Outcome::ServiceError { message } => AwsError::service(message.clone()),
        })
    }

    fn response(&self, ended: Ended, qualifier: Option<&str>, place: Place) -> Result<Response, AwsError> {
        if let Some(refusal) = self.refusal(&ended, qualifier) {
            return Err(refusal);
        }
        let (payload, content_type, error) = match ended.outcome {
            Outcome::Answer { payload, content_type } => (payload, content_type, None),
            Outcome::FunctionError { payload, kind, .. } => {
                let word = if kind.as_deref() == Some("Handled") { "Handled" } else { "Unhandled" };
                (payload, "application/json".to_owned(), Some(word))
            }
            _ => (Bytes::new(), String::new(), None), // Refused above.
        };
        let mut response = Body::from(place.hold(payload)).into_response();
        let headers = response.headers_mut();
        if let Ok(version) = HeaderValue::try_from(ended.revision.version.to_string()) {
            headers.insert("x-amz-executed-version", version);
        }
        if let Ok(content_type) = HeaderValue::try_from(content_type) {
            headers.insert("content-type", content_type);
        }
        if let Some(error) = error {
            headers.insert("x-amz-function-error", HeaderValue::from_static(error));
        }
        Ok(response)
    }
}

/// Who is invoked, and under which version or alias.
struct Target {
    revision: Arc<Revision>,
    qualifier: Option<String>,
}

/// From 0 to less than 1. Without randomness the first of an alias' two versions answers.
pub(crate) fn random_share() -> f64 {
    const STEPS: u32 = 1 << 16; // Shares are given in hundredths.
    f64::from(getrandom::u32().unwrap_or(u32::MAX) % STEPS) / f64::from(STEPS)
}

/// What a function is called with, whatever it is.
pub(crate) async fn read_body(body: Body, place: &mut Place) -> Result<Bytes, AwsError> {
    let read = body::read(body, REQUEST_BYTES_MAX, place).await;
    read.map_err(|error| error.told(|| AwsError::too_large(REQUEST_BYTES_MAX)))
}

async fn read_payload(body: Body, place: &mut Place) -> Result<Bytes, AwsError> {
    let payload = read_body(body, place).await?;
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}")); // As Lambda does: no event is an empty event.
    }
    match body::work(&payload, |json| serde_json::from_slice::<serde::de::IgnoredAny>(json)).await {
        Ok(_) => Ok(payload),
        Err(error) => Err(AwsError::not_json(&error)),
    }
}

fn request(invocation: &InvocationId, target: Target, payload: Bytes, headers: &HeaderMap) -> Request {
    let trace_id = headers.get("x-amzn-trace-id").and_then(|value| value.to_str().ok());
    Request {
        invocation: invocation.clone(),
        revision: target.revision,
        qualifier: target.qualifier,
        payload,
        trace_id: trace_id.map_or_else(new_trace_id, str::to_owned),
        client_context: headers.get("x-amz-client-context").and_then(client_context),
        cognito_identity: headers.get("x-amz-cognito-identity").cloned(),
        tail: None,
        span: Span::current(),
    }
}

/// What is kept of a request that nobody waits for.
fn new_event(request: Request) -> NewEvent {
    let name = request.revision.function.name.clone();
    NewEvent {
        target: events::Target::Function { name, qualifier: request.qualifier },
        invocation: request.invocation,
        payload: request.payload,
        trace_id: request.trace_id,
        hops: 0,
    }
}

/// Whether the client asks for the end of the log. As Lambda, what is not `Tail` is taken for `None`.
pub(crate) fn wants_tail(headers: &HeaderMap) -> bool {
    headers.get("x-amz-log-type").is_some_and(|value| value == "Tail")
}

/// Adds the end of the log, where there is one.
fn with_tail(mut response: Response, tail: Option<TailSlot>) -> Response {
    let text = tail.and_then(|slot| slot.take()).map(|tail| crate::base64::encode(&tail));
    if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
        response.headers_mut().insert("x-amz-log-result", value);
    }
    response
}

/// Clients send it in base64, runtimes get it as JSON. What is neither is not passed on.
fn client_context(value: &HeaderValue) -> Option<HeaderValue> {
    if value.len() > CLIENT_CONTEXT_BYTES_MAX {
        return None;
    }
    let bytes = crate::base64::decode(value.as_bytes())?;
    HeaderValue::from_bytes(&bytes).ok()
}

/// In X-Ray's form; not sampled, for nobody collects it.
fn new_trace_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("Root=1-{:08x}-{};Sampled=0", seconds.as_secs() as u32, &random[..24])
}
