//! An HTTP client, for tests.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Long enough for a Python to start on a busy machine.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// Status, headers and text of an answer; the text is an error if the connection broke.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: Result<String, hyper::Error>,
}

impl Page {
    /// The text of a header, or none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A connection for several requests.
pub(crate) async fn connect(addr: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One request on a connection. `line`: method and path.
pub(crate) async fn ask_on(
    connection: &mut SendRequest<Full<Bytes>>,
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Page {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    connection.ready().await.unwrap();
    let sent = tokio::time::timeout(WAIT_MAX, connection.send_request(request)).await;
    let (parts, body) = sent.expect("no answer").unwrap().into_parts();
    let text = body.collect().await.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    Page { status: parts.status.as_u16(), headers: parts.headers, text }
}

/// One request on a connection of its own.
pub(crate) async fn ask(
    addr: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Page {
    ask_on(&mut connect(addr).await, line, headers, body).await
}
