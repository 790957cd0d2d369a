//! What the queue asks of the rest of the server, as a trait: tests want to say how an attempt ends, and when.

use std::sync::Arc;

use bytes::Bytes;
use events::{Event, EventConfig};
use protocol::FunctionName;

use super::EventLookup;
use crate::catalogue::LiveCatalogue;
use crate::deploy::Deployer;
use crate::dispatch::{Dispatch, Request};
use crate::hands::Work;
use crate::log::request_span;
use crate::outcome::Outcome;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The function answered.
    Answered(Answer),
    /// It failed: an error of its own, a crash, a timeout.
    Failed(Answer),
    /// It was not reached: no sandbox is free, or none can be made.
    Refused,
    /// There is no such function, version or alias.
    NoFunction,
}

/// What a function said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) payload: Bytes,
    /// Which version ran.
    pub(crate) version: String,
}

pub(crate) trait EventHands: Send + Sync + 'static {
    /// Has a function answer an event.
    fn invoke(&self, event: &Event, name: &FunctionName, qualifier: Option<&str>) -> Work<Attempt>;
    /// What was set for the events of this function, or this version or alias; why that cannot be said.
    fn config(&self, name: &FunctionName, qualifier: Option<&str>) -> Work<Result<EventConfig, String>>;
    /// How many events of a function may be tried at once. Waits for nothing.
    fn may_run(&self, name: &FunctionName) -> usize;
}

/// The server itself.
pub(crate) struct Routes {
    pub(crate) dispatch: Dispatch,
    pub(crate) catalogue: LiveCatalogue,
    pub(crate) configs: Arc<dyn EventLookup>,
    /// Knows what is reserved.
    pub(crate) deployer: Deployer,
    /// Sandboxes of a function that does not say how many.
    pub(crate) concurrency: usize,
}

/// Nobody answers under this name. A function that could not be brought back when the server started is there still,
/// and its events wait for the next start.
async fn unserved(configs: Arc<dyn EventLookup>, name: FunctionName, qualifier: Option<String>) -> Attempt {
    let known = tokio::task::spawn_blocking(move || configs.knows(&name, qualifier.as_deref()));
    match known.await {
        Ok(Ok(false)) => Attempt::NoFunction,
        _ => Attempt::Refused,
    }
}

impl EventHands for Routes {
    fn invoke(&self, event: &Event, name: &FunctionName, qualifier: Option<&str>) -> Work<Attempt> {
        let Some(revision) = self.catalogue.resolve(name, qualifier, crate::invoke::random_share) else {
            let configs = Arc::clone(&self.configs);
            return Box::pin(unserved(configs, name.clone(), qualifier.map(str::to_owned)));
        };
        let request = Request {
            invocation: event.invocation.clone(),
            revision,
            qualifier: qualifier.map(str::to_owned),
            payload: event.payload.clone(),
            trace_id: event.trace_id.clone(),
            client_context: None, // Lambda passes it on to functions that somebody waits for, only.
            cognito_identity: None,
            tail: None,
            span: request_span(&event.invocation),
        };
        let (dispatch, catalogue, configs) =
            (self.dispatch.clone(), self.catalogue.clone(), Arc::clone(&self.configs));
        let (name, qualifier) = (name.clone(), request.qualifier.clone());
        Box::pin(async move {
            let ended = dispatch.begin_as_named(&catalogue, request).await.whole().await;
            let version = ended.revision.version.to_string();
            match ended.outcome {
                Outcome::Answer { payload, .. } => Attempt::Answered(Answer { payload, version }),
                Outcome::FunctionError { payload, .. } => Attempt::Failed(Answer { payload, version }),
                Outcome::Removed if catalogue.resolve(&name, qualifier.as_deref(), || 0.0).is_some() => {
                    Attempt::Refused // Removed again and again; there is one now.
                }
                Outcome::Removed => unserved(configs, name, qualifier).await,
                refused @ (Outcome::Throttled(_) | Outcome::ServiceError { .. }) => {
                    tracing::debug!(?refused, "an event waits");
                    Attempt::Refused
                }
            }
        })
    }

    fn config(&self, name: &FunctionName, qualifier: Option<&str>) -> Work<Result<EventConfig, String>> {
        let (configs, name, qualifier) =
            (Arc::clone(&self.configs), name.clone(), qualifier.map(str::to_owned));
        let found = tokio::task::spawn_blocking(move || configs.find(&name, qualifier.as_deref()));
        Box::pin(async move { found.await.unwrap_or_else(|error| Err(error.to_string())) })
    }

    /// No more than can run: others of the function's queue are for clients that wait. At least one, also where nothing
    /// may run: it is refused, and its turn is when events that have become too old are given up.
    fn may_run(&self, name: &FunctionName) -> usize {
        let revision = self.catalogue.resolve(name, None, || 0.0);
        let own = revision.and_then(|revision| revision.function.concurrency).unwrap_or(self.concurrency);
        self.deployer.reserved(name).map_or(own, |reserved| reserved.min(own)).max(1)
    }
}
