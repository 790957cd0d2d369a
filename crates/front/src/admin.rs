//! The operator's door: HTTP over a unix socket, for `ps`, `sleep`, `wake`, `check`, `purge`, `stats`, and what `watch`
//! shows.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use protocol::{FunctionName, SandboxId, SandboxRecord, StatsRecord};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::dispatch::{Dispatch, Done, OperateError, Verb};
use crate::hands::NodeHands;
use crate::log_store::{LogStore, Logged, Reading};
use crate::metrics::Metrics;
use crate::watch::Watch;

/// What every request needs.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) dispatch: Dispatch,
    pub(crate) node: Arc<dyn NodeHands>,
    pub(crate) metrics: Metrics,
    pub(crate) watch: Watch,
    pub(crate) logs: LogStore,
}

impl Admin {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/v1/sandboxes", get(sandboxes))
            .route("/v1/sandboxes/{id}/{verb}", post(operate))
            .route("/v1/stats", get(stats))
            .route("/v1/logs/{function}", get(logs))
            .with_state(self.clone())
            .merge(self.watch.router())
    }
}

async fn sandboxes(State(admin): State<Admin>) -> Result<Json<Vec<SandboxRecord>>, AdminError> {
    let mut records = blocking(move || admin.node.sandboxes()).await?;
    records.sort_by_key(|record| record.id);
    Ok(Json(records))
}

async fn stats(State(admin): State<Admin>) -> Result<Json<StatsRecord>, AdminError> {
    let node = admin.watch.node_record().await.ok_or_else(|| AdminError::internal("the node's record"))?;
    let counts = admin.dispatch.count().await;
    let functions = counts.into_iter().map(|count| admin.metrics.function_record(count)).collect();
    Ok(Json(StatsRecord { node, functions }))
}

/// Which lines of a log.
#[derive(Deserialize)]
struct Lines {
    /// So many of the last.
    lines: usize,
    /// And all that come.
    #[serde(default)]
    follow: bool,
}

async fn logs(
    State(admin): State<Admin>,
    Path(function): Path<FunctionName>,
    Query(wanted): Query<Lines>,
) -> Result<Response, AdminError> {
    let reading = admin.logs.read(function.clone(), wanted.lines).await;
    let Reading { history, next } = reading.ok_or_else(|| AdminError::internal("the logs cannot be read"))?;
    if wanted.follow {
        let first = stream::once(std::future::ready(Bytes::from(history)));
        let lines = first.chain(stream::unfold(next, move |next| line_of(function.clone(), next)));
        return Ok(Body::from_stream(lines.map(Ok::<_, Infallible>)).into_response());
    }
    if history.is_empty() && wanted.lines > 0 {
        let error =
            format!("function {function:?} has logged nothing: `dormouse stats` lists those there are");
        return Err(AdminError { status: StatusCode::NOT_FOUND, error });
    }
    Ok(history.into_response())
}

/// The next line of this function, and where those after it come from.
async fn line_of(
    function: FunctionName,
    mut next: broadcast::Receiver<Logged>,
) -> Option<(Bytes, broadcast::Receiver<Logged>)> {
    loop {
        match next.recv().await {
            Ok(logged) if logged.function == function => return Some((logged.line, next)),
            Ok(_) => {}
            Err(RecvError::Lagged(count)) => {
                let line = format!("dormouse: {count} lines of all functions were passed over\n");
                return Some((line.into(), next));
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

async fn operate(
    State(admin): State<Admin>,
    Path((id, verb)): Path<(SandboxId, String)>,
) -> Result<Response, AdminError> {
    let verb = match verb.as_str() {
        "sleep" => Verb::Sleep,
        "wake" => Verb::Wake,
        "check" => Verb::Check,
        "purge" => Verb::Purge,
        _ => return Err(AdminError { status: StatusCode::NOT_FOUND, error: format!("no command {verb:?}") }),
    };
    let done = match admin.dispatch.operate(id, verb).await {
        // Not one of a function: `dormouse run` launched it.
        Err(OperateError::Unknown { .. }) => operate_directly(&admin, id, verb).await?,
        done => done?,
    };
    if let Some(check) = done.check {
        return Ok(Json(check).into_response());
    }
    if verb == Verb::Purge {
        return Ok(StatusCode::NO_CONTENT.into_response()); // Nothing is left to report.
    }
    let record = blocking(move || done.sandbox.record()).await?;
    Ok(Json(record).into_response())
}

async fn operate_directly(admin: &Admin, id: SandboxId, verb: Verb) -> Result<Done, OperateError> {
    let sandbox = admin.node.sandbox(id).ok_or(OperateError::Unknown { sandbox: id })?;
    let failed = |error: &dyn std::fmt::Display| OperateError::Failed { why: error.to_string() };
    let mut check = None;
    match verb {
        Verb::Sleep => sandbox.sleep().await.map(|_| ()).map_err(|error| failed(&error))?,
        Verb::Wake => sandbox.wake().await.map(|_| ()).map_err(|error| failed(&error))?,
        Verb::Check => check = Some(sandbox.check().await.map_err(|error| failed(&error))?),
        Verb::Purge => {
            sandbox.purge();
            sandbox.exit().await;
        }
    }
    Ok(Done { sandbox, check })
}

/// Records read `/proc` for each sandbox: not a task's work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AdminError> {
    tokio::task::spawn_blocking(work).await.map_err(AdminError::internal)
}

/// What went wrong, for a person to read.
struct AdminError {
    status: StatusCode,
    error: String,
}

impl AdminError {
    fn internal(error: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, error: error.to_string() }
    }
}

impl From<OperateError> for AdminError {
    fn from(error: OperateError) -> Self {
        let status = match error {
            OperateError::Unknown { .. } => StatusCode::NOT_FOUND,
            OperateError::Refused { .. } | OperateError::Failed { .. } => StatusCode::CONFLICT,
            OperateError::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
        };
        Self { status, error: error.to_string() }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
    }
}
