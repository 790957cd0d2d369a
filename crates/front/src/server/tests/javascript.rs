//! Functions for Node, behind the bundled runtime client.

use super::*;

const ESM: &str = r#"
let count = 0;
export async function handler(event, context) {
  if (event.fail) throw new TypeError('no luck');
  if (event.reject) { Promise.reject(new Error('nobody sees it')); await new Promise(() => {}); }
  if (event.circle) { const circle = {}; circle.circle = circle; return circle; }
  return { event, count: ++count, name: context.functionName, hasTime: context.getRemainingTimeInMillis() > 1000 };
}
export const streaming = awslambda.streamifyResponse(async (event, stream) => {
  const page = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'x-y': 'z' } });
  page.write('one,');
  if (event.rawPath === '/fail') throw new Error('half way');
  page.write('two');
  page.end();
});
"#;

const COMMON: &str =
    "exports.handler = (event, context, callback) => callback(null, require('path').sep + event.x);";

/// A server with these functions: name, file, code, `function.toml`.
async fn node_bench() -> Bench {
    let bench = bench("", |config| {
        let functions = config.data_dir.with_file_name("node");
        let streaming = "handler = 'index.streaming'\n[url]\nmode = 'RESPONSE_STREAM'";
        for (name, file, code, toml) in [
            ("common", "index.js", COMMON, "timeout_s = 20"),
            ("esm", "index.mjs", ESM, "timeout_s = 20"),
            ("nothing", "index.mjs", "export const other = 1;", ""),
            ("streaming", "index.mjs", ESM, streaming),
            ("unreadable", "index.mjs", "export const = ;", ""),
        ] {
            let root = functions.join(name);
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join(file), code).unwrap();
            std::fs::write(root.join("function.toml"), toml).unwrap();
        }
        config.catalogue = Catalogue::load(&functions).unwrap();
    });
    bench.await
}

impl Bench {
    async fn node(&self, name: &str, event: Value) -> Seen {
        send(self.server.addr().unwrap(), name, &[], event.to_string().into()).await
    }
}

#[tokio::test]
async fn functions_for_node_answer_fail_and_stream() {
    if !testkit::require_node() {
        return;
    }
    let bench = node_bench().await;
    let expected = json!({ "event": { "a": "ä" }, "count": 1, "name": "esm", "hasTime": true });
    assert_eq!(bench.node("esm", json!({ "a": "ä" })).await.body, expected);
    for (event, kind, message) in [
        (json!({ "fail": 1 }), "TypeError", "no luck"),
        (json!({ "circle": 1 }), "TypeError", "Converting circular structure to JSON"),
    ] {
        let seen = bench.node("esm", event).await;
        assert_eq!(seen.header("x-amz-function-error"), Some("Unhandled"));
        assert_eq!(seen.body["errorType"], kind);
        assert!(seen.body["errorMessage"].as_str().unwrap().starts_with(message), "{seen:?}");
    }
    assert_eq!(bench.node("esm", json!({})).await.body["count"], 2, "none of this cost the process");
    let seen = bench.node("esm", json!({ "reject": 1 })).await;
    assert_eq!(seen.body["errorType"], "Runtime.UnhandledPromiseRejection", "{seen:?}");
    assert_eq!(bench.node("esm", json!({})).await.body["count"], 1, "another serves");

    assert_eq!(bench.node("common", json!({ "x": "y" })).await.body, "/y");
    assert_eq!(bench.node("nothing", json!({})).await.body["errorType"], "Runtime.HandlerNotFound");
    assert_eq!(bench.node("unreadable", json!({})).await.body["errorType"], "Runtime.UserCodeSyntaxError");

    let page = bench.page("GET /url/streaming/", &[("host", "h")], "").await;
    assert_eq!((page.status, &page.headers["x-y"]), (201, &"z".parse().unwrap()));
    assert_eq!(page.text.unwrap(), "one,two");
    assert!(bench.page("GET /url/streaming/fail", &[("host", "h")], "").await.text.is_err());
}
