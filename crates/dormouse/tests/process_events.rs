//! Asynchronous invocations through kills of the server: whatever it said 202 to is done, once or more often.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Ground, Server, Setup, until};
use serde_json::{Value, json};

/// How often the server is killed.
const KILLS: usize = 4;

/// Events that are sent between two kills.
const EVENTS: usize = 12;

/// Answers what it gets, or fails.
const CODE: &str = "\
def lambda_handler(event, context):
    if 'fail' in event:
        raise ValueError('no')
    return event
";

fn records(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // Of a line that a kill cut off nothing is told; its record comes again.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn requests(file: &Path, field: &str) -> BTreeSet<String> {
    records(file).iter().map(|record| record[field].to_string()).collect()
}

#[test]
fn every_event_that_was_accepted_is_done_whenever_the_server_is_killed() {
    let ground = Ground::new();
    let sinks = ground.path().join("sinks");
    std::fs::create_dir(&sinks).unwrap();
    let (answered, letters) = (sinks.join("answered.jsonl"), sinks.join("letters.jsonl"));
    let toml = format!(
        "concurrency = 4\n[events]\nretries = 0\non_success = 'file://{}'\ndead_letter = 'file://{}'",
        answered.display(),
        letters.display()
    );
    ground.function("f", CODE, &toml);
    let allowed: &'static str = sinks.display().to_string().leak();
    let setup = Setup { args: vec!["--destinations", allowed], ..Setup::default() };
    let mut accepted = BTreeSet::new();
    let mut failing = BTreeSet::new();
    for round in 0..=KILLS {
        let server = Server::start_with(&ground, setup.clone());
        for n in 0..EVENTS {
            let is_failing = n % 3 == 0;
            let event =
                if is_failing { json!({ "n": [round, n], "fail": 1 }) } else { json!({ "n": [round, n] }) };
            let sent = server.post("f", &[("x-amz-invocation-type", "Event")], event.to_string().as_bytes());
            assert_eq!(sent.unwrap().status, 202);
            if is_failing { &mut failing } else { &mut accepted }.insert(event.to_string());
        }
        if round < KILLS {
            drop(server); // As by `kill -9`.
            ground.await_empty();
            continue;
        }
        until("all are done", || {
            requests(&answered, "requestPayload") == accepted && requests(&letters, "Body") == failing
        });
        server.stop();
    }
}
