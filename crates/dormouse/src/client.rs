//! Calls to a running server, through the unix socket in its data directory.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use protocol::{CheckRecord, NodeRecord, SandboxId, SandboxRecord, SleepRecord, WakeRecord};
use serde::de::DeserializeOwned;

use crate::data_dir;
use crate::failure::Failure;
use crate::http;

/// A check of a large sandbox reads its memory twice; nothing takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Every sandbox that is not gone.
pub(crate) fn sandboxes(data: &Path) -> Result<Vec<SandboxRecord>, Failure> {
    call(data, "GET", "/v1/sandboxes")
}

/// The whole node.
pub(crate) fn stats(data: &Path) -> Result<NodeRecord, Failure> {
    call(data, "GET", "/v1/stats")
}

/// Puts a sandbox to sleep.
pub(crate) fn sleep(data: &Path, id: SandboxId) -> Result<SleepRecord, Failure> {
    call(data, "POST", &format!("/v1/sandboxes/{id}/sleep"))
}

/// Wakes it; `None`: it was warm.
pub(crate) fn wake(data: &Path, id: SandboxId) -> Result<Option<WakeRecord>, Failure> {
    call(data, "POST", &format!("/v1/sandboxes/{id}/wake"))
}

/// Puts it to sleep, wakes it, and compares every byte.
pub(crate) fn check(data: &Path, id: SandboxId) -> Result<CheckRecord, Failure> {
    call(data, "POST", &format!("/v1/sandboxes/{id}/check"))
}

fn call<T: DeserializeOwned>(data: &Path, method: &str, path: &str) -> Result<T, Failure> {
    let socket = data_dir::socket(data);
    let answer = connect(&socket).and_then(|stream| http::exchange(stream, method, path, b""));
    let answer = answer.map_err(|error| unreachable_server(&socket, &error))?;
    if !(200..300).contains(&answer.status) {
        return Err(Failure::new(message(&answer.body, answer.status)));
    }
    // An empty body says as much as `null`.
    let body = if answer.body.is_empty() { b"null" } else { answer.body.as_slice() };
    serde_json::from_slice(body).map_err(|error| {
        Failure::of(&error).hint("server and command are of different versions: restart the server")
    })
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

fn unreachable_server(socket: &Path, error: &io::Error) -> Failure {
    let failure = Failure::io(format!("reach a dormouse at {}", socket.display()), error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => failure.hint("it belongs to another user: use the same, or root"),
        _ => failure.hint("start one with `dormouse serve`, or name its directory with --data"),
    }
}

/// What the server says went wrong: its `message`, or the body as it is.
fn message(body: &[u8], status: u16) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let named = json.as_ref().and_then(|json| json.get("message").or(json.get("Message"))?.as_str());
    match named {
        Some(text) => text.to_owned(),
        None if body.is_empty() => format!("the server answered {status}"),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &str) {
        assert_eq!(message(body.as_bytes(), 409), expected);
    }

    #[test]
    fn the_servers_own_words_are_shown() {
        check(r#"{"message":"left warm: io_uring"}"#, "left warm: io_uring");
        check("no such sandbox\n", "no such sandbox");
        check("", "the server answered 409");
    }
}
