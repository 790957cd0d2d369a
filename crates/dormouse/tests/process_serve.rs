//! Functions answer the same after a sleep as before it, through the real server, whatever runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use common::{Ground, Server, Setup};
use protocol::State;
use serde_json::{Value, json};
use testkit::{require, require_java, require_python};

/// A sleeping function keeps a hundredth of its memory, or so little that it does not matter: stacks in use, what
/// the kernel itself touches.
const RESIDENT_PART: u64 = 10;
const RESIDENT_BYTES: u64 = 512 << 10;

/// Sleeps and wakes a function, and asks it the same before and after.
#[track_caller]
fn check(ground: &Ground, setup: Setup, function: &str) {
    let server = Server::start_with(ground, setup);
    let ask = |event: Value| server.invoke(function, &event).answer();
    let everything = || (ask(json!({ "verify": true })), ask(json!({ "n": 3 })), ask(json!({ "n": 4 })));
    let before = everything();
    assert_ne!(before.1, before.2, "{function} answers what it is asked");
    let pid = server.sandbox_of(function).pid;
    for round in 0..3 {
        server.sleep_all();
        let asleep = server.sandbox_of(function);
        assert_eq!((asleep.state, asleep.pid), (State::Dedup, pid), "{function}, round {round}");
        let account = asleep.account;
        let bound = (account.warm_bytes / RESIDENT_PART).max(RESIDENT_BYTES);
        assert!(account.resident_bytes <= bound, "{function}, round {round}: {account:#?}");
        assert_eq!(everything(), before, "{function}, round {round}");
        assert_eq!(server.sandbox_of(function).pid, pid, "{function}, round {round}");
        let found = server.check(&asleep);
        assert!(found.is_same() && found.pages_before > 0, "{function}, round {round}: {found:#?}");
    }
    assert_eq!(everything(), before, "{function} after the last check");
    assert_eq!(server.stats().node.pages_damaged, 0);
    server.stop();
}

/// An example function under Amazon's own runtime client, filled before the thaw and lazily.
#[track_caller]
fn check_example(function: &str, modules: &[&str]) {
    if !require_python(&[modules, &["awslambdaric"]].concat()) {
        return;
    }
    for mib in ["0", "4096"] {
        let ground = Ground::new();
        ground.example(function);
        check(&ground, Setup { args: vec!["--lazy-above", mib], ..Setup::default() }, function);
    }
}

#[test]
fn hello_sleeps_and_wakes() {
    check_example("hello", &[]);
}

#[test]
fn html_sleeps_and_wakes() {
    check_example("html", &[]);
}

#[test]
fn objects_sleep_and_wake() {
    check_example("objects", &[]);
}

#[test]
fn threads_sleep_and_wake() {
    check_example("threads", &[]);
}

#[test]
fn asyncio_sleeps_and_wakes() {
    check_example("asyncio", &[]);
}

#[test]
fn a_child_process_sleeps_and_wakes_with_its_parent() {
    check_example("child", &[]);
}

#[test]
fn numpy_sleeps_and_wakes() {
    check_example("numpy", &["numpy"]);
}

#[test]
fn pandas_sleeps_and_wakes() {
    check_example("pandas", &["pandas"]);
}

/// A Python that does not find what is installed beside it.
fn bare_python(ground: &Ground) -> PathBuf {
    let path = ground.path().join("bare-python");
    fs::write(&path, format!("#!/bin/sh\nexec '{}' -S \"$@\"\n", testkit::python().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_python_without_the_runtime_client_gets_the_bundled_one() {
    let ground = Ground::new();
    ground.example("hello");
    let python = bare_python(&ground);
    assert!(!has_runtime_client(&python) && python.exists());
    let env = vec![("DORMOUSE_PYTHON", python.display().to_string())];
    check(&ground, Setup { env, ..Setup::default() }, "hello");
}

fn has_runtime_client(python: &PathBuf) -> bool {
    let import = std::process::Command::new(python).args(["-c", "import awslambdaric"]).output();
    import.unwrap().status.success()
}

#[test]
fn the_bundled_client_and_amazons_answer_alike() {
    if !require_python(&["awslambdaric"]) {
        return;
    }
    let code = "\
import os
def lambda_handler(event, context):
    if event == 'raise': raise ValueError('so it is')
    return {'event': event, 'name': context.function_name, 'version': context.function_version,
            'memory': context.memory_limit_in_mb, 'arn': context.invoked_function_arn,
            'left': 0 < context.get_remaining_time_in_millis() <= 3000, 'task': os.environ['LAMBDA_TASK_ROOT'],
            'handler': os.environ['_HANDLER'], 'here': os.getcwd()}
";
    let answers = |python: Option<PathBuf>, ground: &Ground| {
        ground.function("f", code, "");
        let env = python.map(|python| ("DORMOUSE_PYTHON", python.display().to_string()));
        let server = Server::start_with(ground, Setup { env: env.into_iter().collect(), ..Setup::default() });
        let mut all = Vec::new();
        for event in [json!({"a": [1, 2.5, null, "ü"]}), json!([]), json!("text"), json!(null)] {
            all.push(server.invoke("f", &event).answer());
        }
        let failed = server.invoke("f", &json!("raise"));
        assert_eq!((failed.status, failed.header("x-amz-function-error")), (200, Some("Unhandled")));
        let mut error = failed.json();
        error["requestId"] = Value::Null;
        all.push(error);
        server.stop();
        // Where the test runs is no part of the answer.
        let text = json!(all).to_string().replace(&ground.path().display().to_string(), "");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let (one, other) = (Ground::new(), Ground::new());
    assert_eq!(answers(Some(bare_python(&one)), &one), answers(None, &other));
}

#[test]
fn a_runtime_of_its_own_sleeps_and_wakes() {
    let curl = std::process::Command::new("curl").arg("--version").output();
    if !require(curl.is_ok_and(|output| output.status.success()), "curl", "install curl") {
        return;
    }
    let ground = Ground::new();
    ground.example("shell");
    check(&ground, Setup::default(), "shell");
}

#[test]
fn a_java_virtual_machine_sleeps_and_wakes() {
    if !require_java() {
        return;
    }
    for mib in ["0", "4096"] {
        let ground = Ground::new();
        ground.example("java");
        check(&ground, Setup { args: vec!["--lazy-above", mib], ..Setup::default() }, "java");
    }
}

#[test]
fn several_functions_sleep_side_by_side_and_share_what_is_alike() {
    let ground = Ground::new();
    ["hello", "html", "threads"].iter().for_each(|name| ground.example(name));
    let server = Server::start(&ground);
    let all = || {
        let answer = |name: &&str| server.invoke(name, &json!({ "verify": true })).answer();
        ["hello", "html", "threads"].iter().map(answer).collect::<Vec<_>>()
    };
    let before = all();
    server.sleep_all();
    let asleep = server.sandboxes();
    assert!(asleep.iter().all(|sandbox| sandbox.state == State::Dedup), "{asleep:#?}");
    assert!(asleep.iter().any(|sandbox| sandbox.account.store_identical_bytes > 0), "{asleep:#?}");
    assert_eq!(all(), before);
    server.stop();
}
