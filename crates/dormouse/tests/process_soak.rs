//! Two minutes of random life of a hundred sandboxes: every promise is put to the test, and none is broken.

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

#[test]
fn two_minutes_of_a_hundred_sandboxes_break_no_promise() {
    let ground = Ground::new();
    let json = ground.path().join("soak.json");
    let mut command = ground.command();
    command.args(["bench", "soak", "--minutes", "2", "--sandboxes", "100", "--workers", WORKERS]);
    let ran = run(command.arg("--json").arg(&json));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let bench: SoakBench = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&bench.failures[..], bench.setting.sandboxes), (&[][..], 100));
    for promise in &bench.promises {
        assert!(promise.kept > 0 && promise.broken == 0, "{promise:?}: {}", ran.stdout);
    }
    for wanted in HAPPENED {
        assert!(bench.acts.iter().any(|act| act.act == wanted), "no {wanted}: {}", ran.stdout);
    }
    for account in &bench.accounts {
        // A few may be left warm: a library that was just starting a thread, a call that would not end.
        assert!(account.is_honest() && account.asleep >= 95, "{account:?}: {}", ran.stdout);
    }
    ground.await_empty();
}
