//! Telemetry, as an extension gets it.

use tokio::net::TcpListener;

use super::extensions::{ID, NAME, ask, bench_with_extension};
use super::*;

/// A subscriber: says of each push what types and records it brought.
async fn pushed(listener: &TcpListener) -> Vec<(String, serde_json::Value)> {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    let accepted = tokio::time::timeout(WAIT_MAX, listener.accept()).await.expect("no push");
    let mut stream = BufReader::new(accepted.unwrap().0);
    let mut len = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some((_, value)) = line.to_lowercase().split_once("content-length:") {
            len = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let events: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
    let told =
        |event: serde_json::Value| (event["type"].as_str().unwrap().to_owned(), event["record"].clone());
    events.into_iter().map(told).collect()
}

async fn subscribe(bench: &Bench, id: &str, body: String) -> u16 {
    let headers = [("host", "h"), (ID, id)];
    ask_on(&mut bench.client().await, "PUT /2022-07-01/telemetry", &headers, body).await.status
}

#[tokio::test]
async fn lines_and_the_platforms_events_are_pushed_while_the_sandbox_is_at_work() {
    let mut bench = bench_with_extension().await;
    let (_, id, _) = ask(&bench, "POST register", (NAME, "outer"), r#"{"events": ["INVOKE"]}"#).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = |uri: String, kind: &str| {
        let destination = serde_json::json!({ "protocol": "HTTP", "URI": uri });
        let buffering = serde_json::json!({ "timeoutMs": 25, "maxItems": 1000, "maxBytes": 262_144 });
        serde_json::json!({ "schemaVersion": "2022-12-13", "types": ["platform", kind],
            "destination": destination, "buffering": buffering })
        .to_string()
    };
    let own = format!("http://sandbox.localdomain:{port}/");
    assert_eq!(subscribe(&bench, "nobody", body(own.clone(), "function")).await, 403);
    assert_eq!(subscribe(&bench, &id, body(own.clone(), "noise")).await, 403);
    assert_eq!(subscribe(&bench, &id, body("http://example.com:80/".to_owned(), "function")).await, 403);
    bench.api.telemetry().line(b"early");
    let nowhere = "http://sandbox.localdomain:1/".to_owned();
    assert_eq!(subscribe(&bench, &id, body(nowhere, "extension")).await, 200);
    assert_eq!(subscribe(&bench, &id, body(own.clone(), "function")).await, 200, "the last one counts");
    let first = pushed(&listener).await;
    assert!(first.contains(&("function".to_owned(), "early".into())), "{first:?}");

    let mut runtime = bench.client().await;
    let waiting =
        tokio::spawn(async move { call(&mut runtime, "GET", "invocation/next", Bytes::new()).await });
    let mut extension = Box::pin(ask(&bench, "GET event/next", (ID, &id), ""));
    while bench.messages.is_empty() {
        let _ = tokio::time::timeout(Duration::from_millis(1), &mut extension).await;
    }
    bench.api.telemetry().line(b"at rest");
    assert!(bench.api.offer(an_offer("7", "{}")));
    assert!(extension.await.2.contains("INVOKE"));
    let second = pushed(&listener).await;
    let kinds: Vec<_> = second.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["platform.initRuntimeDone", "function", "platform.start"]);
    assert_eq!(second[1].1, "at rest");
    assert_eq!(second[2].1["requestId"], "7");
    assert_eq!(waiting.await.unwrap().0, 200);

    bench.ready().await;
    let mut runtime = bench.client().await;
    assert_eq!(call(&mut runtime, "POST", "invocation/7/response", "1".into()).await.0, 202);
    let third = pushed(&listener).await;
    assert_eq!((third[0].0.as_str(), &third[0].1["status"]), ("platform.runtimeDone", &"success".into()));
    assert_eq!(subscribe(&bench, &id, body(own, "function")).await, 403, "too late");
}
