//! `InvokeWithResponseStream`: the answer goes out as an event stream, piece by piece.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use protocol::InvocationId;
use tracing::Instrument;

use crate::aws_error::AwsError;
use crate::dispatch::Ended;
use crate::event_stream::{Failure, invoke_complete, payload_chunk};
use crate::invoke::{Asked, Door, identified, wants_tail};
use crate::log::{TailSlot, request_span};
use crate::outcome::Outcome;
use crate::room::Place;
use crate::stream::{PIECES_BYTES_MAX, Reply, Stream};

/// The route of the call.
pub(crate) async fn invoke(State(door): State<Door>, asked: Asked) -> Response {
    let invocation = InvocationId(uuid::Uuid::new_v4().to_string());
    let answered = answer(&door, &invocation, asked).instrument(request_span(&invocation)).await;
    identified(invocation, answered)
}

async fn answer(door: &Door, invocation: &InvocationId, asked: Asked) -> Result<Response, AwsError> {
    let mut place = door.place()?;
    let kind = asked.headers.get("x-amz-invocation-type").map(HeaderValue::as_bytes);
    if !matches!(kind, None | Some(b"RequestResponse" | b"DryRun")) {
        return Err(AwsError::invalid("X-Amz-Invocation-Type must be RequestResponse or DryRun"));
    }
    let is_dry = kind == Some(b"DryRun");
    let tail = wants_tail(&asked.headers).then(TailSlot::default);
    let mut request = door.request(invocation, asked, &mut place).await?;
    request.tail = tail.clone();
    if is_dry {
        return Ok(axum::http::StatusCode::NO_CONTENT.into_response());
    }
    let named = request.qualifier.clone();
    let (version, events) = match door.begin(request).await {
        Reply::Whole(ended) => match door.refusal(&ended, named.as_deref()) {
            Some(refusal) => return Err(refusal),
            None => (ended.revision.version, Body::from(place.hold(whole(ended, tail.as_ref())))),
        },
        Reply::Stream(stream) => {
            let place = place.instead(PIECES_BYTES_MAX);
            (stream.revision.version, Body::from_stream(events(stream, tail, place)))
        }
    };
    let mut response = events.into_response();
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/vnd.amazon.eventstream"));
    if let Ok(version) = HeaderValue::try_from(version.to_string()) {
        headers.insert("x-amz-executed-version", version);
    }
    Ok(response)
}

/// An answer that came at once, as the events of a short stream.
fn whole(ended: Ended, tail: Option<&TailSlot>) -> Bytes {
    match ended.outcome {
        Outcome::Answer { payload, .. } => {
            let end = invoke_complete(None, tail_text(tail));
            [payload_chunk(&payload), end].concat().into()
        }
        failed => end(failed, tail),
    }
}

/// Where a stream of events stands.
enum Stand {
    /// Its pieces, and their room.
    Open(Stream, Option<TailSlot>, Place),
    Ended,
}

fn events(
    stream: Stream,
    tail: Option<TailSlot>,
    place: Place,
) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(Stand::Open(stream, tail, place), |stand| async {
        let Stand::Open(mut stream, tail, place) = stand else { return None };
        Some(match stream.chunks.recv().await {
            Some(chunk) => (Ok(payload_chunk(&chunk)), Stand::Open(stream, tail, place)),
            None => (Ok(end(stream.ended().await, tail.as_ref())), Stand::Ended),
        })
    })
}

/// The last event.
fn end(outcome: Outcome, tail: Option<&TailSlot>) -> Bytes {
    let failure = match outcome {
        Outcome::Answer { .. } => None,
        Outcome::FunctionError { payload, kind, .. } => Some(Failure {
            code: kind.unwrap_or_else(|| "Unhandled".to_owned()),
            details: String::from_utf8_lossy(&payload).into_owned(),
        }),
        Outcome::Throttled(_) | Outcome::Removed => None, // Not after a beginning.
        Outcome::ServiceError { message } => {
            Some(Failure { code: "ServiceException".to_owned(), details: message })
        }
    };
    invoke_complete(failure, tail_text(tail))
}

fn tail_text(tail: Option<&TailSlot>) -> Option<String> {
    tail.and_then(TailSlot::take).map(|tail| crate::base64::encode(&tail))
}
