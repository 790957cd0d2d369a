//! The whole server over real sockets, with real processes, on the double of a node.

mod access;
mod beside;
mod deploys;
mod events;
mod faults;
mod javascript;
mod kept;
mod limits;
mod log_tail;
mod logs;
mod packages;
mod removals;
mod stalls;
mod streaming;
mod url;
mod watch;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use protocol::{FunctionRecord, SandboxId, State};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::*;
use crate::asking::{Page, WAIT_MAX, ask};
use crate::double::{Double, KillAll};
use crate::functions::Catalogue;
use crate::{Client, ClientError};

/// Does what its event says.
const HANDLER: &str = r#"
import os, time
def lambda_handler(event, context):
    if "exit" in event:
        os._exit(event["exit"])
    if "signal" in event:
        os.kill(os.getpid(), event["signal"])
    if "fail" in event:
        raise ValueError(event["fail"])
    while "wait_for" in event and not os.path.exists(event["wait_for"]):
        time.sleep(0.005)
    return {"pid": os.getpid(), "event": event}
"#;

struct Bench {
    dir: tempfile::TempDir,
    node: Double,
    server: Server,
    client: Client,
    _end: KillAll,
}

/// What a client of the Lambda API sees.
#[derive(Debug)]
struct Seen {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server with the function `f`, this `function.toml` and this configuration.
async fn bench(toml: &str, configure: impl FnOnce(&mut ServerConfig)) -> Bench {
    bench_with(HANDLER, toml, configure).await
}

async fn bench_with(code: &str, toml: &str, configure: impl FnOnce(&mut ServerConfig)) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (functions, data) = (dir.path().join("functions"), dir.path().join("data"));
    std::fs::create_dir_all(functions.join("f")).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(functions.join("f/lambda_function.py"), code).unwrap();
    std::fs::write(functions.join("f/function.toml"), toml).unwrap();
    let mut config = ServerConfig::new(Catalogue::load(&functions).unwrap(), &data);
    config.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    configure(&mut config);
    let node = Double::default();
    let server = Server::start_with(config, Arc::new(node.clone())).await.unwrap();
    let client = Client::new(server.socket());
    let end = node.kill_all_in_the_end();
    Bench { dir, node, server, client, _end: end }
}

impl Bench {
    async fn invoke(&self, event: Value) -> Seen {
        send(self.server.addr().unwrap(), "f", &[], event.to_string().into()).await
    }

    /// An invocation that waits until `release` is called with the same name.
    fn hold(&self, name: &str) -> JoinHandle<Seen> {
        let event = json!({ "wait_for": self.dir.path().join(name) });
        let addr = self.server.addr().unwrap();
        tokio::spawn(async move { send(addr, "f", &[], event.to_string().into()).await })
    }

    fn release(&self, name: &str) {
        std::fs::write(self.dir.path().join(name), "").unwrap();
    }

    async fn record(&self) -> FunctionRecord {
        self.client.stats().await.unwrap().functions.remove(0)
    }

