//! The other end of the admin socket, for the command line.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use protocol::{CheckRecord, FunctionName, SandboxId, SandboxRecord, StatsRecord};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// The largest answer: some thousand sandboxes have records of a few kilobytes each.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no dormouse answers at {}: start one with `dormouse serve`", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is somebody else's.
    #[error("{} belongs to another user: use `sudo`, or name another --socket", path.display())]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// The server refused, and says why.
    #[error("{error}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        error: String,
    },
    /// The server broke off, or said something that no dormouse says.
    #[error("talk to dormouse at {}: {why}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        why: String,
    },
}

/// What a call of Lambda's API gave.
#[derive(Clone, Debug)]
pub struct LambdaAnswer {
    /// The body: JSON, or what a function said.
    pub body: Bytes,
    /// Set if the function failed: `Unhandled`.
    pub function_error: Option<String>,
    /// The end of its log, if it was asked for.
    pub log: Option<Vec<u8>>,
}

/// A client of one running server. Each call is a connection of its own: commands are rare.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Talks to the server at this socket. Nothing is connected yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every sandbox, by id.
    pub async fn sandboxes(&self) -> Result<Vec<SandboxRecord>, ClientError> {
        self.read(Method::GET, "/v1/sandboxes").await
    }

    /// The node and its functions.
    pub async fn stats(&self) -> Result<StatsRecord, ClientError> {
        self.read(Method::GET, "/v1/stats").await
    }

    /// Puts a sandbox to sleep; returns when it sleeps.
    pub async fn sleep(&self, id: SandboxId) -> Result<SandboxRecord, ClientError> {
        self.read(Method::POST, &format!("/v1/sandboxes/{id}/sleep")).await
    }

    /// Wakes a sandbox; returns when it runs.
    pub async fn wake(&self, id: SandboxId) -> Result<SandboxRecord, ClientError> {
        self.read(Method::POST, &format!("/v1/sandboxes/{id}/wake")).await
    }

    /// Puts a sandbox to sleep and wakes it, every byte compared.
    pub async fn check(&self, id: SandboxId) -> Result<CheckRecord, ClientError> {
        self.read(Method::POST, &format!("/v1/sandboxes/{id}/check")).await
    }

    /// Kills a sandbox; returns when it is gone.
    pub async fn purge(&self, id: SandboxId) -> Result<(), ClientError> {
        self.send(Method::POST, &format!("/v1/sandboxes/{id}/purge")).await.map(|_| ())
    }

    /// The metrics, as Prometheus reads them.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let bytes = self.send(Method::GET, "/metrics").await?;
        String::from_utf8(bytes.into()).map_err(|error| self.broken(error))
    }

    /// The last `lines` that a function logged, and, to follow it, all that come: until `take` says that it has had
    /// enough, or the server stops.
    pub async fn logs(
        &self,
        function: &FunctionName,
        lines: usize,
        follow: bool,
        mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/logs/{function}?lines={lines}&follow={follow}");
        let (_sender, response) = self.begin(Request::get(path), Bytes::new()).await?;
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            return Err(refused(head.status, &self.collect(body).await?));
        }
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|error| self.broken(error))?.into_data() else { continue };
            if take(&piece).is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn read<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let bytes = self.send(method, path).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.broken(error))
    }

    /// One call of Lambda's API; its path begins with the date of the API. Fails where the answer is an error.
    pub async fn lambda(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<LambdaAnswer, ClientError> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.exchange(request, body.into()).await?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            return Err(refused(head.status, &body));
        }
        let header = |name: &str| head.headers.get(name).map(|value| value.as_bytes().to_vec());
        Ok(LambdaAnswer {
            function_error: header("x-amz-function-error")
                .map(|kind| String::from_utf8_lossy(&kind).into_owned()),
            log: header("x-amz-log-result").and_then(|text| crate::base64::decode(&text)),
            body,
        })
    }

    async fn send(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        let response = self.exchange(Request::builder().method(method).uri(path), Bytes::new()).await?;
        let (head, bytes) = response.into_parts();
        if head.status.is_success() { Ok(bytes) } else { Err(refused(head.status, &bytes)) }
    }

    async fn exchange(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Bytes>, ClientError> {
        let (_sender, response) = self.begin(request, body).await?;
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, self.collect(body).await?))
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| self.broken(error))?.to_bytes())
    }

    /// Sends a request; the connection lives as long as the sender.
    async fn begin(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<(Sender, Response<Incoming>), ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.unreachable(error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        tokio::spawn(connection); // Ends with the sender.
        let request = request.header("host", "dormouse").body(Full::new(body));
        let request = request.map_err(|error| self.broken(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        Ok((sender, response))
    }

    fn unreachable(&self, error: std::io::Error) -> ClientError {
        let path = self.path.clone();
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { path }
            }
            std::io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path },
            _ => self.broken(error),
        }
    }

    fn broken(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::Broken { path: self.path.clone(), why: why.to_string() }
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(alias = "Message")] // Lambda's word.
    error: String,
}

fn refused(status: StatusCode, bytes: &[u8]) -> ClientError {
    let said = serde_json::from_slice::<ErrorBody>(bytes).map(|body| body.error);
    ClientError::Refused { status: status.as_u16(), error: said.unwrap_or_else(|_| status.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_server_it_says_how_to_start_one() {
        let client = Client::new("/nowhere/dormouse.sock");
        let error = client.stats().await.unwrap_err().to_string();
        assert_eq!(error, "no dormouse answers at /nowhere/dormouse.sock: start one with `dormouse serve`");
    }
}
