//! Real processes sleep and wake: every byte of their memory is what it was, and they go on as if nothing had been.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Bench, every_way};
use protocol::State;
use testkit::{Subject, require_java, require_node, require_python};

/// Sleeps, each with every byte compared, in one way of holding and filling.
const ROUNDS: usize = 2;

/// Sleeps and wakes `subject` in every way. Each of `asks` is asked before; the last one after each sleep, too, and
/// must be answered alike.
#[track_caller]
fn check(subject: &Subject, asks: &[&str]) {
    for (way, configure) in every_way() {
        println!("--- {way}");
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(subject);
        let before: Vec<_> = asks.iter().map(|ask| specimen.ask(ask).unwrap()).collect();
        for round in 0..ROUNDS {
            let found = bench.check(&specimen);
            assert!(found.is_same(), "{way}, round {round}: {found:?}");
            assert!(found.pages_before > 0, "{way}: {found:?}");
            bench.sleep(&specimen);
            let asleep = specimen.sandbox().unwrap().record();
            assert_eq!(asleep.state, State::Dedup, "{way}");
            bench.wake(&specimen);
            let last = before.len() - 1;
            assert_eq!(specimen.ask(asks[last]).unwrap(), before[last], "{way}, round {round}");
        }
    }
}

/// The state of a Python function, after an answer that its threads or its child must work for.
#[track_caller]
fn check_function(name: &str, modules: &[&str]) {
    if require_python(modules) {
        let subject = Subject::function(name);
        check(&subject, &[r#"{"n": 3}"#, r#"{"verify": true}"#]);
    }
}

#[test]
fn every_kind_of_private_memory_comes_back() {
    check(&Subject::specimen(&["memory", "7"]), &["checksum"]);
}

#[test]
fn memory_that_was_written_to_again_comes_back() {
    // Of each region some pages are zeros now, private copies of file pages among them.
    for seed in ["1", "2"] {
        check(&Subject::specimen(&["memory", "8"]), &[&format!("mutate {seed}"), "checksum"]);
    }
}

#[test]
fn a_tree_with_grandchildren_and_an_orphan_comes_back() {
    check(&Subject::specimen(&["tree"]), &["checksum"]);
}

#[test]
fn a_python_function_comes_back() {
    check_function("hello", &[]);
}

#[test]
fn numpy_comes_back() {
    check_function("numpy", &["numpy"]);
}

#[test]
fn pandas_comes_back() {
    check_function("pandas", &["pandas"]);
}

#[test]
fn scikit_learn_comes_back() {
    check_function("sklearn", &["sklearn"]);
}

#[test]
fn python_threads_that_tick_come_back() {
    check_function("threads", &[]);
}

#[test]
fn an_event_loop_with_a_timer_comes_back() {
    check_function("asyncio", &[]);
}

#[test]
fn a_python_function_with_a_child_comes_back() {
    check_function("child", &[]);
}

#[test]
fn a_node_server_comes_back() {
    if require_node() {
        check(&Subject::node_server(), &["/?n=3", "/verify"]);
    }
}

#[test]
fn a_java_virtual_machine_comes_back() {
    if require_java() {
        check(&Subject::java_function(), &[r#"{"n": 3}"#, r#"{"verify": true}"#]);
    }
}