    /// Waits until the function's record is as it should be.
    async fn until(&self, what: &str, fits: impl Fn(&FunctionRecord) -> bool) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        while !fits(&self.record().await) {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}, but {:?}", self.record().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_state(&self, id: u64, state: State) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let records = self.client.sandboxes().await.unwrap();
            if records.iter().any(|record| record.id == SandboxId(id) && record.state == state) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{id} never became {state}: {records:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn send(addr: SocketAddr, name: &str, headers: &[(&str, &str)], body: Bytes) -> Seen {
    let (name, query) = name.split_once('?').unwrap_or((name, ""));
    let line = format!("POST /2015-03-31/functions/{name}/invocations?{query}");
    let page = ask(addr, &line, &[&[("host", "lambda")], headers].concat(), body).await;
    let body = serde_json::from_str(&page.text.unwrap()).unwrap_or(Value::Null);
    Seen { status: page.status, headers: page.headers, body }
}

/// The invocation ends with this function error.
#[track_caller]
fn check_error(seen: &Seen, kind: &str, message: &str) {
    assert_eq!(seen.status, 200, "{seen:?}");
    assert_eq!(seen.header("x-amz-function-error"), Some("Unhandled"), "{seen:?}");
    assert_eq!(seen.body["errorType"], kind, "{seen:?}");
    let id = seen.header("x-amzn-requestid").unwrap();
    assert_eq!(seen.body["errorMessage"], message.replace("ID", id), "{seen:?}");
}

#[tokio::test]
async fn a_function_answers_and_the_next_invocation_finds_its_sandbox_warm() {
    let bench = bench("", |_| {}).await;
    let first = bench.invoke(json!({"x": 1})).await;
    let second = bench.invoke(json!({"x": 2})).await;
    assert_eq!((first.status, &first.body["event"]), (200, &json!({"x": 1})));
    assert_eq!(first.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(first.header("x-amz-function-error"), None);
    assert_eq!(first.body["pid"], second.body["pid"]);
    let record = bench.record().await;
    assert_eq!((record.invocations, record.cold_starts, record.warm_starts), (2, 1, 1));
}

#[tokio::test]
async fn a_sandbox_that_sleeps_is_woken_by_the_next_invocation() {
    let bench = bench("keep_warm_s = 0", |_| {}).await;
    let first = bench.invoke(json!({})).await;
    bench.until_state(1, State::Dedup).await;
    let second = bench.invoke(json!({})).await;
    assert_eq!(first.body["pid"], second.body["pid"]);
    assert_eq!(bench.record().await.dedup_starts, 1);
    bench.until_state(1, State::Dedup).await;
    assert_eq!(bench.node.calls(), ["launch 1", "sleep 1", "wake 1", "sleep 1"]);
}

#[tokio::test]
async fn a_sandbox_that_slept_long_enough_is_purged() {
    let bench = bench("keep_warm_s = 0\nkeep_dedup_s = 0", |_| {}).await;
    bench.invoke(json!({})).await;
    bench.until("no sandbox", |record| record.sandboxes == 0).await;
    assert_eq!(bench.node.calls(), ["launch 1", "sleep 1", "purge 1"]);
}

#[tokio::test]
async fn concurrency_starts_sandboxes_up_to_the_limit_then_queues_then_throttles() {
    let bench = bench("concurrency = 2\ntimeout_s = 60", |config| config.queue_len = 1).await;
    let held = [bench.hold("go"), bench.hold("go"), bench.hold("go")];
    bench.until("two served, one queued", |r| r.cold_starts == 2 && r.queued == 1).await;
    let seen = bench.invoke(json!({})).await;
    assert_eq!((seen.status, seen.header("x-amzn-errortype")), (429, Some("TooManyRequestsException")));
    assert_eq!(seen.body["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");
    bench.release("go");
    for seen in held {
        assert_eq!(seen.await.unwrap().status, 200);
    }
    let record = bench.record().await;
    assert_eq!((record.cold_starts, record.warm_starts, record.throttles), (2, 1, 1));
}

#[tokio::test]
async fn nobody_queues_longer_than_the_bound() {
    let short = |config: &mut ServerConfig| config.queue_wait = Duration::from_millis(200);
    let bench = bench("concurrency = 1\ntimeout_s = 10", short).await;
    while bench.invoke(json!({})).await.status != 200 {} // A Python takes longer to start than one may queue.
    let held = bench.hold("go");
    let before = bench.record().await.throttles;
    bench.until("served", |record| record.warm_starts >= 1 && record.queued == 0).await;
    let seen = bench.invoke(json!({})).await;
    assert_eq!(seen.status, 429, "{seen:?}");
    assert_eq!(bench.record().await.throttles, before + 1);
    bench.release("go");
    assert_eq!(held.await.unwrap().status, 200);
}

#[tokio::test]
async fn what_is_no_invocation_is_refused_as_lambda_does() {
    #[track_caller]
    fn check(seen: &Seen, status: u16, kind: &str) {
        assert_eq!((seen.status, seen.header("x-amzn-errortype")), (status, Some(kind)), "{seen:?}");
        assert_eq!(seen.body["Type"], "User");
        assert!(seen.header("x-amzn-requestid").is_some());
    }
    let bench = bench("", |_| {}).await;
    let addr = bench.server.addr().unwrap();
    check(&send(addr, "g", &[], Bytes::new()).await, 404, "ResourceNotFoundException");
    check(&send(addr, "f:live", &[], Bytes::new()).await, 404, "ResourceNotFoundException");
    check(&send(addr, "f?Qualifier=live", &[], Bytes::new()).await, 404, "ResourceNotFoundException");
    check(&send(addr, "f%20g", &[], Bytes::new()).await, 400, "InvalidParameterValueException");
    check(&send(addr, "f?Qualifier=001", &[], Bytes::new()).await, 404, "ResourceNotFoundException");
    check(&send(addr, "f?Qualifier=%2B1", &[], Bytes::new()).await, 400, "ValidationException");
    check(&send(addr, "f:1?Qualifier=2", &[], Bytes::new()).await, 400, "InvalidParameterValueException");
    check(&send(addr, "f", &[], "{".into()).await, 400, "InvalidRequestContentException");
    let kind = [("x-amz-invocation-type", "Later")];
    check(&send(addr, "f", &kind, Bytes::new()).await, 400, "InvalidParameterValueException");
    let large = Bytes::from(vec![b' '; 6 * 1024 * 1024 + 1]);
    check(&send(addr, "f", &[], large).await, 413, "RequestTooLargeException");
    assert!(bench.node.calls().is_empty(), "none of these starts a sandbox");
}

#[tokio::test]
async fn a_function_is_found_under_all_its_names() {
    let bench = bench("", |_| {}).await;
    for name in ["f", "f:$LATEST", "arn:aws:lambda:us-east-1:123456789012:function:f", "f?Qualifier=$LATEST"]
    {
        assert_eq!(send(bench.server.addr().unwrap(), name, &[], Bytes::new()).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn events_are_accepted_at_once_and_dry_runs_do_nothing() {
    let bench = bench("", |_| {}).await;
    let addr = bench.server.addr().unwrap();
    let dry = send(addr, "f", &[("x-amz-invocation-type", "DryRun")], Bytes::new()).await;
    assert_eq!(dry.status, 204);
    let event = send(addr, "f", &[("x-amz-invocation-type", "Event")], "{}".into()).await;
    assert_eq!((event.status, event.body), (202, Value::Null));
    bench.until("the event is handled", |record| record.invocations == 1).await;
}

#[tokio::test]
async fn the_operator_puts_to_sleep_wakes_checks_and_purges() {
    let bench = bench("", |_| {}).await;
    bench.invoke(json!({})).await; // It may not have asked for the next yet: the command waits for that.
    let (client, id) = (&bench.client, SandboxId(1));
    assert_eq!(client.sleep(id).await.unwrap().state, State::Dedup);
    assert_eq!(client.sleep(id).await.unwrap().state, State::Dedup, "it sleeps already: that is no error");
    assert_eq!(client.wake(id).await.unwrap().state, State::Warm);
    assert_eq!(client.wake(id).await.unwrap().state, State::Warm);
    assert!(client.check(id).await.unwrap().is_same());
    client.purge(id).await.unwrap();
    assert!(client.sandboxes().await.unwrap().is_empty());
    assert_eq!(bench.node.calls(), ["launch 1", "sleep 1", "wake 1", "sleep 1", "wake 1", "purge 1"]);
    assert!(
        client.metrics().await.unwrap().contains("dormouse_starts_total{function=\"f\",found=\"cold\"} 1")
    );
}

#[tokio::test]
async fn what_the_operator_cannot_have_is_explained() {
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: Result<T, ClientError>, expected: u16, words: &str) {
        match result.unwrap_err() {
            ClientError::Refused { status, error } => assert_eq!((status, error.as_str()), (expected, words)),
            other => panic!("{other:?}"),
        }
    }
    let bench = bench("timeout_s = 60", |_| {}).await;
    let held = bench.hold("go");
    bench.until("served", |record| record.cold_starts == 1).await;
    check(bench.client.sleep(SandboxId(1)).await, 409, "sandbox 1 is busy");
    check(bench.client.wake(SandboxId(9)).await, 404, "there is no sandbox 9");
    bench.release("go");
    held.await.unwrap();
    bench.until_state(1, State::Warm).await;
    bench.node.faults().sleep.store(true, SeqCst);
    check(bench.client.sleep(SandboxId(1)).await, 409, "left warm: it holds a device");
}

#[tokio::test]
async fn a_shutdown_lets_invocations_end_and_leaves_no_sandbox() {
    let bench = bench("timeout_s = 60", |_| {}).await;
    let held = bench.hold("go");
    bench.until("served", |record| record.cold_starts == 1).await;
    let (socket, addr) = (bench.server.socket().to_owned(), bench.server.addr().unwrap());
    let release = bench.dir.path().join("go");
    let stopping = tokio::spawn(bench.server.shutdown());
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await; // Until it takes no more.
    }
    std::fs::write(release, "").unwrap();
    assert_eq!(held.await.unwrap().status, 200);
    stopping.await.unwrap();
    assert_eq!(bench.node.calls().last().unwrap(), "purge 1");
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_bootstrap_of_its_own_serves() {
    let dir = tempfile::tempdir().unwrap();
    let (root, data) = (dir.path().join("functions/own"), dir.path().join("data"));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bootstrap.py");
    let script = format!("#!/bin/sh\nexec python3 {bundled} \"$_HANDLER\"\n");
    std::fs::write(root.join("bootstrap"), script).unwrap();
    std::fs::write(root.join("lambda_function.py"), HANDLER).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.join("bootstrap"), mode).unwrap();
    let mut config = ServerConfig::new(Catalogue::load(root.parent().unwrap()).unwrap(), &data);
    config.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let server = Server::start_with(config, Arc::new(Double::default())).await.unwrap();
    let seen = send(server.addr().unwrap(), "own", &[], r#"{"x":1}"#.into()).await;
    assert_eq!((seen.status, &seen.body["event"]["x"]), (200, &json!(1)));
}

#[test]
fn an_interpreter_is_found_wherever_a_function_starts() {
    let here = std::env::current_dir().unwrap();
    for (named, found) in [
        ("python3.11", "python3.11".into()),
        ("/usr/bin/python3", "/usr/bin/python3".into()),
        (".venv/bin/python", here.join(".venv/bin/python")),
        ("./python", here.join("python")),
    ] {
        assert_eq!(config::findable(named.into()), found, "{named}");
    }
}
