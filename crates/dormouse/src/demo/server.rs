//! The server of the demo, and calls to it as any client would make them.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::functions::Function;
use crate::failure::Failure;
use crate::http;

/// Longer than the slowest cold start.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server with a data directory of its own. Dropping it leaves nothing.
pub(crate) struct Server {
    pub(super) address: SocketAddr,
    pub(super) data: tempfile::TempDir,
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
    /// Starts one that knows these functions.
    pub(crate) fn start(functions: &[&'static Function], _runtime: &Handle) -> Result<Server, Failure> {
        let data = tempfile::Builder::new().prefix("dormouse-demo-").tempdir();
        let data = data.map_err(|error| Failure::io("make a directory for the demo", &error))?;
        for function in functions {
            let place = data.path().join("functions").join(function.name);
            std::fs::create_dir_all(&place)
                .and_then(|()| std::fs::write(place.join("lambda_function.py"), function.source))
                .and_then(|()| std::fs::write(place.join("function.toml"), function.settings))
                .map_err(|error| Failure::io(format!("write function {}", function.name), &error))?;
        }
        let server = Server { address: SocketAddr::from(([127, 0, 0, 1], 0)), data };
        Err(Failure::new(format!("serving on {} is not part of this build", server.address)))
    }

    /// Its data directory, for the calls of `client`.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Invokes a function and waits for the answer.
    pub(crate) fn invoke(&self, function: &Function) -> Result<Called, Failure> {
        let path = format!("/2015-03-31/functions/{}/invocations", function.name);
        let started = Instant::now();
        let answer = self
            .connect()
            .and_then(|stream| http::exchange(stream, "POST", &path, function.event.as_bytes()));
        let took_us = started.elapsed().as_micros() as u64;
        let answer = answer.map_err(|error| Failure::io(format!("invoke {}", function.name), &error))?;
        let is_right = answer.status == 200 && !answer.is_function_error;
        Ok(Called { answer: is_right.then_some(answer.body), took_us })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(stream)
    }
}
