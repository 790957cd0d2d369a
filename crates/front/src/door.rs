//! The HTTP door: which path leads to which operation of Lambda's API, and which host to a function's URL.

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::post;

use crate::access::Access;
use crate::aws_error::AwsError;
use crate::control::{self, Control};
use crate::function_url::{self, FunctionUrls};
use crate::invoke::{self, Door};
use crate::response_stream;

/// Lambda's API: calls of functions, and what is done with functions.
pub(crate) fn api(door: Door, control: &Arc<Control>) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{FunctionName}/invocations", post(invoke::invoke))
        .route(
            "/2021-11-15/functions/{FunctionName}/response-streaming-invocations",
            post(response_stream::invoke),
        )
        .with_state(door)
        .merge(control::router(control))
        .fallback(async || AwsError::unknown_operation())
        .method_not_allowed_fallback(async || AwsError::unknown_operation())
}

/// The same, and the URLs of functions; `access` looks at everything but requests to URLs that are for everybody.
pub(crate) fn router(door: Door, control: &Arc<Control>, access: Access) -> Router {
    let urls = FunctionUrls::new(door.clone(), Arc::clone(control) as _, access.clone());
    access.guard(api(door, control)).layer(middleware::from_fn_with_state(urls, function_url::intercept))
}
