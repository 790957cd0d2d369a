//! What clients and tools of other people do with a real server: one scenario a test, in the client's language.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Ground, Server, Setup, play, play_with, run, scenario};
use serde_json::json;
use testkit::{require, require_python};

/// A function in Rust that comes with the tests.
fn built(example: &str) -> String {
    let file = Path::new(env!("CARGO_BIN_EXE_dormouse")).with_file_name("examples").join(example);
    let how = format!("cargo build -p testkit --example {example}");
    assert!(require(file.is_file(), example, &how));
    file.display().to_string()
}

/// What boto3 is to call: it does as the event says.
const CODE: &str = "\
import os, time
def lambda_handler(event, context):
    if event.get('raise'): raise ValueError('so it is')
    if 'write' in event: open(event['write'], 'w').close()
    while 'wait_for' in event and not os.path.exists(event['wait_for']): time.sleep(0.005)
    client = context.client_context
    return {'event': event, 'custom': client.custom if client else None}
";

#[test]
fn boto3_finds_in_the_server_what_it_finds_in_lambda() {
    if !require_python(&["boto3", "awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    ground.function("f", CODE, "concurrency = 1\ntimeout_s = 100\nkeep_warm_s = 3600\n");
    ground.function("g", CODE, "");
    let mut setup = Setup::outside_cells();
    setup.args.extend(["--queue", "0"]);
    let server = Server::start_with(&ground, setup);
    let ran = run(&mut scenario(&ground, "invoke", server.address));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    server.stop();
}

#[test]
fn sixty_four_clients_at_once_are_answered_throttled_and_deployed_under() {
    let rust = built("rust_function");
    play_with(Setup::outside_cells(), "crowd", |_, command| _ = command.arg(rust));
}

#[test]
fn a_function_in_rust_is_served_with_all_that_its_crate_can() {
    play("rust", &[&built("rust_function")]);
}

#[test]
fn what_terraform_calls_is_as_it_expects() {
    play("terraform", &[]);
}

#[test]
fn function_urls_are_called_by_everybody_or_by_those_who_sign() {
    play_with(Setup::default(), "urls", |server, command| {
        let key = server.run(&["key", "add", "--json"]).json();
        command.env("AWS_ACCESS_KEY_ID", key["id"].as_str().unwrap());
        command.env("AWS_SECRET_ACCESS_KEY", key["secret"].as_str().unwrap());
    });
}

#[test]
fn snapshot_hooks_run_around_the_first_sleep() {
    if require_python(&["snapshot_restore_py"]) {
        play_with(Setup::default(), "snap", |server, command| _ = command.arg(&server.socket));
    }
}

/// Cargo would take a minute for what is built with the tests already, from the same text.
#[test]
fn a_new_function_in_rust_is_a_project_whose_program_is_served() {
    let ground = Ground::new();
    let server = Server::start(&ground);
    let folder = ground.path().join("fresh");
    let path = folder.to_str().unwrap();
    assert_eq!(server.run(&["init", "rust", path]).code, Some(0));
    let mut cargo = Command::new(env!("CARGO"));
    let project = run(cargo.args(["metadata", "--no-deps", "--offline"]).current_dir(&folder)).json();
    assert_eq!(project["packages"][0]["targets"][0]["kind"], json!(["bin"]), "{project}");
    assert_eq!(project["packages"][0]["name"], json!("fresh"));
    std::fs::copy(built("init_rust"), folder.join("bootstrap")).unwrap();
    let deployed = server.run(&["deploy", path]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    let answer = server.run(&["invoke", "fresh", "--payload", "{\"name\": \"you\"}"]);
    assert_eq!(answer.json(), json!({ "hello": "you" }));
    server.stop();
}
