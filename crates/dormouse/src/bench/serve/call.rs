//! Calls over one connection that stays open, as cheap as they can be: what they cost is taken from the server's cores.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::bench::error::BenchError;

/// Who calls one function.
pub(super) struct Caller {
    sender: SendRequest<Full<Bytes>>,
    path: String,
}

impl Caller {
    pub(super) async fn connect(address: SocketAddr, function: &str) -> Result<Caller, BenchError> {
        let stream = TcpStream::connect(address).await.map_err(BenchError::system("connect"))?;
        stream.set_nodelay(true).map_err(BenchError::system("set TCP_NODELAY"))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(BenchError::ours("connect"))?;
        tokio::spawn(connection); // Ends with the sender.
        Ok(Caller { sender, path: format!("/2015-03-31/functions/{function}/invocations") })
    }

    /// So many calls, one after the other; the samples are microseconds.
    pub(super) async fn calls(&mut self, calls: usize, samples: &mut Vec<u64>) -> Result<(), BenchError> {
        for _ in 0..calls {
            samples.push(self.call().await?);
        }
        Ok(())
    }

    /// Calls for so long.
    pub(super) async fn calls_for(mut self, lasts: Duration) -> Result<Vec<u64>, BenchError> {
        let (started, mut samples) = (Instant::now(), Vec::new());
        while started.elapsed() < lasts {
            samples.push(self.call().await?);
        }
        Ok(samples)
    }

    /// One call. An answer that is no answer ends the bench.
    async fn call(&mut self) -> Result<u64, BenchError> {
        let called = BenchError::ours::<hyper::Error>;
        let mut request = hyper::Request::new(Full::new(Bytes::from_static(b"{}")));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.path.parse().map_err(BenchError::ours("name the function"))?;
        request.headers_mut().insert("host", hyper::header::HeaderValue::from_static("127.0.0.1"));
        self.sender.ready().await.map_err(called("call"))?; // The answer before has been read to its end.
        let started = Instant::now();
        let response = self.sender.send_request(request).await.map_err(called("call"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(called("read an answer"))?.to_bytes();
        let took_us = started.elapsed().as_micros() as u64;
        if head.status != 200 || head.headers.contains_key("x-amz-function-error") {
            let said = format!("{}: {}", head.status, String::from_utf8_lossy(&body));
            return Err(BenchError::Ours { doing: "get an answer", said });
        }
        Ok(took_us)
    }
}
