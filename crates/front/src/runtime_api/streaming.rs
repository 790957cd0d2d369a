//! An answer that comes piece by piece: passed on as it comes, with what the runtime says at its end.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use protocol::InvocationId;

use super::answers::error_kind;
use super::{Call, ERROR_TYPE, Phase, RuntimeEvent, Wrong};
use crate::outcome::{self, Outcome};
use crate::stream::{self, Beginning, ChunkSender};
use crate::{base64, body};

/// The longest answer, Lambda's.
pub(super) const STREAM_BYTES_MAX: u64 = 200 * 1024 * 1024;

/// In the trailer of an answer that failed on the way: the error as JSON, in base64.
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

/// How an answer ended, as far as the runtime said.
enum End {
    Whole,
    /// It failed on the way.
    Failed(HeaderMap),
    TooLarge(u64),
}

/// Passes the answer on. A connection that breaks off is no end: the process dies, or its time runs out, and
/// that is what the client is told.
pub(super) async fn respond(
    call: &Call,
    invocation: InvocationId,
    content_type: String,
    mut body: Body,
) -> Result<StatusCode, Wrong> {
    call.begin_answer(&invocation, Phase::Streaming)?;
    let (sender, chunks) = stream::channel();
    let beginning = Beginning { content_type: content_type.clone(), chunks };
    call.report(RuntimeEvent::Answering { invocation: invocation.clone(), beginning }).await?;
    let (outcome, status) = match pass_on(&mut body, &sender).await? {
        End::Whole => {
            (Outcome::Answer { payload: bytes::Bytes::new(), content_type }, Ok(StatusCode::ACCEPTED))
        }
        End::Failed(trailers) => (failure(&trailers), Ok(StatusCode::ACCEPTED)),
        End::TooLarge(len) => (outcome::too_large(len, STREAM_BYTES_MAX as usize), Err(Wrong::TooLarge)),
    };
    drop(sender); // The client reads to the end of the pieces, and then how it ended.
    call.answer(invocation, outcome).await?;
    if status.is_err() {
        body::discard(body).await;
    }
    status
}

/// A client that reads slowly holds the function back; what one that has gone would have read is thrown away.
async fn pass_on(body: &mut Body, sender: &ChunkSender) -> Result<End, Wrong> {
    let (mut len, mut trailers) = (0, HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| Wrong::Closed)?.into_data() {
            Ok(data) => {
                len += data.len() as u64;
                if len > STREAM_BYTES_MAX {
                    return Ok(End::TooLarge(len));
                }
                if !data.is_empty() {
                    drop(sender.send(data).await);
                }
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok(if trailers.contains_key(ERROR_TYPE) { End::Failed(trailers) } else { End::Whole })
}

fn failure(trailers: &HeaderMap) -> Outcome {
    let said = trailers.get(ERROR_BODY).and_then(|value| base64::decode(value.as_bytes()));
    outcome::function_error(said.unwrap_or_default().into(), error_kind(trailers, ERROR_TYPE))
}
