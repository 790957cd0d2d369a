//! The server of the demo, and calls to it as any client would make them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use front::{Catalogue, ServerConfig, load_function};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use node::Node;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::functions::Function;
use crate::failure::Failure;
use crate::python::Interpreter;
use crate::serve;

/// Longer than the slowest cold start.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The demo itself says who sleeps when.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A running server with a data directory of its own. Dropping it leaves nothing.
pub(crate) struct Server {
    pub(super) address: SocketAddr,
    pub(super) data: tempfile::TempDir,
    pub(super) runtime: Handle,
    pub(super) running: Option<(front::Server, Node)>,
}

/// What a call brought.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    /// The function's answer; absent where it failed.
    pub(crate) answer: Option<Vec<u8>>,
    /// From the connection to the answer.
    pub(crate) took_us: u64,
}

impl Server {
    /// Starts one that knows these functions, with so many sandboxes of each at most.
    pub(crate) fn start(
        functions: &[&'static Function],
        sandboxes: usize,
        python: &Interpreter,
        runtime: &Handle,
    ) -> Result<Server, Failure> {
        let data = tempfile::Builder::new().prefix("dormouse-demo-").tempdir();
        let data = data.map_err(|error| Failure::io("make a directory for the demo", &error))?;
        let mut catalogue = Catalogue::default();
        for function in functions {
            let place = data.path().join("functions").join(function.name);
            std::fs::create_dir_all(&place)
                .and_then(|()| std::fs::write(place.join("lambda_function.py"), function.source))
                .and_then(|()| std::fs::write(place.join("function.toml"), function.settings))
                .map_err(|error| Failure::io(format!("write function {}", function.name), &error))?;
            let mut loaded = load_function(&place).map_err(|error| Failure::of(&error))?;
            loaded.concurrency = Some(sandboxes);
            (loaded.keep_warm, loaded.keep_dedup) = (Some(NEVER), Some(NEVER));
            catalogue.insert(loaded);
        }
        let node = serve::start_node(data.path(), |_| {})?;
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let python = Some(python.program.clone());
        let config = ServerConfig { listen, python, ..ServerConfig::new(catalogue, data.path()) };
        match runtime.block_on(front::Server::start(config, node.clone())) {
            Ok(server) => {
                let address = server.addr().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
                Ok(Server { address, data, runtime: runtime.clone(), running: Some((server, node)) })
            }
            Err(error) => {
                node.shutdown();
                Err(Failure::of(&error))
            }
        }
    }

    /// Its data directory, for the calls of `client`.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Invokes a function and waits for the answer.
    pub(crate) fn invoke(&self, function: &Function) -> Result<Called, Failure> {
        let started = Instant::now();
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(ANSWER_TIMEOUT, post(self.address, function)).await });
        let took_us = started.elapsed().as_micros() as u64;
        let doing = || format!("invoke {}", function.name);
        match answer {
            Ok(Ok(answer)) => Ok(Called { answer, took_us }),
            Ok(Err(error)) => Err(Failure::io(doing(), &std::io::Error::other(error.to_string()))),
            Err(_) => Err(Failure::io(doing(), &std::io::ErrorKind::TimedOut.into())),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((server, node)) = self.running.take() {
            self.runtime.block_on(server.shutdown());
            node.shutdown();
        }
    }
}

/// The function's answer; `None` where it failed.
async fn post(
    address: SocketAddr,
    function: &Function,
) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection); // Ends with the sender.
    let path = format!("/2015-03-31/functions/{}/invocations", function.name);
    let body = Full::new(Bytes::from_static(function.event.as_bytes()));
    let request = hyper::Request::post(path).header("host", "dormouse").body(body)?;
    let response = sender.send_request(request).await?;
    let is_right = response.status().is_success() && !response.headers().contains_key("x-amz-function-error");
    let body = response.into_body().collect().await?.to_bytes();
    Ok(is_right.then(|| body.into()))
}
