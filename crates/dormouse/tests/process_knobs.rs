//! The bench turns knobs of the kernel (zram, swap, KSM) and turns them back, also when it is interrupted. What they
//! were is in the census that every ground takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Ground, Running, run, until};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_bench_leaves_the_kernel_as_it_was() {
    let ground = Ground::alone();
    let ran =
        run(ground.command().args(["bench", "sleep", "--quick", "--rounds", "1", "--workers", "hello"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("dormouse") && !ran.stdout.contains("WRONG"), "{ran:?}");
    ground.await_empty();
}

/// Whether the bench will swap to zram here.
fn can_zram(ground: &Ground) -> bool {
    let findings: Vec<Value> = serde_json::from_value(ground.run(&["doctor", "--json"]).json()).unwrap();
    findings.iter().any(|finding| finding["what"] == "zram" && finding["found"] == "can be set up")
}

#[test]
fn a_bench_that_is_interrupted_leaves_the_kernel_as_it_was() {
    let ground = Ground::alone();
    let can_zram = can_zram(&ground);
    let has_swap = || std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.contains("zram"));
    let mut command = ground.command();
    command.args(["bench", "sleep", "--quick", "--rounds", "50", "--workers", "hello"]);
    let mut running = Running::start(&ground, "bench.log", &mut command);
    until("it has turned a knob, or started a worker", || {
        assert_eq!(running.ended(), None, "{}", running.log());
        if can_zram { has_swap() } else { ground.processes().len() > 1 }
    });
    running.signal(Signal::INT);
    assert_eq!(running.exit(), 1, "{}", running.log());
    ground.await_empty();
}
