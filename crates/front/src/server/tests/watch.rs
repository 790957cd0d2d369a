//! Metrics and health, as those who watch a server ask for them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use testkit::require_promtool;

use super::*;

/// What a GET at the metrics' own address returns: status, type and text.
async fn get(bench: &Bench, path: &str, accept: &str) -> (u16, String, String) {
    let headers = [("host", "localhost"), ("accept", accept)];
    let page = ask(bench.server.metrics_addr().unwrap(), &format!("GET {path}"), &headers, "").await;
    (page.status, page.header("content-type").to_owned(), page.text.unwrap())
}

async fn watched() -> Bench {
    bench("", |config| config.metrics_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await
}

#[tokio::test]
async fn promtool_accepts_the_metrics_without_a_warning() {
    let Some(promtool) = require_promtool() else { return };
    let bench = watched().await;
    bench.invoke(json!({})).await;
    bench.invoke(json!({ "fail": "so" })).await;
    bench.client.sleep(SandboxId(1)).await.unwrap();
    bench.invoke(json!({})).await;
    let (status, kind, text) = get(&bench, "/metrics", "*/*").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "dormouse_invocations_total{function=\"f\",outcome=\"error\"} 1",
        "dormouse_invocation_seconds_count{function=\"f\"} 3",
        "dormouse_start_seconds_count{function=\"f\",found=\"cold\"} 1",
        "dormouse_start_seconds_count{function=\"f\",found=\"dedup\"} 1",
        "dormouse_ready 1",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    let mut child = Command::new(promtool);
    child.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(said.status.success() && words == ["", ""], "{words:?}\n{text}");

    let (_, kind, text) =
        get(&bench, "/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.3").await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn a_server_that_cannot_work_lives_and_is_not_ready() {
    let bench = watched().await;
    let ask = async |path| {
        let (status, _, text) = get(&bench, path, "*/*").await;
        (status, text)
    };
    assert_eq!(ask("/healthz").await, (200, "alive\n".to_owned()));
    assert_eq!(ask("/readyz").await, (200, "ready\n".to_owned()));
    bench.node.faults().not_ready.store(true, SeqCst);
    assert_eq!(ask("/healthz").await.0, 200);
    assert_eq!(ask("/readyz").await, (503, "not ready: its guard is dead\n".to_owned()));
    assert_eq!(ask("/v1/stats").await.0, 404, "nothing that commands is here");
}
