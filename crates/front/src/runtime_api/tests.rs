//! The Runtime API as a runtime sees it, over real TCP; by hand, and by the runtimes themselves.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::*;
use crate::asking::{WAIT_MAX, ask_on, connect};
use crate::outcome;

mod extensions;
mod restore;
mod streaming;
mod telemetry;

struct Bench {
    api: RuntimeApi,
    port: u16,
    messages: mpsc::Receiver<Message>,
    _heard: Pin<Box<dyn Future<Output = ()> + Send>>,
}

async fn bench() -> Bench {
    bench_of(About::default()).await
}

async fn bench_of(about: About) -> Bench {
    let link = Link::of_machine().await.unwrap();
    let port = link.port().unwrap();
    let (sender, messages) = mpsc::channel(16);
    let (api, heard) = RuntimeApi::serve(link, SandboxId(1), about, sender);
    Bench { api, port, messages, _heard: Box::pin(heard) }
}

fn an_offer(id: &str, payload: &'static str) -> Offer {
    Offer {
        invocation: InvocationId(id.to_owned()),
        payload: Bytes::from_static(payload.as_bytes()),
        deadline_ms: 4_102_444_800_000, // The year 2100. Amazon's client counts nanoseconds in 63 bits.
        arn: "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned(),
        trace_id: "Root=1-5-7".to_owned(),
        client_context: Some(HeaderValue::from_static(r#"{"custom":{"k":"v"}}"#)),
        cognito_identity: None,
    }
}

impl Bench {
    async fn event(&mut self) -> RuntimeEvent {
        let message = tokio::time::timeout(WAIT_MAX, self.messages.recv()).await;
        match message.expect("nothing happened").unwrap() {
            Message::Runtime { sandbox: SandboxId(1), event } => event,
            _ => panic!("not of the Runtime API"),
        }
    }

    async fn outcome(&mut self) -> (String, Outcome) {
        match self.event().await {
            RuntimeEvent::Answered { invocation, outcome } => (invocation.0, outcome),
            other => panic!("{other:?}"),
        }
    }

    async fn ready(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, RuntimeEvent::Ready), "{event:?}");
    }

    async fn client(&self) -> SendRequest<Full<Bytes>> {
        connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await
    }
}

/// One call: status, body.
async fn call(client: &mut SendRequest<Full<Bytes>>, method: &str, path: &str, body: Bytes) -> (u16, String) {
    let line = format!("{method} /2018-06-01/runtime/{path}");
    let page = ask_on(client, &line, &[("host", "runtime")], body).await;
    (page.status, page.text.unwrap())
}

