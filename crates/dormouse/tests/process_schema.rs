//! Requests that nobody would write by hand: made up from Amazon's shapes, right and wrong ones. None may be answered by
//! a 5xx, and none may hang.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::process::Command;

use common::{Ground, Server, run, scenario};
use serde_json::json;
use testkit::require_python;

/// Requests made up for each operation, beside those for the edges of its parameters.
const EXAMPLES: &str = "4";

/// Seconds after which no more are made up.
const SECONDS: &str = "30";

#[test]
fn no_request_is_answered_by_a_5xx_or_hangs() {
    if !require_python(&["boto3", "schemathesis"]) {
        return;
    }
    let ground = Ground::new();
    ground.function("there", "def lambda_handler(event, context): return event", "");
    let server = Server::start(&ground);
    let url = format!("http://{}", server.address);
    let document = ground.path().join("openapi.json");
    std::fs::write(&document, server.run(&["openapi"]).stdout).unwrap();

    let mut shapes = scenario(&ground, "shapes", server.address);
    shapes.arg("there");
    let shapes = run(shapes.stdin(std::fs::File::open(&document).unwrap()));
    assert_eq!(shapes.code, Some(0), "{}", shapes.stderr);
    std::fs::write(&document, shapes.stdout).unwrap();

    let mut tool = Command::new(testkit::python());
    tool.current_dir(ground.path()).env("HOME", ground.path());
    tool.args(["-B", "-m", "schemathesis.cli", "run"]).arg(&document).args(["--url", &url]);
    tool.args(["--checks", "not_a_server_error", "--phases", "coverage,fuzzing", "--max-examples", EXAMPLES]);
    // One at a time: Python 3.11 counts the depth of its parser for all threads together, and fails by chance.
    tool.args(["--max-time", SECONDS, "--request-timeout", "30", "--workers", "1", "--continue-on-failure"]);
    tool.args(["--generation-deterministic", "--warnings", "off", "--no-color"]);
    let ran = run(&mut tool);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(server.invoke("there", &json!({ "n": 1 })).answer(), json!({ "n": 1 }));
    server.stop();
}
