//! Function URLs over real sockets, with real functions behind them.

use super::*;

const ECHO: &str = r#"
import json
def lambda_handler(event, context):
    if event["rawPath"] == "/fail":
        raise ValueError("no luck")
    if event["rawPath"] == "/say":
        return json.loads(event["body"])
    return {"statusCode": 203, "headers": {"X-Path": event["rawPath"]}, "cookies": ["seen=1"],
        "body": json.dumps(event)}
"#;

/// A runtime that streams status, header and two pieces, and fails after them at the path `/fail`.
const STREAMER: &str = r#"#!/usr/bin/env python3
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
ROOT = "/2018-06-01/runtime/invocation/"
while True:
    api.request("GET", ROOT + "next")
    said = api.getresponse()
    event, path = json.loads(said.read()), ROOT + said.headers["Lambda-Runtime-Aws-Request-Id"]
    api.putrequest("POST", path + "/response")
    api.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    api.putheader("Transfer-Encoding", "chunked")
    api.putheader("Trailer", "Lambda-Runtime-Function-Error-Type")
    api.putheader("Content-Type", "application/vnd.awslambda.http-integration-response")
    api.endheaders()
    prelude = json.dumps({"statusCode": 418, "headers": {"Content-Type": "text/x"}, "cookies": ["a=b"]}).encode()
    for piece in (prelude[:9], prelude[9:] + b"\0" * 5, b"\0" * 3 + b"one,", b"two"):
        api.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    api.send(b"0\r\n" + (b"Lambda-Runtime-Function-Error-Type: E\r\n" if event["rawPath"] == "/fail" else b"") + b"\r\n")
    api.getresponse().read()
"#;

const CORS_TOML: &str =
    "[url]\nmode = 'BUFFERED'\n[url.cors]\nallow_origins = ['https://a.example']\nmax_age = 7";

/// A server with `echo`, `cors` (the same with settings), `streamer`, and `plain`, which has no URL.
async fn url_bench() -> Bench {
    let bench = bench("", |config| {
        let functions = config.data_dir.with_file_name("urls");
        for (name, file, code, toml) in [
            ("echo", "lambda_function.py", ECHO, "url = true"),
            ("cors", "lambda_function.py", ECHO, CORS_TOML),
            ("streamer", "bootstrap", STREAMER, "[url]\nmode = 'RESPONSE_STREAM'"),
            ("signed", "lambda_function.py", ECHO, "[url]\nauth = 'AWS_IAM'"),
            ("plain", "lambda_function.py", ECHO, ""),
        ] {
            let root = functions.join(name);
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join("function.toml"), toml).unwrap();
            std::fs::write(root.join(file), code).unwrap();
            std::fs::set_permissions(root.join(file), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
        }
        config.catalogue = Catalogue::load(&functions).unwrap();
    });
    bench.await
}

impl Bench {
    pub(super) async fn page(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Page {
        ask(self.server.addr().unwrap(), line, headers, body.to_owned()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_request_reaches_a_function_and_its_answer_is_a_response() {
    let bench = url_bench().await;
    let host = ("host", "echo.lambda-url.localhost");
    for (line, headers) in [
        ("GET /a/b?x=1&x=2", vec![host, ("cookie", "k=v")]),
        ("GET /url/echo/a/b?x=1&x=2", vec![("host", "127.0.0.1"), ("cookie", "k=v")]),
    ] {
        let page = bench.page(line, &headers, "").await;
        assert_eq!((page.status, &page.headers["x-path"]), (203, &"/a/b".parse().unwrap()));
        assert_eq!(page.headers["set-cookie"], "seen=1");
        let event: Value = serde_json::from_str(&page.text.unwrap()).unwrap();
        assert_eq!(event["queryStringParameters"], json!({"x": "1,2"}));
        assert_eq!(event["cookies"], json!(["k=v"]));
        assert_eq!(event["requestContext"]["http"]["method"], "GET");
        assert_eq!(event["requestContext"]["requestId"], page.headers["x-amzn-requestid"].to_str().unwrap());
    }
    let said = bench.page("POST /say", &[host], r#"{"a": 1}"#).await;
    assert_eq!((said.status, said.text.unwrap().as_str()), (200, r#"{"a": 1}"#));
    assert_eq!(bench.page("GET /fail", &[host], "").await.status, 502);
    assert_eq!(bench.page("GET /", &[("host", "plain.lambda-url.localhost")], "").await.status, 404);
    assert_eq!(bench.page("GET /url/nobody", &[("host", "h")], "").await.status, 404);
    let large = " ".repeat(6 * 1024 * 1024 + 1);
    assert_eq!(bench.page("POST /say", &[host], &large).await.status, 413);
}

#[tokio::test]
async fn a_browser_hears_what_it_may_do_without_the_function() {
    let bench = url_bench().await;
    let headers = [("host", "h"), ("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let page = bench.page("OPTIONS /url/cors/", &headers, "").await;
    assert_eq!((page.status, &page.headers["access-control-max-age"]), (200, &"7".parse().unwrap()));
    assert_eq!(bench.node.calls(), [""; 0]);
    let page = bench.page("GET /url/cors/", &headers, "").await;
    let allowed = &page.headers["access-control-allow-origin"];
    assert_eq!((page.status, allowed), (203, &"https://a.example".parse().unwrap()));
    // What is not for everybody is closed to pages of others.
    assert_eq!(bench.page("GET /url/signed/", &headers, "").await.status, 403);
}

#[tokio::test]
async fn a_streamed_answer_brings_its_status_and_headers_and_breaks_off_when_it_fails() {
    let bench = url_bench().await;
    let page = bench.page("GET /url/streamer/", &[("host", "h")], "").await;
    assert_eq!((page.status, page.text.unwrap().as_str()), (418, "one,two"));
    assert_eq!(
        (&page.headers["content-type"], &page.headers["set-cookie"]),
        (&"text/x".parse().unwrap(), &"a=b".parse().unwrap())
    );
    assert!(bench.page("GET /url/streamer/fail", &[("host", "h")], "").await.text.is_err());
}
