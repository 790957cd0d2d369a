//! Versions that are deleted while somebody is on the way to them under the name of an alias: whoever it stands for by then
//! answers, whichever way the call came.

use super::packages::zip;
use super::*;
use crate::dispatch::REMOVALS_MAX;

/// Is not ready before a file is there.
const LATE: &str = r#"
import os, pathlib, time
while not (pathlib.Path(__file__).parents[2] / "go").exists():
    time.sleep(0.005)
def lambda_handler(event, context):
    open(event["began"], "w").close()
"#;

/// A runtime that streams which version it is.
const STREAMER: &str = r#"#!/usr/bin/env python3
import http.client, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    said = api.getresponse()
    said.read()
    path = "/2018-06-01/runtime/invocation/" + said.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
    api.putrequest("POST", path)
    for header in [("Lambda-Runtime-Function-Response-Mode", "streaming"), ("Transfer-Encoding", "chunked")]:
        api.putheader(*header)
    api.endheaders()
    for piece in ("version ", os.environ["AWS_LAMBDA_FUNCTION_VERSION"]):
        api.send(b"%x\r\n%s\r\n" % (len(piece), piece.encode()))
    api.send(b"0\r\n\r\n")
    api.getresponse().read()
"#;

/// Never asks for an invocation.
const NEVER: &str = "#!/bin/sh\nexec sleep 1000\n";

impl Bench {
    /// Waits until so many sandboxes were started.
    async fn until_launched(&self, count: usize) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        let launches = || self.node.calls().iter().filter(|call| call.starts_with("launch")).count();
        while launches() != count {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{count} are never launched: {:?}",
                self.node.calls()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A request in the background.
    fn begin(&self, line: &str) -> JoinHandle<Page> {
        let (addr, line) = (self.server.addr().unwrap(), line.to_owned());
        tokio::spawn(async move { ask(addr, &line, &[("host", "localhost")], "{}").await })
    }

    /// A call of the control API: what it answers.
    async fn told(&self, line: &str, body: Value) -> Value {
        let page = self.page(line, &[("host", "localhost")], &body.to_string()).await;
        let text = page.text.unwrap();
        assert!(page.status < 300, "{line}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_function_urls_are_answered_by_whoever_has_the_name_by_then() {
    let bench = bench("", |_| {}).await;
    let root = "/2015-03-31/functions/g";
    bench.create("g", "provided.al2023", &[("bootstrap", NEVER)]).await;
    bench.told(&format!("POST {root}/versions"), json!({})).await;
    let mut lines = vec!["POST /2021-11-15/functions/g:STREAM/response-streaming-invocations".to_owned()];
    for mode in ["RESPONSE_STREAM", "BUFFERED"] {
        let alias = if mode == "BUFFERED" { "WHOLE" } else { "STREAM" };
        bench.told(&format!("POST {root}/aliases"), json!({ "Name": alias, "FunctionVersion": "1" })).await;
        let asked = json!({ "AuthType": "NONE", "InvokeMode": mode });
        let url = bench.told(&format!("POST /2021-10-31/functions/g/url?Qualifier={alias}"), asked).await;
        let id = url["FunctionUrl"].as_str().unwrap().trim_start_matches("http://");
        lines.push(format!("GET /url/{}/", id.split('.').next().unwrap()));
    }
    let waiting: Vec<_> = lines.iter().map(|line| bench.begin(line)).collect();
    bench.until_launched(lines.len()).await;
    let code = json!({ "ZipFile": zip(&[("bootstrap", STREAMER)]), "Publish": true });
    assert_eq!(bench.told(&format!("PUT {root}/code"), code).await["Version"], "2");
    for alias in ["STREAM", "WHOLE"] {
        bench.told(&format!("PUT {root}/aliases/{alias}"), json!({ "FunctionVersion": "2" })).await;
    }
    bench.told(&format!("DELETE {root}?Qualifier=1"), Value::Null).await;
    for (line, waits) in lines.iter().zip(waiting) {
        let page = waits.await.unwrap();
        let text = page.text.unwrap();
        assert_eq!(page.status, 200, "{line}: {text}");
        let is_there = match line.starts_with("POST") {
            true => text.contains("version ") && text.contains("InvokeComplete"),
            false => text == "version 2",
        };
        assert!(is_there, "{line}: {text:?}");
    }
}

#[tokio::test]
async fn an_event_goes_back_to_the_queue_when_versions_are_deleted_again_and_again() {
    let bench = bench_with(LATE, "timeout_s = 60\nconcurrency = 1", |_| {}).await;
    let (name, addr) = ("f".parse().unwrap(), bench.server.addr().unwrap());
    bench.publish(1).await;
    let event = |began: &str| Bytes::from(json!({ "began": bench.dir.path().join(began) }).to_string());
    let (caller, queued) = (event("caller"), event("event"));
    let caller = tokio::spawn(async move { send(addr, "f:live", &[], caller).await });
    let accepted = send(addr, "f:live", &[("x-amz-invocation-type", "Event")], queued).await;
    assert_eq!(accepted.status, 202);
    let removals = REMOVALS_MAX as u64;
    for number in 1..=removals {
        bench.until_launched(number as usize).await;
        bench.until("both wait", |record| record.queued == 2).await;
        bench.publish(number + 1).await;
        bench.server.deployer().remove_version(&name, Version::Number(number)).await;
    }
    // Whoever waits is told in the end; the event has all the time there is.
    assert_eq!(caller.await.unwrap().status, 404);
    bench.until_launched(removals as usize + 1).await;
    bench.release("go");
    bench.until_there("event").await;
}
