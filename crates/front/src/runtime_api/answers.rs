//! What a runtime says of the invocation that it has: an answer, or an error.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use protocol::InvocationId;
use serde_json::json;

use super::{
    Call, ERROR_BYTES_MAX, ERROR_KIND_MAX, ERROR_TYPE, Phase, RESPONSE_BYTES_MAX, RESPONSE_MODE,
    RuntimeEvent, Wrong, streaming,
};
use crate::body::{ReadError, TooLarge};
use crate::dispatch::Message;
use crate::outcome::{self, Outcome};

/// The right to answer an invocation, as long as the answer is read: megabytes are read once. An answer that breaks off
/// was none, and another may come.
struct Reading<'a> {
    call: &'a Call,
    invocation: InvocationId,
}

impl<'a> Reading<'a> {
    fn begin(call: &'a Call, invocation: &InvocationId) -> Result<Self, Wrong> {
        call.begin_answer(invocation, Phase::Reading)?;
        Ok(Reading { call, invocation: invocation.clone() })
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut desk = self.call.desk();
        if desk.phase == Phase::Reading(self.invocation.clone()) {
            desk.phase = Phase::Serving(self.invocation.clone());
        }
    }
}

pub(super) async fn response(
    State(call): State<Call>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Wrong> {
    let invocation = InvocationId(id);
    if headers.get(RESPONSE_MODE).is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"streaming")) {
        return streaming::respond(&call, invocation, content_type(&headers), body).await;
    }
    let _reading = Reading::begin(&call, &invocation)?;
    match call.read(body, RESPONSE_BYTES_MAX).await {
        Ok(payload) => {
            let outcome = Outcome::Answer { payload, content_type: content_type(&headers) };
            call.answer(invocation, outcome).await?;
            Ok(StatusCode::ACCEPTED)
        }
        Err(ReadError::TooLarge(TooLarge { len })) => {
            call.answer(invocation, outcome::too_large(len, RESPONSE_BYTES_MAX)).await?;
            Err(Wrong::TooLarge)
        }
        Err(error) => Err(error.into()),
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let said = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    said.unwrap_or("application/json").to_owned()
}

/// The kind of an error, as the runtime calls it.
pub(super) fn error_kind(headers: &HeaderMap, name: &str) -> Option<String> {
    let said = headers.get(name).and_then(|value| value.to_str().ok())?;
    Some(said.chars().take(ERROR_KIND_MAX).collect())
}

pub(super) async fn error(
    State(call): State<Call>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Wrong> {
    let invocation = InvocationId(id);
    let _reading = Reading::begin(&call, &invocation)?;
    let payload = call.read(body, ERROR_BYTES_MAX).await?;
    call.answer(invocation, outcome::function_error(payload, error_kind(&headers, ERROR_TYPE))).await?;
    Ok(StatusCode::ACCEPTED)
}

impl Call {
    /// Fails unless the sandbox has this invocation, and has not begun to answer it.
    pub(super) fn begin_answer(
        &self,
        invocation: &InvocationId,
        phase: impl FnOnce(InvocationId) -> Phase,
    ) -> Result<(), Wrong> {
        let mut desk = self.desk();
        match &desk.phase {
            Phase::Serving(current) if current == invocation => {
                desk.phase = phase(invocation.clone());
                Ok(())
            }
            Phase::Reading(last) | Phase::Streaming(last) | Phase::Answered(last) if last == invocation => {
                Err(Wrong::Order)
            }
            _ => Err(Wrong::Id),
        }
    }

    /// Reported in the moment in which it counts as answered: whatever the sandbox does then comes after, also if it
    /// does not wait for our 202.
    pub(super) async fn answer(&self, invocation: InvocationId, outcome: Outcome) -> Result<(), Wrong> {
        let place = self.messages.reserve().await.map_err(|_| Wrong::Closed)?;
        let mut desk = self.desk();
        match &desk.phase {
            Phase::Reading(current) | Phase::Streaming(current) if *current == invocation => {}
            _ => return Err(Wrong::Order),
        }
        desk.phase = Phase::Answered(invocation.clone());
        self.telemetry.platform("runtimeDone", || {
            let status = if matches!(outcome, Outcome::Answer { .. }) { "success" } else { "failure" };
            json!({ "requestId": invocation.0, "status": status })
        });
        let event = RuntimeEvent::Answered { invocation, outcome };
        place.send(Message::Runtime { sandbox: self.sandbox, event });
        Ok(())
    }
}