#[tokio::test]
async fn an_invocation_goes_in_with_all_its_headers_and_the_answer_comes_out() {
    let mut bench = bench().await;
    let mut client = bench.client().await;
    assert!(bench.api.offer(an_offer("7", r#"{"a":1}"#)));
    let request = http::Request::get("/2018-06-01/runtime/invocation/next").header("host", "runtime");
    let response = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    bench.ready().await;
    for (name, value) in [
        ("lambda-runtime-aws-request-id", "7"),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:f"),
        ("lambda-runtime-trace-id", "Root=1-5-7"),
        ("lambda-runtime-client-context", r#"{"custom":{"k":"v"}}"#),
        ("content-type", "application/json"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    let payload = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(payload, r#"{"a":1}"#);
    assert_eq!(call(&mut client, "POST", "invocation/7/response", "42".into()).await.0, 202);
    let (id, outcome) = bench.outcome().await;
    let answer = Outcome::Answer { payload: "42".into(), content_type: "application/json".to_owned() };
    assert_eq!((id.as_str(), outcome), ("7", answer));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_in_lambdas_words() {
    let mut bench = bench().await;
    let mut client = bench.client().await;
    #[track_caller]
    fn check((status, body): (u16, String), expected: u16, kind: &str) {
        assert_eq!(status, expected, "{body}");
        assert!(body.contains(kind), "{body}");
    }
    let early = call(&mut client, "POST", "invocation/7/response", "1".into()).await;
    check(early, 400, "InvalidRequestID");
    assert!(bench.api.offer(an_offer("7", "{}")));
    assert_eq!(call(&mut client, "GET", "invocation/next", Bytes::new()).await.0, 200);
    bench.ready().await;
    check(call(&mut client, "POST", "invocation/8/response", "1".into()).await, 400, "InvalidRequestID");
    check(call(&mut client, "POST", "invocation/8/error", "{}".into()).await, 400, "InvalidRequestID");
    check(call(&mut client, "GET", "invocation/next", Bytes::new()).await, 403, "InvalidStateTransition");
    check(call(&mut client, "POST", "init/error", "{}".into()).await, 403, "InvalidStateTransition");
    assert_eq!(call(&mut client, "POST", "invocation/7/error", "{}".into()).await.0, 202);
    check(
        call(&mut client, "POST", "invocation/7/response", "1".into()).await,
        403,
        "InvalidStateTransition",
    );
    let (_, outcome) = bench.outcome().await;
    assert_eq!(outcome, outcome::function_error("{}".into(), None));
}

#[tokio::test]
async fn an_invocation_has_one_answer_at_a_time_and_one_that_breaks_off_was_none() {
    use tokio::io::AsyncWriteExt as _;
    let mut bench = bench().await;
    let mut client = bench.client().await;
    assert!(bench.api.offer(an_offer("7", "{}")));
    call(&mut client, "GET", "invocation/next", Bytes::new()).await;
    bench.ready().await;
    let mut slow = TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap();
    let head =
        "POST /2018-06-01/runtime/invocation/7/response HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n1";
    slow.write_all(head.as_bytes()).await.unwrap();
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    while !matches!(lock(&bench.api.desk).phase, Phase::Reading(_)) {
        assert!(tokio::time::Instant::now() < deadline, "its answer is not read");
        tokio::task::yield_now().await;
    }
    for path in ["invocation/7/response", "invocation/7/error"] {
        let (status, body) = call(&mut client, "POST", path, "2".into()).await;
        assert_eq!((status, body.contains("InvalidStateTransition")), (403, true), "{body}");
    }
    drop(slow);
    while call(&mut client, "POST", "invocation/7/response", "2".into()).await.0 != 202 {
        assert!(tokio::time::Instant::now() < deadline, "nobody may answer any more");
    }
    let (_, outcome) = bench.outcome().await;
    assert!(matches!(outcome, Outcome::Answer { payload, .. } if payload == "2"));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_and_told_to_the_client() {
    let mut bench = bench().await;
    let mut client = bench.client().await;
    assert!(bench.api.offer(an_offer("7", "{}")));
    call(&mut client, "GET", "invocation/next", Bytes::new()).await;
    bench.ready().await;
    let large = Bytes::from(vec![b' '; RESPONSE_BYTES_MAX + 1]);
    let (status, body) = call(&mut client, "POST", "invocation/7/response", large).await;
    assert_eq!(status, 413, "{body}");
    assert!(body.contains("RequestEntityTooLarge"), "{body}");
    let (_, Outcome::FunctionError { payload, .. }) = bench.outcome().await else { panic!() };
    assert!(String::from_utf8_lossy(&payload).contains("Function.ResponseSizeTooLarge"));
}

#[tokio::test]
async fn the_largest_answer_is_taken() {
    let mut bench = bench().await;
    let mut client = bench.client().await;
    assert!(bench.api.offer(an_offer("7", "{}")));
    call(&mut client, "GET", "invocation/next", Bytes::new()).await;
    bench.ready().await;
    let largest = Bytes::from(vec![b' '; RESPONSE_BYTES_MAX]);
    assert_eq!(call(&mut client, "POST", "invocation/7/response", largest).await.0, 202);
}

#[tokio::test]
async fn who_asks_last_waits_and_who_asked_before_is_sent_away() {
    let mut bench = bench().await;
    let (mut first, mut second) = (bench.client().await, bench.client().await);
    let asked = tokio::spawn(async move { call(&mut first, "GET", "invocation/next", Bytes::new()).await });
    bench.ready().await;
    let asks = tokio::spawn(async move { call(&mut second, "GET", "invocation/next", Bytes::new()).await });
    assert_eq!(asked.await.unwrap().0, 403);
    assert!(bench.api.offer(an_offer("7", r#"{"a":1}"#)));
    assert_eq!(asks.await.unwrap(), (200, r#"{"a":1}"#.to_owned()));
}

#[tokio::test]
async fn a_sandbox_may_wait_long_and_ask_again() {
    let mut bench = bench().await;
    let mut first = bench.client().await;
    let request = http::Request::get("/2018-06-01/runtime/invocation/next").header("host", "runtime");
    let waiting = first.send_request(request.body(Full::default()).unwrap());
    let waiting = tokio::spawn(waiting);
    bench.ready().await;
    waiting.abort();
    drop(first); // Its connection breaks; it asks on another and is not counted twice.
    let mut second = bench.client().await;
    assert!(bench.api.offer(an_offer("7", "{}")));
    let next = call(&mut second, "GET", "invocation/next", Bytes::new());
    assert_eq!(tokio::time::timeout(WAIT_MAX, next).await.unwrap().0, 200);
    assert!(bench.messages.try_recv().is_err(), "ready twice");
}

#[tokio::test]
async fn an_init_error_is_reported() {
    let mut bench = bench().await;
    let mut client = bench.client().await;
    assert_eq!(call(&mut client, "POST", "init/error", r#"{"errorType":"E"}"#.into()).await.0, 202);
    let RuntimeEvent::InitError(body) = bench.event().await else { panic!() };
    assert_eq!(body, r#"{"errorType":"E"}"#);
}

const HANDLER: &str = r#"
def lambda_handler(event, context):
    if event.get("fail"):
        raise ValueError("no luck")
    if event.get("unfit"):
        return object()
    return {
        "event": event,
        "id": context.aws_request_id,
        "name": context.function_name,
        "memory": context.memory_limit_in_mb,
        "arn": context.invoked_function_arn,
        "stream": context.log_stream_name,
        "custom": context.client_context.custom,
        "has_time": context.get_remaining_time_in_millis() > 1000,
    }
"#;

/// A folder with this code in `lambda_function.py`, and the command that runs it against the bench.
struct Package(tempfile::TempDir);

impl Package {
    fn new(code: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lambda_function.py"), code).unwrap();
        Self(dir)
    }

    fn run(&self, bench: &Bench, client: &[&str], handler: &str) -> Child {
        let mut command = Command::new(test_python());
        command.args(client).arg(handler).current_dir(self.0.path()).kill_on_drop(true);
        command
            .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{}", bench.port))
            .env("LAMBDA_TASK_ROOT", self.0.path())
            .env("AWS_LAMBDA_FUNCTION_NAME", "f")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "s")
            .stdout(Stdio::null());
        command.spawn().unwrap()
    }
}

fn test_python() -> PathBuf {
    testkit::python()
}

const BUNDLED: &[&str] = &[concat!(env!("CARGO_MANIFEST_DIR"), "/src/bootstrap.py")];
const AWS: &[&str] = &["-m", "awslambdaric"];

/// Whether `awslambdaric` can be tested.
fn has_ric() -> bool {
    testkit::require_python(&["awslambdaric", "runtime_client"])
}

fn json(bytes: &Bytes) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

async fn check_serves(client: &[&str]) {
    let mut bench = bench().await;
    let package = Package::new(HANDLER);
    let mut child = package.run(&bench, client, "lambda_function.lambda_handler");
    bench.ready().await;
    assert!(bench.api.offer(an_offer("id-1", r#"{"x": "ä"}"#)));
    let (id, Outcome::Answer { payload, .. }) = bench.outcome().await else { panic!() };
    let expected = serde_json::json!({
        "event": {"x": "ä"}, "id": "id-1", "name": "f", "memory": "512", "stream": "s",
        "arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
        "custom": {"k": "v"}, "has_time": true,
    });
    assert_eq!((id.as_str(), json(&payload)), ("id-1", expected));

    bench.ready().await;
    assert!(bench.api.offer(an_offer("id-2", r#"{"fail": true}"#)));
    let (_, Outcome::FunctionError { payload, .. }) = bench.outcome().await else { panic!() };
    let error = json(&payload);
    assert_eq!((&error["errorType"], &error["errorMessage"]), (&"ValueError".into(), &"no luck".into()));
    assert_eq!(error["requestId"], "id-2");
    let frame = error["stackTrace"][0].as_str().unwrap();
    assert!(frame.contains("lambda_function.py\", line 4"), "the first frame is the function's: {frame}");

    bench.ready().await;
    assert!(bench.api.offer(an_offer("id-3", r#"{"unfit": true}"#)));
    let (_, Outcome::FunctionError { payload, .. }) = bench.outcome().await else { panic!() };
    assert_eq!(json(&payload)["errorType"], "Runtime.MarshalError");
    bench.ready().await; // None of this cost the process.
    child.kill().await.unwrap();
}

async fn check_init_error(client: &[&str], code: &str, handler: &str, kind: &str) {
    let mut bench = bench().await;
    let package = Package::new(code);
    let mut child = package.run(&bench, client, handler);
    let RuntimeEvent::InitError(body) = bench.event().await else { panic!() };
    assert_eq!(json(&body)["errorType"], kind);
    assert_eq!(child.wait().await.unwrap().code(), Some(1));
}

async fn check_init_errors(client: &[&str]) {
    let handler = "lambda_function.lambda_handler";
    check_init_error(client, "import nowhere_to_be_found", handler, "Runtime.ImportModuleError").await;
    check_init_error(client, "def x(:", handler, "Runtime.UserCodeSyntaxError").await;
    check_init_error(client, "x = 1 / 0", handler, "ZeroDivisionError").await;
    check_init_error(client, "", handler, "Runtime.HandlerNotFound").await;
    check_init_error(client, "", "nodot", "Runtime.MalformedHandlerName").await;
}

#[tokio::test]
async fn the_bundled_client_serves() {
    check_serves(BUNDLED).await;
}

#[tokio::test]
async fn the_bundled_client_reports_init_errors() {
    check_init_errors(BUNDLED).await;
}

#[tokio::test]
async fn amazons_client_serves() {
    if has_ric() {
        check_serves(AWS).await;
    }
}

#[tokio::test]
async fn amazons_client_reports_init_errors() {
    if has_ric() {
        check_init_errors(AWS).await;
    }
}
