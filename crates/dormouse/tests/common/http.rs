//! HTTP as a client without manners would speak it: one request, one connection, bytes as they are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::WITHIN;

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }

    /// What the function answered; fails where it failed.
    #[track_caller]
    pub(crate) fn answer(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, self.header("x-amz-function-error")), (200, None), "{text}");
        self.json()
    }
}

/// One request with a body, and its reply.
pub(crate) fn request(
    address: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut head = format!("{line} HTTP/1.1\r\nhost: dormouse\r\nconnection: close\r\n");
    head += &format!("content-length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let mut bytes = (head + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    raw(address, &bytes)
}

/// Sends these bytes, and reads until the other end has said all it will say.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Reply> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(WITHIN))?;
    exchange(stream, bytes)
}

/// A request without a body at the operator's socket; what it says comes when somebody waits for it.
pub(crate) fn operate(
    socket: &Path,
    line: &str,
) -> std::io::Result<impl FnOnce() -> std::io::Result<Reply> + use<>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(WITHIN))?;
    let head = "host: dormouse\r\nconnection: close\r\ncontent-length: 0";
    stream.write_all(format!("{line} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes())?;
    Ok(move || exchange(stream, b""))
}

fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> std::io::Result<Reply> {
    // A server that refuses what it has read half of closes its ear, not its mouth.
    let sent = stream.write_all(bytes);
    let mut heard = Vec::new();
    let read = stream.read_to_end(&mut heard);
    if heard.is_empty() {
        sent?;
        read?;
    }
    parse(&heard).ok_or_else(|| std::io::Error::other(format!("{:?}", String::from_utf8_lossy(&heard))))
}

fn parse(heard: &[u8]) -> Option<Reply> {
    let end = heard.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&heard[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, head, body: heard[end + 4..].to_vec() })
}
