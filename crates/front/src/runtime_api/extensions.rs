//! Extensions: processes beside the runtime that hear of invocations and of the end.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::desk::Wants;
use super::{Call, ERROR_BYTES_MAX, Phase, RuntimeEvent, Wrong};

/// Says which extension is calling.
const IDENTIFIER: &str = "lambda-extension-identifier";

/// How an extension calls itself when it registers: by the name of its file.
const NAME: &str = "lambda-extension-name";

/// A list of two words needs less.
const REGISTER_BYTES_MAX: usize = 4096;

#[derive(Deserialize)]
struct Register {
    #[serde(default)]
    events: Vec<String>,
}

pub(super) async fn register(
    State(call): State<Call>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Wrong> {
    let name = headers.get(NAME).and_then(|name| name.to_str().ok());
    let name = name.ok_or(Wrong::Extension("Extension.MissingExtensionName"))?.to_owned();
    let body = call.read(body, REGISTER_BYTES_MAX).await?;
    let Register { events } =
        serde_json::from_slice(&body).map_err(|_| Wrong::Extension("InvalidRequestFormat"))?;
    let mut wants = Wants::default();
    for event in events {
        match event.as_str() {
            "INVOKE" => wants.invoke = true,
            "SHUTDOWN" => wants.shutdown = true,
            _ => return Err(Wrong::Extension("Extension.InvalidEventType")),
        }
    }
    let id = call.desk().register(&name, wants)?;
    let about = &call.about;
    let said = json!({
        "functionName": about.function, "functionVersion": about.version, "handler": about.handler,
    });
    let mut response = axum::Json(said).into_response();
    let id = HeaderValue::try_from(id).map_err(|_| Wrong::Closed)?; // Ours are plain ASCII.
    response.headers_mut().insert(IDENTIFIER, id);
    Ok(response)
}

/// The id in the request.
pub(super) fn identifier(headers: &HeaderMap) -> Result<String, Wrong> {
    let id = headers.get(IDENTIFIER).and_then(|id| id.to_str().ok());
    id.map(str::to_owned).ok_or(Wrong::Extension("Extension.MissingExtensionIdentifier"))
}

pub(super) async fn next(State(call): State<Call>, headers: HeaderMap) -> Result<Response, Wrong> {
    let id = identifier(&headers)?;
    call.desk().extension(&id)?.rest();
    call.report_if_ready().await?;
    loop {
        let news = {
            let mut desk = call.desk();
            let extension = desk.extension(&id)?;
            if let Some(event) = extension.take() {
                return Ok(axum::Json(event).into_response());
            }
            std::sync::Arc::clone(&extension.news)
        };
        news.notified().await;
    }
}

pub(super) async fn init_error(
    State(call): State<Call>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Wrong> {
    let payload = failed(&call, &headers, body).await?;
    call.desk().phase = Phase::Failed;
    call.report(RuntimeEvent::InitError(payload)).await?;
    Ok(accepted())
}

/// The sandbox is of no use any more.
pub(super) async fn exit_error(
    State(call): State<Call>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Wrong> {
    let payload = failed(&call, &headers, body).await?;
    call.desk().phase = Phase::Failed;
    call.report(RuntimeEvent::Failed(payload)).await?;
    Ok(accepted())
}

async fn failed(call: &Call, headers: &HeaderMap, body: Body) -> Result<Bytes, Wrong> {
    let id = identifier(headers)?;
    let name = call.desk().extension(&id)?.name.clone();
    let payload = call.read(body, ERROR_BYTES_MAX).await?;
    tracing::warn!(sandbox = %call.sandbox, %name, "an extension failed");
    if payload.is_empty() {
        let kind = super::answers::error_kind(headers, "lambda-extension-function-error-type");
        let kind = kind.unwrap_or_else(|| "Extension.Crash".to_owned());
        let said = json!({ "errorType": kind, "errorMessage": format!("extension {name} failed") });
        return Ok(said.to_string().into());
    }
    Ok(payload)
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, axum::Json(json!({ "status": "OK" }))).into_response()
}
