//! What can be seen from outside without a say in anything: metrics, and whether the server lives and can work. On the
//! operator's socket, and on an address of its own where one is given.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use protocol::NodeRecord;
use tokio::sync::watch;

use crate::dispatch::Dispatch;
use crate::event_queue::EventQueue;
use crate::hands::NodeHands;
use crate::metrics::{Format, Metrics};

/// How long the server may take to say that it lives. Whoever asks gives up after about as long.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What every request needs.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) dispatch: Dispatch,
    pub(crate) node: Arc<dyn NodeHands>,
    pub(crate) metrics: Metrics,
    pub(crate) events: EventQueue,
    /// Whether the server is to stop.
    pub(crate) stopped: watch::Receiver<bool>,
}

impl Watch {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .with_state(self)
    }

    /// What the node reports. Reads `/proc` for each sandbox: not a task's work. `None` if that broke.
    pub(crate) async fn node_record(&self) -> Option<NodeRecord> {
        let node = Arc::clone(&self.node);
        tokio::task::spawn_blocking(move || node.record()).await.ok()
    }

    /// Whether requests are still being decided on.
    async fn is_alive(&self) -> bool {
        tokio::time::timeout(ANSWER_MAX, self.dispatch.answers()).await.unwrap_or(false)
    }

    /// Why no request should come here; `None` if it should.
    async fn not_ready(&self) -> Option<String> {
        if *self.stopped.borrow() {
            return Some("the server is shutting down".to_owned());
        }
        if !self.is_alive().await {
            return Some("the server does not answer itself".to_owned());
        }
        let node = Arc::clone(&self.node);
        let asked = tokio::task::spawn_blocking(move || node.not_ready()).await;
        asked.unwrap_or_else(|error| Some(error.to_string()))
    }
}

async fn metrics(State(watch): State<Watch>, headers: HeaderMap) -> Result<Response, StatusCode> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    let node = watch.node_record().await.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    let counts = watch.dispatch.count().await;
    watch.events.measure();
    let text = watch.metrics.render(&node, &counts, format);
    let text = text.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let kind = HeaderValue::from_static(format.content_type());
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// 200 while it lives; else whoever looks after it should start it anew.
async fn health(State(watch): State<Watch>) -> (StatusCode, &'static str) {
    match watch.is_alive().await {
        true => (StatusCode::OK, "alive\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the server does not answer itself\n"),
    }
}

/// 200 while it can start sandboxes and put them to sleep; else requests should go elsewhere.
async fn readiness(State(watch): State<Watch>) -> (StatusCode, String) {
    match watch.not_ready().await {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}
