//! Requests that nobody would write by hand: made up from Amazon's shapes, right and wrong ones, and for what else the
//! server answers. None may be answered by a 5xx, and none may hang.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::process::Command;

use common::{Ground, Server, Setup, run, scenario};
use serde_json::{Map, Value, json};
use testkit::require_python;

/// Requests made up for each operation, beside those for the edges of its parameters.
const EXAMPLES: &str = "4";

/// Seconds after which no more are made up: for Amazon's API, and for what else there is.
const SECONDS: &str = "30";
const SECONDS_ELSE: &str = "10";

const ECHO: &str = "def lambda_handler(event, context): return event";

/// Has the tool make up requests for what this document describes, for so many seconds.
#[track_caller]
fn drive(ground: &Ground, document: &Value, url: &str, seconds: &str) {
    let file = ground.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let mut tool = Command::new(testkit::python());
    tool.current_dir(ground.path()).env("HOME", ground.path());
    tool.args(["-B", "-m", "schemathesis.cli", "run"]).arg(&file).args(["--url", url]);
    tool.args(["--checks", "not_a_server_error", "--phases", "coverage,fuzzing", "--max-examples", EXAMPLES]);
    // One at a time: Python 3.11 counts the depth of its parser for all threads together, and fails by chance.
    tool.args(["--max-time", seconds, "--request-timeout", "30", "--workers", "1", "--continue-on-failure"]);
    tool.args(["--generation-deterministic", "--warnings", "off", "--no-color"]);
    let ran = run(&mut tool);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    let operations: usize = paths(document).values().map(|path| path.as_object().unwrap().len()).sum();
    let all = format!("Selected: {operations}/{operations}");
    assert!(ran.stdout.contains(&all), "not {all}: {}", ran.stdout);
}

fn paths(document: &Value) -> &Map<String, Value> {
    document["paths"].as_object().unwrap()
}

const METHODS: [&str; 7] = ["get", "head", "options", "post", "put", "patch", "delete"];

/// A document of these paths, each with every method, and of a query, headers and bodies.
fn document(of: &[&str]) -> Value {
    let one = |path: &str, method: &str| {
        let parameter = |name: &str, place: &str| {
            json!({ "name": name, "in": place, "schema": { "type": "string" },
            "required": place == "path" })
        };
        let in_path = path.split(['{', '}']).skip(1).step_by(2).map(|name| parameter(name, "path"));
        let headers = ["Accept", "Origin", "X-Amz-Client-Context", "X-Amzn-Trace-Id", "X-Forwarded-For"];
        let headers = headers.into_iter().map(|name| parameter(name, "header"));
        let parameters: Vec<_> = in_path
            .chain(headers)
            .chain([parameter("x", "query"), parameter("Qualifier", "query"), parameter("k", "cookie")])
            .collect();
        let mut operation =
            json!({ "parameters": parameters, "responses": { "default": { "description": "whatever" } } });
        if !matches!(method, "get" | "head" | "options") {
            let kinds = ["application/json", "text/plain", "application/octet-stream"];
            let body = |kind: &str| (kind.to_owned(), json!({ "schema": {} }));
            operation["requestBody"] = json!({ "content": Map::from_iter(kinds.map(body)) });
        }
        (method.to_owned(), operation)
    };
    let path = |path: &&str| ((*path).to_owned(), Map::from_iter(METHODS.map(|method| one(path, method))));
    let paths = Map::from_iter(of.iter().map(path).map(|(path, methods)| (path, methods.into())));
    json!({ "openapi": "3.0.3", "info": { "title": "more", "version": "1" }, "paths": paths })
}

#[test]
fn no_request_is_answered_by_a_5xx_or_hangs() {
    if !require_python(&["boto3", "schemathesis"]) {
        return;
    }
    let ground = Ground::new();
    ground.function("there", ECHO, "url = true");
    ground.function("pieces", ECHO, "[url]\nmode = 'RESPONSE_STREAM'\n[url.cors]\nallow_origins = ['*']\n");
    let args = vec!["--metrics-listen", "127.0.0.1:0"];
    let server = Server::start_with(&ground, Setup { args, ..Setup::default() });
    let line = server.running.line();
    let (_, watched) = line.strip_suffix("/metrics").and_then(|line| line.split_once(" on ")).unwrap();
    let url = format!("http://{}", server.address);
    let written = ground.path().join("written.json");
    std::fs::write(&written, server.run(&["openapi"]).stdout).unwrap();

    let mut shapes = scenario(&ground, "shapes", server.address);
    shapes.arg("there");
    let shapes = run(shapes.stdin(std::fs::File::open(&written).unwrap())).json();
    drive(&ground, &shapes, &url, SECONDS);
    let urls = document(&["/url/there", "/url/pieces/{rest}", "/url/{id}/{rest}", "/{what}"]);
    drive(&ground, &urls, &url, SECONDS_ELSE);
    let others = document(&["/metrics", "/healthz", "/readyz", "/{what}"]);
    drive(&ground, &others, watched, SECONDS_ELSE);
    assert_eq!(server.invoke("there", &json!({ "n": 1 })).answer(), json!({ "n": 1 }));
    let log = server.running.log();
    assert!(!log.contains("panicked"), "{log}");
    server.stop();
}
