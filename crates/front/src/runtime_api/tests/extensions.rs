//! Extensions beside a runtime, by hand.

use super::*;

/// One call of an extension: status, the id in the answer, body.
pub(super) async fn ask(
    bench: &Bench,
    line: &str,
    header: (&str, &str),
    body: &'static str,
) -> (u16, String, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let line = format!("{method} /2020-01-01/extension/{path}");
    let page = ask_on(&mut bench.client().await, &line, &[("host", "h"), header], body).await;
    (page.status, page.header("lambda-extension-identifier").to_owned(), page.text.unwrap())
}

pub(super) const NAME: &str = "lambda-extension-name";
pub(super) const ID: &str = "lambda-extension-identifier";

pub(super) async fn bench_with_extension() -> Bench {
    bench_of(About { extensions: vec!["outer".to_owned()], ..About::default() }).await
}

#[tokio::test]
async fn a_sandbox_is_ready_when_its_runtime_and_all_its_extensions_wait() {
    let mut bench = bench_with_extension().await;
    let mut runtime = bench.client().await;
    let waiting =
        tokio::spawn(async move { call(&mut runtime, "GET", "invocation/next", Bytes::new()).await });
    let both = r#"{"events": ["INVOKE", "SHUTDOWN"]}"#;
    let (status, id, said) = ask(&bench, "POST register", (NAME, "outer"), both).await;
    assert_eq!((status, said.contains("functionName")), (200, true), "{said}");
    assert!(bench.messages.try_recv().is_err(), "it has not asked for an event");
    let (event, ()) = tokio::join!(ask(&bench, "GET event/next", (ID, &id), ""), async {
        tokio::time::sleep(Duration::from_millis(1)).await; // The other side of the join comes first.
        while bench.messages.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(bench.api.offer(an_offer("7", "{}")));
    });
    let event: serde_json::Value = serde_json::from_str(&event.2).unwrap();
    assert_eq!((&event["eventType"], &event["requestId"]), (&"INVOKE".into(), &"7".into()));
    assert_eq!(waiting.await.unwrap().0, 200);
    bench.ready().await;

    let mut runtime = bench.client().await;
    assert_eq!(call(&mut runtime, "POST", "invocation/7/response", "1".into()).await.0, 202);
    bench.outcome().await;
    let waiting =
        tokio::spawn(async move { call(&mut runtime, "GET", "invocation/next", Bytes::new()).await });
    tokio::task::yield_now().await;
    assert!(bench.messages.try_recv().is_err(), "the extension is still at work");
    let (event, ()) = tokio::join!(ask(&bench, "GET event/next", (ID, &id), ""), async {
        while bench.messages.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(bench.api.shut_down(5));
    });
    assert!(event.2.contains("SHUTDOWN") && event.2.contains("SPINDOWN"), "{event:?}");
    bench.ready().await;
    waiting.abort();
}

#[tokio::test]
async fn who_is_not_known_is_not_served() {
    let bench = bench_with_extension().await;
    let none = r#"{"events": []}"#;
    assert_eq!(ask(&bench, "POST register", ("x-no", "name"), none).await.0, 403);
    assert_eq!(ask(&bench, "POST register", (NAME, "outer"), r#"{"events": ["NOISE"]}"#).await.0, 403);
    let shutdown = r#"{"events": ["SHUTDOWN"]}"#;
    assert_eq!(ask(&bench, "POST register", (NAME, "inner"), shutdown).await.0, 403);
    assert_eq!(ask(&bench, "POST register", (NAME, "inner"), none).await.0, 200);
    assert_eq!(ask(&bench, "POST register", (NAME, "inner"), none).await.0, 403, "twice");
    assert_eq!(ask(&bench, "GET event/next", (ID, "nobody"), "").await.0, 403);
    assert_eq!(ask(&bench, "GET event/next", ("x-no", "id"), "").await.0, 403);
}

#[tokio::test]
async fn an_extension_that_cannot_start_fails_the_initialisation() {
    let mut bench = bench_with_extension().await;
    let (_, id, _) = ask(&bench, "POST register", (NAME, "outer"), r#"{"events": []}"#).await;
    assert_eq!(ask(&bench, "POST init/error", (ID, &id), r#"{"errorType":"E"}"#).await.0, 202);
    let RuntimeEvent::InitError(body) = bench.event().await else { panic!() };
    assert_eq!(body, r#"{"errorType":"E"}"#);
}
