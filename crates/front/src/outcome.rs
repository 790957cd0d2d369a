//! How an invocation can end, and Lambda's words for the ways that are not the function's own.

use std::time::Duration;

use bytes::Bytes;
use node::Exit;
use protocol::InvocationId;
use serde_json::json;

/// What the client of an invocation gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The function's answer.
    Answer { payload: Bytes, content_type: String },
    /// The function failed: an error of its own, a crash, a timeout. Still 200, with a header and this JSON.
    FunctionError {
        payload: Bytes,
        is_timeout: bool,
        /// The kind of error in the runtime's words, where it said one.
        kind: Option<String>,
    },
    /// No sandbox is free and none may be started.
    Throttled(Throttle),
    /// The function, or this version of it, was removed while the invocation waited.
    Removed,
    /// Our fault.
    ServiceError { message: String },
}

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttle {
    /// Enough invocations of this function wait already.
    QueueFull,
    /// It waited as long as one may.
    QueuedTooLong,
    /// Enough events wait already.
    Events,
    /// As many invocations run as are reserved for the function.
    Reserved,
    /// As many run as are allowed of all functions together.
    Allowance,
    /// The server as a whole has enough to do.
    Requests,
}

/// Why a sandbox could not serve, remembered for the invocation that it will be told to.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It could not be launched.
    Launch(String),
    /// There is nothing that could be started.
    Entrypoint(String),
    /// It reported this error instead of asking for an invocation.
    InitError(Bytes),
    /// It did not ask for an invocation in time.
    InitTimeout(Duration),
    /// It is dead.
    Exit(Exit),
}

impl Fault {
    /// What the client is told.
    pub(crate) fn outcome(&self, invocation: &InvocationId) -> Outcome {
        match self {
            Fault::Launch(message) => Outcome::ServiceError { message: message.clone() },
            Fault::Entrypoint(why) => error(invocation, "Runtime.InvalidEntrypoint", why, false),
            Fault::InitError(payload) => function_error(payload.clone(), None),
            Fault::InitTimeout(limit) => timed_out(invocation, *limit),
            Fault::Exit(exit) => exited(invocation, *exit),
        }
    }
}

/// What the runtime reports.
pub(crate) fn function_error(payload: Bytes, kind: Option<String>) -> Outcome {
    Outcome::FunctionError { payload, is_timeout: false, kind }
}

/// The invocation took longer than the function may.
pub(crate) fn timed_out(invocation: &InvocationId, limit: Duration) -> Outcome {
    error(invocation, "Sandbox.Timedout", &timeout_text(limit), true)
}

/// How a timeout is told, to the client and in the log.
pub(crate) fn timeout_text(limit: Duration) -> String {
    format!("Task timed out after {:.2} seconds", limit.as_secs_f64())
}

/// The answer is larger than Lambda allows.
pub(crate) fn too_large(len: u64, limit: usize) -> Outcome {
    let message =
        format!("Response payload size ({len} bytes) exceeded maximum allowed payload size ({limit} bytes).");
    let kind = "Function.ResponseSizeTooLarge";
    let body = json!({ "errorType": kind, "errorMessage": message });
    function_error(body.to_string().into(), Some(kind.to_owned()))
}

fn exited(invocation: &InvocationId, exit: Exit) -> Outcome {
    error(invocation, "Runtime.ExitError", &exit_text(exit), false)
}

/// How a death is told, to the client and in the log.
pub(crate) fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Code(0) | Exit::Unknown => "Runtime exited without providing a reason".to_owned(),
        Exit::Code(code) => format!("Runtime exited with error: exit status {code}"),
        Exit::Signal(signal) => format!("Runtime exited with error: signal: {}", signal_name(signal)),
    }
}

fn error(invocation: &InvocationId, kind: &str, what: &str, is_timeout: bool) -> Outcome {
    let body = json!({ "errorType": kind, "errorMessage": format!("RequestId: {invocation} Error: {what}") });
    Outcome::FunctionError { payload: body.to_string().into(), is_timeout, kind: Some(kind.to_owned()) }
}

/// Lambda is written in Go, and these are Go's words.
fn signal_name(signal: i32) -> String {
    match signal {
        6 => "aborted".to_owned(),
        7 => "bus error".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        15 => "terminated".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(outcome: Outcome, expected: serde_json::Value) {
        let Outcome::FunctionError { payload, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&payload).unwrap(), expected);
    }

    fn id() -> InvocationId {
        InvocationId("7".to_owned())
    }

    #[test]
    fn a_timeout_is_told_in_lambdas_words() {
        let message = "RequestId: 7 Error: Task timed out after 3.00 seconds";
        let expected = json!({ "errorType": "Sandbox.Timedout", "errorMessage": message });
        check(timed_out(&id(), Duration::from_secs(3)), expected);
    }

    #[test]
    fn a_death_is_told_in_lambdas_words() {
        let check_exit = |exit, what: &str| {
            let message = format!("RequestId: 7 Error: {what}");
            let expected = json!({ "errorType": "Runtime.ExitError", "errorMessage": message });
            check(Fault::Exit(exit).outcome(&id()), expected);
        };
        check_exit(Exit::Code(1), "Runtime exited with error: exit status 1");
        check_exit(Exit::Code(0), "Runtime exited without providing a reason");
        check_exit(Exit::Signal(9), "Runtime exited with error: signal: killed");
        check_exit(Exit::Signal(11), "Runtime exited with error: signal: segmentation fault");
    }
}
