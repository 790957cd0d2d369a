//! A process may do anything to its address space right after a wake: what it sees then is what a twin sees that
//! never slept. While memory is still on its way back, each act is an event that the node must follow.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{AS_USER, Bench, Draw, FILLED, LAZY, Way, sandbox};
use testkit::{Specimen, Subject};

/// Acts of the `memory` specimen. Each leaves memory that the next ones can work on.
const ACTS: [&str; 13] = [
    "fork",
    "spawn",
    "thread",
    "mmap 3",
    "mremap-move",
    "mremap-grow",
    "munmap",
    "mprotect",
    "dontneed",
    "grow-heap",
    "shrink-heap",
    "pipe",
    "mutate 5",
];

/// When the act comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// At once: what is still out comes back by fault alone.
    RightAfterTheWake,
    /// While the background fills.
    WhileItFills,
}

/// Both with the same seed: one in a sandbox, one that never sleeps.
struct Pair<'a> {
    bench: &'a Bench,
    slept: Specimen,
    twin: Specimen,
}

impl Pair<'_> {
    fn new<'a>(bench: &'a Bench, subject: &Subject) -> Pair<'a> {
        Pair { bench, slept: bench.launch(subject), twin: Specimen::alone(subject).unwrap() }
    }

    /// Sleep, wake, and this act at once.
    #[track_caller]
    fn act_after_a_sleep(&mut self, act: &str, moment: Moment) {
        self.bench.sleep(&self.slept);
        self.bench.wake(&self.slept);
        if moment == Moment::WhileItFills {
            // The background begins when the first invocation is answered.
            sandbox(&self.slept).begin_invocation().unwrap();
            sandbox(&self.slept).end_invocation().unwrap();
        }
        self.ask_both(act);
    }

    #[track_caller]
    fn ask_both(&mut self, command: &str) {
        let slept = self.slept.ask(command).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert_eq!(slept, self.twin.ask(command).unwrap(), "{command}");
    }
}

/// Lets all memory come back, so that from now on it is noted what is written.
fn let_all_come_back(bench: &Bench, specimen: &Specimen) {
    sandbox(specimen).begin_invocation().unwrap();
    sandbox(specimen).end_invocation().unwrap();
    testkit::until(|| bench.node.record().shadows == 1).unwrap();
}

/// Does each of `acts` when all memory is back and writes are noted. Then the next sleep must find what each changed:
/// the check hashes what the process has, and what comes back from the store.
#[track_caller]
fn check_noted(acts: &[&str]) {
    println!("--- noted: {acts:?}");
    let bench = Bench::with(LAZY.1);
    let mut pair = Pair::new(&bench, &Subject::specimen(&["memory", "7"]));
    for act in acts {
        bench.sleep(&pair.slept);
        bench.wake(&pair.slept);
        let_all_come_back(&bench, &pair.slept);
        pair.ask_both(act);
        let found = bench.check(&pair.slept);
        assert!(found.is_same(), "{act}: {found:?}");
        assert!(found.sleep.unchanged_pages > 0, "{act}: {found:?}");
        pair.ask_both("checksum");
    }
}

/// Does each of `acts` right after a wake, and compares all memory after it.
#[track_caller]
fn check((way, configure): Way, moment: Moment, acts: &[&str]) {
    println!("--- {way}, {moment:?}: {acts:?}");
    let bench = Bench::with(configure);
    let mut pair = Pair::new(&bench, &Subject::specimen(&["memory", "7"]));
    for act in acts {
        pair.act_after_a_sleep(act, moment);
        pair.ask_both("checksum");
    }
    let found = bench.check(&pair.slept);
    assert!(found.is_same(), "{way}: {found:?}");
}

/// A sequence of acts that follows from a seed. Not `mmap` or `mremap-grow` too often: memory would have no end.
fn drawn(seed: u64) -> Vec<&'static str> {
    let mut draw = Draw::seeded(seed);
    (0..12).map(|_| ACTS[draw.below(ACTS.len() as u64) as usize]).collect()
}

#[test]
fn what_any_act_changes_is_noticed_by_the_next_sleep() {
    check_noted(&ACTS);
}

#[test]
fn any_act_is_right_when_all_memory_is_back() {
    check(FILLED, Moment::RightAfterTheWake, &ACTS);
}

#[test]
fn any_act_is_right_when_all_memory_was_written_back() {
    check(AS_USER, Moment::RightAfterTheWake, &ACTS);
}

#[test]
fn any_act_is_right_while_memory_comes_back_by_fault() {
    check(LAZY, Moment::RightAfterTheWake, &ACTS);
}

#[test]
fn any_act_is_right_while_memory_comes_back_in_the_background() {
    check(LAZY, Moment::WhileItFills, &ACTS);
}

#[test]
fn acts_in_any_order_are_right_while_memory_comes_back() {
    for seed in 1..=4 {
        check(LAZY, Moment::RightAfterTheWake, &drawn(seed));
        check(LAZY, Moment::WhileItFills, &drawn(seed + 100));
    }
}

#[test]
fn acts_follow_each_other_while_memory_comes_back() {
    let bench = Bench::with(LAZY.1);
    let mut pair = Pair::new(&bench, &Subject::specimen(&["memory", "9"]));
    for seed in 1..=6 {
        pair.act_after_a_sleep("mremap-move", Moment::WhileItFills);
        drawn(seed).iter().take(4).for_each(|act| pair.ask_both(act));
        pair.ask_both("checksum");
    }
}

#[test]
fn a_process_may_sleep_again_while_memory_comes_back() {
    let bench = Bench::with(LAZY.1);
    let mut pair = Pair::new(&bench, &Subject::specimen(&["memory", "11"]));
    for act in ["fork", "mremap-move", "dontneed", "munmap"] {
        pair.act_after_a_sleep(act, Moment::RightAfterTheWake);
        bench.sleep(&pair.slept);
        bench.wake(&pair.slept);
        pair.ask_both("checksum");
    }
}

#[test]
fn exec_after_a_wake_starts_afresh() {
    for (way, configure) in [FILLED, LAZY, AS_USER] {
        let bench = Bench::with(configure);
        let subject = Subject::specimen(&["memory", "13"]);
        let mut specimen = bench.launch(&subject);
        specimen.ask("mutate 1").unwrap();
        bench.sleep(&specimen);
        bench.wake(&specimen);
        let fresh = Specimen::alone(&subject).unwrap().ask("checksum").unwrap();
        assert_eq!(specimen.ask("exec").unwrap(), "ready seed 13", "{way}");
        assert_eq!(specimen.ask("checksum").unwrap(), fresh, "{way}");
        let found = bench.check(&specimen);
        assert!(found.is_same(), "{way}: {found:?}");
        assert_eq!(specimen.ask("checksum").unwrap(), fresh, "{way}");
    }
}
