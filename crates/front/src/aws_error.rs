//! Errors of the Lambda API: a status, a type in a header, and a message.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use events::AcceptError;
use serde_json::json;

use crate::names::NotAFunction;
use crate::outcome::Throttle;
use crate::sigv4::Denied;

/// How much of a wrong value is told back.
const SHOWN_CHARS_MAX: usize = 200;

/// One error, as a client's SDK reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// Only throttling has one.
    reason: Option<&'static str>,
}

impl AwsError {
    fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        Self { status, kind, message, reason: None }
    }

    pub(crate) fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message.to_owned())
    }

    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        let message = format!("Could not parse request body into json: {error}");
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request must be smaller than {limit} bytes for the InvokeFunction operation");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", message)
    }

    /// The connection is closed: what would still come on it is not waited for.
    pub(crate) fn too_slow() -> Self {
        let message = "The request was not sent within the time allowed: send it again".to_owned();
        Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message)
    }

    /// More than an asynchronous invocation may carry.
    pub(crate) fn event_too_large(len: usize, limit: usize) -> Self {
        let message =
            format!("{len} byte payload is too large for the Event invocation type (limit {limit} bytes)");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", message)
    }

    pub(crate) fn throttled(throttle: Throttle) -> Self {
        let (message, reason) = match throttle {
            // What has run out is the function's own concurrency: on Lambda only what is reserved is that.
            Throttle::QueueFull => (
                "Rate Exceeded: the function's queue is full.",
                "ReservedFunctionConcurrentInvocationLimitExceeded",
            ),
            Throttle::QueuedTooLong => (
                "Rate Exceeded: no sandbox became free in time.",
                "ReservedFunctionConcurrentInvocationLimitExceeded",
            ),
            Throttle::Events => {
                ("Rate Exceeded: enough asynchronous invocations are queued.", "CallerRateLimitExceeded")
            }
            Throttle::Reserved => ("Rate Exceeded.", "ReservedFunctionConcurrentInvocationLimitExceeded"),
            Throttle::Allowance => ("Rate Exceeded.", "ConcurrentInvocationLimitExceeded"),
            Throttle::Requests => {
                ("Rate Exceeded: the server has enough requests.", "ConcurrentInvocationLimitExceeded")
            }
        };
        let kind = "TooManyRequestsException";
        Self { reason: Some(reason), ..Self::new(StatusCode::TOO_MANY_REQUESTS, kind, message.to_owned()) }
    }

    /// The caller is not known, or not let in.
    pub(crate) fn denied(kind: &'static str, message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, kind, message)
    }

    /// A value is not what it may be, in Lambda's words.
    pub(crate) fn validation(value: &str, name: &str, constraint: &str) -> Self {
        let shown: String = value.chars().take(SHOWN_CHARS_MAX).collect();
        let message = format!(
            "1 validation error detected: Value '{shown}' at '{name}' failed to satisfy constraint: {constraint}"
        );
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    /// The body is no JSON, or its values have other types.
    pub(crate) fn serialization(why: &str) -> Self {
        let message = format!("Could not parse request body into json: {why}");
        Self::new(StatusCode::BAD_REQUEST, "SerializationException", message)
    }

    pub(crate) fn malformed_path() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", "The path is no UTF-8".to_owned())
    }

    pub(crate) fn unknown_operation() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UnknownOperationException", "Unknown operation".to_owned())
    }

    pub(crate) fn conflict(message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "ResourceConflictException", message.to_owned())
    }

    /// The function is there, and nobody can answer for it. What Lambda says of every state but `Active`, 409: clients do
    /// not try again, which would not bring back what was lost, as they would after the 502 of `InvalidZipFileException`.
    pub(crate) fn failed(why: &str) -> Self {
        Self::conflict(&format!(
            "The operation cannot be performed at this time. The function is currently in the following state: \
             Failed. {why}"
        ))
    }

    pub(crate) fn precondition() -> Self {
        let message = "The Revision Id provided does not match the latest Revision Id. Call the \
                       GetFunction/GetAlias API to retrieve the latest Revision Id";
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailedException", message.to_owned())
    }

    pub(crate) fn entity_too_large(limit: usize, operation: &str) -> Self {
        let message = format!("Request must be smaller than {limit} bytes for the {operation} operation");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", message)
    }

    pub(crate) fn code_storage_exceeded() -> Self {
        let message = "Code storage limit exceeded.".to_owned();
        Self::new(StatusCode::BAD_REQUEST, "CodeStorageExceededException", message)
    }

    pub(crate) fn policy_too_long(limit: usize) -> Self {
        let message = format!("The final policy size is bigger than the limit ({limit}).");
        Self::new(StatusCode::BAD_REQUEST, "PolicyLengthExceededException", message)
    }

    pub(crate) fn no_provisioned_concurrency() -> Self {
        let message = "No Provisioned Concurrency Config found for this function".to_owned();
        Self::new(StatusCode::NOT_FOUND, "ProvisionedConcurrencyConfigNotFoundException", message)
    }

    /// The package has a `function.toml` that says what cannot be, or what cannot be here.
    pub(crate) fn unusable(error: &impl std::error::Error) -> Self {
        Self::invalid(&format!("The package cannot be used: {error}"))
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(crate) fn service(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", message)
    }
}

impl From<AcceptError> for AwsError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Full(_) => Self::throttled(Throttle::Events),
            AcceptError::TooLarge { len, limit } => Self::event_too_large(len, limit),
            AcceptError::Queue(error) => Self::service(error.to_string()),
        }
    }
}

impl From<Denied> for AwsError {
    fn from(denied: Denied) -> Self {
        Self::denied(denied.kind(), denied.to_string())
    }
}

impl From<NotAFunction> for AwsError {
    fn from(error: NotAFunction) -> Self {
        match error {
            NotAFunction::Qualifier { text } => {
                let constraint = "Member must satisfy regular expression pattern: (|[a-zA-Z0-9$_-]+) with length \
                                  less than or equal to 128";
                Self::validation(&text, "qualifier", constraint)
            }
            error => Self::invalid(&error.to_string()),
        }
    }
}

impl IntoResponse for AwsError {
    fn into_response(self) -> Response {
        let by = if self.status.is_server_error() { "Service" } else { "User" };
        let mut body = json!({ "Type": by, "Message": self.message });
        if let Some(reason) = self.reason {
            body["Reason"] = reason.into();
        }
        let mut response = (self.status, axum::Json(body)).into_response();
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(self.kind));
        if self.status == StatusCode::REQUEST_TIMEOUT {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(error: AwsError, status: u16, kind: &str, body: serde_json::Value) {
        let response = error.into_response();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()["x-amzn-errortype"], kind);
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(), body);
    }

    #[tokio::test]
    async fn errors_have_amazons_shape() {
        let body = json!({ "Type": "User", "Message": "no" });
        check(AwsError::not_found("no".to_owned()), 404, "ResourceNotFoundException", body.clone()).await;
        check(AwsError::invalid("no"), 400, "InvalidParameterValueException", body).await;
        let body = json!({ "Type": "Service", "Message": "no" });
        check(AwsError::service("no".to_owned()), 500, "ServiceException", body).await;
        let body = json!({
            "Type": "User",
            "Message": "Rate Exceeded: the server has enough requests.",
            "Reason": "ConcurrentInvocationLimitExceeded",
        });
        check(AwsError::throttled(Throttle::Requests), 429, "TooManyRequestsException", body).await;
    }
}
