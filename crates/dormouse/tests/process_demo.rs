//! The demo runs for root and for an ordinary user, and leaves nothing, also when it is interrupted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::process::Command;

use common::{Ground, Ran, Running, run, until};
use protocol::SandboxRecord;
use rustix::process::Signal;
use serde_json::Value;

const ARGS: [&str; 6] = ["demo", "--json", "--sandboxes", "2", "--functions", "hello,objects"];

/// A demo that comes to its end: every answer and every byte was the same.
#[track_caller]
fn check(mut command: Command) -> Ran {
    let ran = run(command.args(ARGS));
    let rows: Vec<Value> = serde_json::from_value(ran.json()).unwrap();
    assert_eq!(rows.iter().map(|row| &row["function"]).collect::<Vec<_>>(), ["hello", "objects"]);
    for row in &rows {
        assert_eq!(
            (&row["answers"]["failed"], &row["memories"]["failed"]),
            (&0.into(), &0.into()),
            "{row:#}"
        );
        assert_eq!((&row["sandboxes"], &row["memories"]["same"]), (&2.into(), &2.into()), "{row:#}");
        let bytes = |key: &str| row[key].as_u64().unwrap();
        assert!(bytes("asleep_bytes") < bytes("warm_bytes"), "{row:#}");
    }
    ran
}

#[test]
fn the_demo_passes_and_leaves_nothing() {
    let ground = Ground::alone();
    let ran = check(ground.command());
    assert!(!ran.stderr.contains("as root, "), "root has it all: {ran:?}");
    ground.await_empty();
}

#[test]
fn the_demo_passes_for_an_ordinary_user_and_says_what_root_would_add() {
    let ground = Ground::alone();
    let ran = check(ground.command_of_nobody());
    assert!(ran.stderr.contains("as root, "), "{ran:?}");
    ground.await_empty();
}

#[test]
fn the_demo_says_what_it_shows() {
    let ground = Ground::alone();
    let ran = run(ground.command().args(["demo", "--sandboxes", "1", "--functions", "hello"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("hello"), "{ran:?}");
    let ran = run(ground.command().args(["demo", "--functions", "fortran"]));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("fortran") && ran.stderr.contains("hint: there are: "), "{ran:?}");
}

/// What runs in the demo, asked at the socket in its own data directory.
fn sandboxes(ground: &Ground) -> Vec<SandboxRecord> {
    let mut entries = std::fs::read_dir(ground.temporary()).unwrap().filter_map(Result::ok);
    let Some(data) = entries.next() else { return Vec::new() };
    let ran = run(ground.command().arg("--data").arg(data.path()).args(["ps", "--json"]));
    serde_json::from_str(&ran.stdout).unwrap_or_default()
}

/// The demo is interrupted as soon as `now` fits its sandboxes.
#[track_caller]
fn check_interrupted(now: impl Fn(&[SandboxRecord]) -> bool) {
    let ground = Ground::alone();
    let mut running = Running::start(&ground, "demo.log", ground.command().args(ARGS));
    until("the moment has come", || {
        assert_eq!(running.ended(), None, "it ended before: {}", running.log());
        now(&sandboxes(&ground))
    });
    running.signal(Signal::INT);
    assert_eq!(running.exit(), 1, "{}", running.log());
    assert!(running.log().contains("interrupted"), "{}", running.log());
    ground.await_empty();
}

#[test]
fn interrupted_while_functions_start_the_demo_leaves_nothing() {
    check_interrupted(|sandboxes| !sandboxes.is_empty());
}

#[test]
fn interrupted_while_functions_sleep_the_demo_leaves_nothing() {
    check_interrupted(|sandboxes| sandboxes.iter().any(|sandbox| sandbox.sleeps > 0));
}

#[test]
fn killed_in_the_middle_the_demo_leaves_no_process_and_no_cgroup() {
    let ground = Ground::alone();
    let mut running = Running::start(&ground, "demo.log", ground.command().args(ARGS));
    until("some have slept", || sandboxes(&ground).iter().any(|sandbox| sandbox.sleeps > 0));
    running.signal(Signal::KILL);
    running.exit();
    until("its processes are gone", || ground.processes().is_empty());
    // Nobody is left to remove its folder.
    for entry in std::fs::read_dir(ground.temporary()).unwrap().map(Result::unwrap) {
        std::fs::remove_dir_all(entry.path()).unwrap();
    }
    ground.await_empty();
}
