//! Snapshot hooks: what a function does before its memory is put away for the first time, and after it came back.
//!
//! A runtime that was told of them (`AWS_LAMBDA_INITIALIZATION_TYPE=snap-start`) runs the first ones after its
//! initialisation and waits here; the answer comes with the first invocation, and it runs the others.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::answers::error_kind;
use super::{Call, ERROR_BYTES_MAX, ERROR_TYPE, Phase, RuntimeEvent, Wrong};
use crate::outcome;

pub(super) async fn next(State(call): State<Call>) -> Result<StatusCode, Wrong> {
    {
        let mut desk = call.desk();
        if !matches!(desk.phase, Phase::Init | Phase::Snapshot) {
            return Err(Wrong::Order);
        }
        desk.phase = Phase::Snapshot;
    }
    call.report_if_ready().await?;
    let offer = call.offers.lock().await.recv().await.ok_or(Wrong::Closed)?;
    let mut desk = call.desk();
    desk.pending = Some((offer, Instant::now()));
    desk.take(Phase::Restoring);
    Ok(StatusCode::OK)
}

pub(super) async fn error(
    State(call): State<Call>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Wrong> {
    let payload = call.read(body, ERROR_BYTES_MAX).await?;
    let (offer, _) = {
        let mut desk = call.desk();
        let pending = desk.pending.take().ok_or(Wrong::Order)?;
        desk.phase = Phase::Failed;
        pending
    };
    let outcome = outcome::function_error(payload.clone(), error_kind(&headers, ERROR_TYPE));
    call.report(RuntimeEvent::Answered { invocation: offer.invocation, outcome }).await?;
    call.report(RuntimeEvent::Failed(payload)).await?;
    Ok(StatusCode::ACCEPTED)
}
