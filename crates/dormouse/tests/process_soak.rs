//! Random life of many sandboxes: every promise is put to the test, and none is broken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Ground, run};
use report::soak::SoakBench;

/// Most are small, so that a machine with two processors comes to many rounds.
const WORKERS: &str = "hello,hello,hello,numpy,pandas,node";

/// What must have happened at least once, or the soak has proven nothing.
const HAPPENED: [&str; 9] = [
    "bases replaced",
    "invocations",
    "invocations while falling asleep",
    "kills",
    "purges",
    "sleeps",
    "sleeps broken off",
    "sleeps with all memory compared",
    "wakes that nobody waits for",
];

/// Of these the shorter one has enough on any machine.
const HAPPENED_OFTEN: [&str; 5] = [
    "bases replaced",
    "invocations",
    "sleeps",
    "sleeps with all memory compared",
    "wakes that nobody waits for",
];

/// Starting and the last looks come on top.
const PINNED: [&str; 6] = ["--minutes", "0.75", "--sandboxes", "100", "--layout", "pinned"];
const RANDOM: [&str; 6] = ["--minutes", "0.5", "--sandboxes", "20", "--layout", "random"];

/// Soaks, and judges all that does not depend on how long it was.
#[track_caller]
fn soak(how: &[&str]) -> SoakBench {
    let ground = Ground::alone();
    let json = ground.path().join("soak.json");
    let mut command = ground.command();
    command.args(["bench", "soak", "--workers", WORKERS]).args(how);
    let ran = run(command.arg("--json").arg(&json));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let bench: SoakBench = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(bench.failures, Vec::<String>::new());
    for promise in &bench.promises {
        assert!(promise.kept > 0 && promise.broken == 0, "{promise:?}: {}", ran.stdout);
    }
    for account in &bench.accounts {
        // A few may be left warm: a library that was just starting a thread, a call that would not end.
        let most = bench.setting.sandboxes * 95 / 100;
        assert!(account.is_honest() && account.asleep >= most, "{account:?}: {}", ran.stdout);
    }
    ground.await_empty();
    bench
}

#[track_caller]
fn must_have_happened(bench: &SoakBench, acts: &[&str]) {
    for wanted in acts {
        assert!(bench.acts.iter().any(|act| act.act == *wanted), "no {wanted}: {:?}", bench.acts);
    }
}

#[test]
fn a_hundred_sandboxes_break_no_promise() {
    let bench = soak(&PINNED);
    assert_eq!(bench.setting.sandboxes, 100);
    must_have_happened(&bench, &HAPPENED);
}

/// Pages are alike by content alone there: other base pages are found, in another way.
#[test]
fn nor_do_some_whose_memory_lies_at_random() {
    must_have_happened(&soak(&RANDOM), &HAPPENED_OFTEN);
}
