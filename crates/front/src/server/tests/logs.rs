//! Logs of functions as the operator reads them, and the server's own with the ids of requests.

use std::io;
use std::ops::ControlFlow;
use std::sync::Mutex;

use super::*;

/// Prints what it gets.
const PRINTER: &str = "\
def lambda_handler(event, context):
    print('it got', event['n'])
";

/// What the operator reads of `f`, until it contains `end`.
async fn read(client: &Client, follow: bool, end: &str) -> String {
    let mut text = String::new();
    let take = |piece: &[u8]| {
        text += std::str::from_utf8(piece).unwrap();
        if follow && text.contains(end) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let f = "f".parse().unwrap();
    tokio::time::timeout(WAIT_MAX, client.logs(&f, 100, follow, take)).await.expect("no end").unwrap();
    text
}

#[tokio::test]
async fn the_operator_reads_and_follows_the_log_of_a_function() {
    let bench = bench_with(PRINTER, "", |_| {}).await;
    let f = "f".parse().unwrap();
    let nothing = bench.client.logs(&f, 100, false, |_| ControlFlow::Continue(())).await;
    assert!(matches!(nothing, Err(ClientError::Refused { status: 404, .. })), "{nothing:?}");
    bench.invoke(json!({ "n": 1 })).await;
    let text = read(&bench.client, false, "").await;
    let words: Vec<_> = text.lines().map(|line| line.splitn(4, ' ').skip(1).collect::<Vec<_>>()).collect();
    assert_eq!(words.iter().map(|words| words[1]).collect::<Vec<_>>(), ["START", "it", "END", "REPORT"]);
    assert!(words.iter().all(|words| words[0] == "1"), "each line names its sandbox: {text}");

    let client = bench.client.clone();
    let following = tokio::spawn(async move { read(&client, true, "it got 3\n").await });
    bench.invoke(json!({ "n": 2 })).await;
    bench.invoke(json!({ "n": 3 })).await;
    let text = following.await.unwrap();
    for n in 1..=3 {
        assert_eq!(text.matches(&format!("it got {n}\n")).count(), 1, "{text}");
    }
}

/// What the server logs, as it goes to standard error.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test] // On one thread, whose subscriber this is, of a process that has no other, as nextest has it.
async fn every_line_of_a_request_carries_its_id() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().json().with_env_filter("info").with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let bench = bench_with(PRINTER, "", |_| {}).await;
    let mut ids = Vec::new();
    for n in 0..2 {
        ids.push(bench.invoke(json!({ "n": n })).await.header("x-amzn-requestid").unwrap().to_owned());
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (n, id) in ids.iter().enumerate() {
        let own: Vec<&Value> = lines.iter().filter(|line| line["span"]["id"] == **id).collect();
        let says = |target: &str, message: &str| {
            own.iter().any(|line| line["target"] == target && line["fields"]["message"] == message)
        };
        assert!(says("function", &format!("it got {n}")) && says("request", "ended"), "{own:#?}\n{text}");
    }
}
