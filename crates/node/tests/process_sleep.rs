//! Real processes sleep and wake: every byte of their memory is what it was, and they go on as if nothing had been.

mod common;

use common::Bench;
use node::{FillBy, NodeConfig, StopBy};
use protocol::State;
use testkit::Subject;

/// Every way of holding and filling that this machine knows.
fn every_way() -> Vec<(&'static str, fn(&mut NodeConfig))> {
    vec![
        ("filled before the thaw", |_| {}),
        ("lazily", |config| config.lazy_above_bytes = 0),
        ("by version 1", |config| config.stop_by = StopBy::CgroupV1),
        ("by trace stops", |config| config.stop_by = StopBy::Ptrace),
        ("as an ordinary user", |config| {
            config.stop_by = StopBy::Ptrace;
            config.fill_by = FillBy::Write;
        }),
    ]
}

/// Sleeps and wakes `subject` in every way. `ask` is asked before and after, and must be answered alike.
#[track_caller]
fn check(subject: &Subject, ask: &str) {
    for (way, configure) in every_way() {
        println!("--- {way}");
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(subject);
        let before = specimen.ask(ask).unwrap();
        for round in 0..3 {
            let found = bench.check(&specimen);
            assert!(found.is_same(), "{way}, round {round}: {found:?}");
            assert!(found.pages_before > 0, "{way}: {found:?}");
            bench.sleep(&specimen);
            let asleep = specimen.sandbox().unwrap().record();
            assert_eq!(asleep.state, State::Dedup, "{way}");
            bench.wake(&specimen);
            assert_eq!(specimen.ask(ask).unwrap(), before, "{way}, round {round}");
        }
    }
}

#[test]
fn every_kind_of_private_memory_comes_back() {
    check(&Subject::specimen(&["memory", "7"]), "checksum");
}

#[test]
fn a_tree_with_grandchildren_and_an_orphan_comes_back() {
    check(&Subject::specimen(&["tree"]), "checksum");
}

#[test]
fn a_python_function_comes_back() {
    check(&Subject::function("hello"), r#"{"verify": true}"#);
}
