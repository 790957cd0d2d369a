//! An invocation that comes while a sandbox falls asleep wins: the sandbox breaks off or wakes at once, and is
//! unharmed, at whatever moment it comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::time::{Duration, Instant};

use common::{Bench, Way, every_way, sandbox, wait};
use node::SleepError;
use protocol::State;
use testkit::Subject;

/// Moments, spread evenly over the time that a sleep takes.
const MOMENTS: u32 = 24;

/// Falls asleep, and is woken after each part of the time that this took undisturbed.
#[track_caller]
fn check((way, configure): Way, subject: &Subject) {
    let bench = Bench::with(configure);
    let mut specimen = bench.launch(subject);
    let before = specimen.ask("checksum").unwrap();
    let undisturbed = Duration::from_micros(bench.sleep(&specimen).total_us);
    bench.wake(&specimen);
    let mut interrupted = 0;
    for moment in 0..MOMENTS {
        let sandbox = sandbox(&specimen).clone();
        let slept = std::thread::scope(|scope| {
            let sleep = scope.spawn(|| wait(sandbox.sleep()));
            while !matches!(sandbox.state(), State::Freezing | State::Dedup) {
                std::hint::spin_loop();
            }
            let started = Instant::now();
            while started.elapsed() < undisturbed * moment / MOMENTS {
                std::hint::spin_loop();
            }
            let woken = wait(sandbox.wake()).unwrap();
            let slept = sleep.join().unwrap();
            assert_eq!(woken.is_some(), slept.is_ok(), "{way}: woken if and only if it slept");
            slept
        });
        match slept {
            Ok(_) => {}
            Err(SleepError::Interrupted) => interrupted += 1,
            Err(error) => panic!("{way}: {error}"),
        }
        assert_eq!(sandbox.state(), State::Warm, "{way}");
        assert_eq!(specimen.ask("checksum").unwrap(), before, "{way}, moment {moment}");
    }
    assert_eq!(bench.node.record().sleeps_interrupted, interrupted, "{way}");
    assert!(interrupted > 0, "{way}: none of {MOMENTS} wakes came in time");
    let found = bench.check(&specimen);
    assert!(found.is_same(), "{way}: {found:?}");
}

#[test]
fn a_wake_in_the_middle_of_falling_asleep_wins() {
    for way in every_way() {
        check(way, &Subject::specimen(&["memory", "41", "24"]));
    }
}

#[test]
fn a_wake_wins_over_a_tree_that_falls_asleep() {
    for way in every_way() {
        check(way, &Subject::specimen(&["tree", "2", "3"]));
    }
}

#[test]
fn a_wake_of_one_that_waits_for_its_turn_to_sleep_wins() {
    let bench = Bench::new();
    let mut specimens: Vec<_> =
        (0..8).map(|seed| bench.launch(&Subject::specimen(&["memory", &seed.to_string(), "8"]))).collect();
    let before: Vec<_> = specimens.iter_mut().map(|one| one.ask("checksum").unwrap()).collect();
    std::thread::scope(|scope| {
        let sleeps: Vec<_> =
            specimens.iter().map(sandbox).map(|one| scope.spawn(|| wait(one.sleep()))).collect();
        for one in specimens.iter().map(sandbox) {
            testkit::until(|| matches!(one.state(), State::Freezing | State::Dedup)).unwrap();
        }
        specimens.iter().rev().map(sandbox).for_each(|one| {
            wait(one.wake()).unwrap();
        });
        for sleep in sleeps {
            let slept = sleep.join().unwrap();
            assert!(matches!(slept, Ok(_) | Err(SleepError::Interrupted)), "{slept:?}");
        }
    });
    assert!(bench.node.record().sleeps_interrupted > 0);
    for (specimen, before) in specimens.iter_mut().zip(before) {
        assert_eq!(specimen.ask("checksum").unwrap(), before);
    }
}
