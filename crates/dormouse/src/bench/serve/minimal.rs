//! The least that can stand between a client and a runtime: one function, one sandbox, no limits, no checks. What it
//! costs to call a handler through it is the price of HTTP and of the runtime's own client. Like the server that it is
//! compared with, it is a process of its own: to change between processes costs more than between threads.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::server::Served;
use crate::bench::error::BenchError;
use crate::failure::Failure;
use crate::output;
use crate::python::Interpreter;

/// The server and its runtime. Dropping it ends both.
pub(super) struct Minimal {
    pub(super) address: SocketAddr,
    /// Ends when nobody can write to it any more, whatever becomes of the bench.
    server: Child,
    runtime: Child,
}

type Invocation = (Bytes, oneshot::Sender<Bytes>);

/// Invocations on their way in, and whoever waits for the one that is in.
struct Exchange {
    inbox: mpsc::Sender<Invocation>,
    outbox: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    caller: Mutex<Option<oneshot::Sender<Bytes>>>,
}

impl Minimal {
    /// Starts it, with the same runtime client that `served` uses.
    pub(super) fn start(python: &Interpreter, served: &Served) -> Result<Minimal, BenchError> {
        let system = |doing: &'static str| BenchError::system(doing);
        let mut command = Command::new(std::env::current_exe().map_err(system("find this program"))?);
        command.args(["bench", "minimal-server"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().map_err(system("start the minimal server"))?;
        let Some(address) = server.stdout.take().and_then(|stdout| address(BufReader::new(stdout))) else {
            let _ = server.wait(); // It has closed its output: it is ending.
            let said = "it did not come up".to_owned();
            return Err(BenchError::Ours { doing: "start the minimal server", said });
        };
        let runtime = spawn_runtime(python, served, address).map_err(system("start a runtime"))?;
        Ok(Minimal { address, server, runtime })
    }
}

/// From the line that it prints.
fn address(mut stdout: impl BufRead) -> Option<SocketAddr> {
    let mut line = String::new();
    stdout.read_line(&mut line).ok()?;
    line.trim_end().parse().ok()
}

/// The process of the server: until its standard input ends.
pub(in crate::bench) fn run() -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io("start the minimal server", &error);
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    output::print(&format!("{}\n", listener.local_addr().map_err(failed)?))?;
    // A thread and no more: it never waits for another core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    std::thread::spawn(move || runtime.block_on(serve(listener)));
    drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink())); // An error is an end as well.
    Ok(())
}

impl Drop for Minimal {
    fn drop(&mut self) {
        for child in [&mut self.runtime, &mut self.server] {
            let _ = child.kill(); // It may have ended.
            let _ = child.wait();
        }
    }
}

fn spawn_runtime(python: &Interpreter, served: &Served, address: SocketAddr) -> std::io::Result<Child> {
    let root: &Path = &served.empty();
    let mut command = Command::new(&python.program);
    match python.what_lacks("awslambdaric") {
        None => command.args(["-m", "awslambdaric"]),
        Some(_) => command.arg(served.bundled_client()),
    };
    command.arg("lambda_function.lambda_handler").current_dir(root).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("AWS_LAMBDA_RUNTIME_API", address.to_string()).env("LAMBDA_TASK_ROOT", root);
    command.env("_HANDLER", "lambda_function.lambda_handler").env("AWS_LAMBDA_FUNCTION_NAME", "empty");
    command.env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST").env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

async fn serve(listener: std::net::TcpListener) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let (inbox, outbox) = mpsc::channel(1);
    let caller = Mutex::default();
    let exchange = Arc::new(Exchange { inbox, outbox: tokio::sync::Mutex::new(outbox), caller });
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true); // Slower without, but no less right.
        let exchange = Arc::clone(&exchange);
        let service = service_fn(move |request| {
            let exchange = Arc::clone(&exchange);
            async move { Ok::<_, Infallible>(exchange.answer(request).await.unwrap_or_default()) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Exchange {
    /// `None`: somebody has gone away.
    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        if path.ends_with("/invocation/next") {
            let (payload, caller) = self.outbox.lock().await.recv().await?;
            *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(caller);
            return self.invocation(payload);
        }
        let body = request.into_body().collect().await.ok()?.to_bytes();
        if path.ends_with("/response") {
            let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner).take();
            caller?.send(body).ok()?;
            return Response::builder().status(202).body(Full::default()).ok();
        }
        let (caller, answer) = oneshot::channel();
        self.inbox.send((body, caller)).await.ok()?;
        Some(Response::new(Full::new(answer.await.ok()?)))
    }

    fn invocation(&self, payload: Bytes) -> Option<Response<Full<Bytes>>> {
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:empty";
        let response = Response::builder()
            .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
            .header("lambda-runtime-deadline-ms", "9999999999999")
            .header("lambda-runtime-invoked-function-arn", arn)
            .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0")
            .header("content-type", "application/json");
        response.body(Full::new(payload)).ok()
    }
}
