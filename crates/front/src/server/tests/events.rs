//! Asynchronous invocations over HTTP.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn event(bench: &Bench, body: impl Into<Bytes>) -> Seen {
    send(bench.server.addr().unwrap(), "f", &[("x-amz-invocation-type", "Event")], body.into()).await
}

async fn lines(path: &std::path::Path, count: usize) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count {
            return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "{text:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_event_is_accepted_at_once_and_its_record_goes_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("records.jsonl");
    let url = format!("file://{}", file.display());
    let toml = format!("[events]\nretries = 0\non_success = '{url}'\non_failure = '{url}'");
    let bench = bench(&toml, |config| config.destinations = vec![dir.path().to_owned()]).await;
    let accepted = event(&bench, r#"{"x": 1}"#).await;
    assert_eq!((accepted.status, &accepted.body), (202, &Value::Null));
    let success = lines(&file, 1).await.remove(0);
    let id = accepted.header("x-amzn-requestid").unwrap();
    assert_eq!(success["requestContext"]["requestId"], id);
    assert_eq!(success["responseContext"], json!({ "statusCode": 200, "executedVersion": "$LATEST" }));
    assert_eq!(success["responsePayload"]["event"], json!({"x": 1}));
    event(&bench, r#"{"fail": "so it is"}"#).await;
    let failure = lines(&file, 2).await.remove(1);
    assert_eq!(failure["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(failure["responsePayload"]["errorMessage"], "so it is");
}

#[tokio::test]
async fn an_event_carries_as_much_as_lambda_lets_it() {
    let bench = bench("", |_| {}).await;
    let refused = event(&bench, vec![b' '; ::events::PAYLOAD_MAX + 1]).await;
    assert_eq!(refused.status, 400, "it is no JSON");
    let mut payload = vec![b' '; ::events::PAYLOAD_MAX];
    payload[0] = b'1';
    assert_eq!(event(&bench, payload.clone()).await.status, 202);
    payload.push(b' ');
    let refused = event(&bench, payload).await;
    assert_eq!((refused.status, refused.header("x-amzn-errortype")), (413, Some("RequestTooLargeException")));
    assert!(refused.body["Message"].as_str().unwrap().contains("1048577 byte payload"), "{refused:?}");
}

#[tokio::test]
async fn a_full_event_queue_is_too_many_requests_and_clients_who_wait_are_served() {
    let bench = bench("concurrency = 2", |config| config.event_bounds.lane.events = 1).await;
    let held = json!({ "wait_for": bench.dir.path().join("held") }).to_string();
    assert_eq!(event(&bench, held.clone()).await.status, 202);
    let refused = event(&bench, held).await;
    assert_eq!((refused.status, &refused.body["Reason"]), (429, &json!("CallerRateLimitExceeded")));
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    bench.release("held");
}

/// A server for the same functions and events, after the first one has stopped.
async fn another(dir: &std::path::Path, records: &std::path::Path) -> Server {
    let functions = Catalogue::load(&dir.join("functions")).unwrap();
    let mut config = ServerConfig::new(functions, dir.join("data"));
    config.listen = None;
    config.destinations = vec![records.to_owned()];
    Server::start_with(config, Arc::new(Double::default())).await.unwrap()
}

#[tokio::test]
async fn an_event_that_a_stop_cuts_off_is_tried_after_the_next_start() {
    let records = tempfile::tempdir().unwrap();
    let file = records.path().join("records.jsonl");
    let toml = format!("[events]\non_success = 'file://{}'", file.display());
    let bench = bench(&toml, |config| config.destinations = vec![records.path().to_owned()]).await;
    bench.node.faults().launch.store(true, SeqCst); // It cannot be tried before the stop.
    assert_eq!(event(&bench, r#"{"x": 1}"#).await.status, 202);
    bench.server.shutdown().await;
    let server = another(bench.dir.path(), records.path()).await;
    assert_eq!(lines(&file, 1).await[0]["requestPayload"], json!({"x": 1}));
    server.shutdown().await;
}

#[tokio::test]
async fn an_event_that_comes_while_the_server_stops_is_tried_after_the_next_start() {
    let records = tempfile::tempdir().unwrap();
    let file = records.path().join("records.jsonl");
    let toml = format!("[events]\non_success = 'file://{}'", file.display());
    let bench = bench(&toml, |config| config.destinations = vec![records.path().to_owned()]).await;
    let addr = bench.server.addr().unwrap();
    let line = "POST /2015-03-31/functions/f/invocations";
    let mut stream = stalls::begin(addr, line, "x-amz-invocation-type: Event\r\n", 8).await;
    let stopping = tokio::spawn(bench.server.shutdown());
    while TcpStream::connect(addr).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stream.write_all(br#"{"x": 1}"#).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    stopping.await.unwrap();
    assert!(bench.node.calls().is_empty());
    let server = another(bench.dir.path(), records.path()).await;
    assert_eq!(lines(&file, 1).await[0]["requestPayload"], json!({"x": 1}));
    server.shutdown().await;
}

#[tokio::test]
async fn a_destination_that_nobody_allowed_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let function = dir.path().join("functions/f");
    std::fs::create_dir_all(&function).unwrap();
    std::fs::write(function.join("lambda_function.py"), "").unwrap();
    std::fs::write(function.join("function.toml"), "[events]\ndead_letter = 'file:///etc/f'").unwrap();
    let config = ServerConfig::new(Catalogue::load(&dir.path().join("functions")).unwrap(), dir.path());
    let refused = Server::start_with(config, Arc::new(Double::default())).await.map(|_| ());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("function f") && error.contains("--destinations"), "{error}");
}
