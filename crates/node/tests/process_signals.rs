//! Signals that come while a sandbox sleeps, or on its way there and back, are delivered as after SIGSTOP: each
//! queued one once, the others at least once and at most as often as they were sent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::process::Command;

use common::{AS_USER, Bench, Draw, FILLED, LAZY, Way, every_way};
use rustix::process::Signal;
use testkit::{Specimen, Subject};

/// Real-time signals sent while it sleeps.
const QUEUED: usize = 3;

/// Real-time signals that it raises while it falls asleep and wakes.
const RAISED: usize = 20_000;

/// Sends what the specimen counts, from outside: SIGUSR1 (which does not queue) several times, real-time signals
/// (which do), and SIGUSR2, which it blocks.
fn send_all(pid: i32) {
    (0..5).for_each(|_| common::signal(pid, Signal::USR1));
    common::signal(pid, Signal::USR2);
    for _ in 0..QUEUED {
        let sent = Command::new("sh").args(["-c", &format!("kill -34 {pid}")]).status().unwrap();
        assert!(sent.success()); // 34 is SIGRTMIN: the C library keeps two for itself.
    }
}

/// What the specimen counted, but for its alarms.
fn counted(specimen: &mut Specimen) -> String {
    let counts = specimen.ask("await-alarms 10").unwrap();
    let (_, counts) = counts.split_once(' ').unwrap();
    counts.to_owned()
}

/// What a twin counts that was stopped by SIGSTOP while they came.
fn counted_by_a_stopped_twin() -> String {
    let mut twin = Specimen::alone(&Subject::specimen(&["signals"])).unwrap();
    twin.stop().unwrap();
    send_all(twin.pid());
    twin.go_on().unwrap();
    counted(&mut twin)
}

/// Sends signals while it sleeps in this way: a twin that was stopped meanwhile must have counted the same, and
/// masks, handlers and alternate stack are as before.
#[track_caller]
fn check((way, configure): Way) {
    let bench = Bench::with(configure);
    let mut specimen = bench.launch(&Subject::specimen(&["signals"]));
    specimen.ask("await-alarms 3").unwrap();
    let before = specimen.ask("state").unwrap();
    bench.sleep(&specimen);
    send_all(specimen.pid());
    bench.wake(&specimen);
    assert_eq!(counted(&mut specimen), counted_by_a_stopped_twin(), "{way}");
    let after = before.replace("pending=false", "pending=true");
    assert_eq!(specimen.ask("state").unwrap(), after, "{way}");
    let found = bench.check(&specimen);
    assert!(found.is_same(), "{way}: {found:?}");
}

#[test]
fn signals_that_come_while_it_sleeps_are_delivered_after_the_wake() {
    every_way().into_iter().for_each(check);
}

#[test]
fn a_signal_that_is_pending_before_the_sleep_is_pending_after_it() {
    let bench = Bench::new();
    let mut specimen = bench.launch(&Subject::specimen(&["signals"]));
    specimen.ask("pend").unwrap();
    let before = specimen.ask("state").unwrap();
    assert!(before.contains("pending=true altstack=true"), "{before}");
    for _ in 0..3 {
        bench.sleep(&specimen);
        bench.wake(&specimen);
    }
    assert_eq!(specimen.ask("state").unwrap(), before);
}

#[test]
fn no_signal_is_lost_or_doubled_on_the_way_to_sleep_and_back() {
    for (way, configure) in [FILLED, LAZY, AS_USER] {
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(&Subject::specimen(&["signals"]));
        let mut draw = Draw::seeded(11);
        specimen.say(&format!("queue {RAISED}")).unwrap();
        for _ in 0..20 {
            // Between two sleeps it must get on a little; a busy process may be left warm.
            (0..draw.below(50)).for_each(|_| std::thread::yield_now());
            let _ = bench.try_sleep(&specimen);
            let _ = common::wait(common::sandbox(&specimen).wake()).unwrap();
        }
        let counts = specimen.answer().unwrap();
        let expected = format!("usr1=0 queued={RAISED} wrong-stack=0");
        assert!(counts.ends_with(&expected), "{way}: {counts}, not {expected}");
    }
}
