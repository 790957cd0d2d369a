//! An invocation that comes while a sandbox falls asleep wins: the sandbox breaks off or wakes at once, and is
//! unharmed, at whatever moment it comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::time::{Duration, Instant};

use common::{Bench, LAZY, Way, every_way, sandbox, wait};
use node::SleepError;
use protocol::{SleepRecord, State};
use testkit::{Specimen, Subject};

/// Moments, spread evenly over the time that a sleep takes.
const MOMENTS: u32 = 24;

/// The same over the time in which memory leaves.
const EMPTYING_MOMENTS: u32 = 8;

/// Sleeps after each of which invocations come while memory is on its way back.
const STILLNESS_ROUNDS: u32 = 12;

/// Falls asleep, and is woken so long after that has begun.
#[track_caller]
fn sleep_and_wake_after(specimen: &Specimen, after: Duration) -> Result<SleepRecord, SleepError> {
    let sandbox = sandbox(specimen).clone();
    std::thread::scope(|scope| {
        let sleep = scope.spawn(|| wait(sandbox.sleep()));
        while !matches!(sandbox.state(), State::Freezing | State::Dedup) {
            std::hint::spin_loop();
        }
        let started = Instant::now();
        while started.elapsed() < after {
            std::hint::spin_loop();
        }
        let woken = wait(sandbox.wake()).unwrap();
        let slept = sleep.join().unwrap();
        assert_eq!(woken.is_some(), slept.is_ok(), "woken if and only if it slept");
        slept
    })
}

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
        let slept = sleep_and_wake_after(&specimen, undisturbed * moment / MOMENTS);
        match slept {
            Ok(_) => {}
            Err(SleepError::Interrupted) => interrupted += 1,
            Err(error) => panic!("{way}: {error}"),
        }
        assert_eq!(sandbox(&specimen).state(), State::Warm, "{way}");
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

/// A wake that comes when memory is leaving finds the rest of it in its place, and what it needs most.
#[track_caller]
fn check_emptying((way, configure): Way, subject: &Subject) -> u64 {
    let bench = Bench::with(configure);
    let mut specimen = bench.launch(subject);
    let before = specimen.ask("checksum").unwrap();
    let mut stayed = 0;
    for moment in 0..EMPTYING_MOMENTS {
        let undisturbed = bench.sleep(&specimen);
        bench.wake(&specimen);
        assert_eq!(specimen.ask("checksum").unwrap(), before, "{way}");
        let leaving = undisturbed.total_us - undisturbed.empty_us
            + undisturbed.empty_us * u64::from(moment) / u64::from(EMPTYING_MOMENTS);
        match sleep_and_wake_after(&specimen, Duration::from_micros(leaving)) {
            Ok(slept) => {
                assert!(slept.stayed_pages < slept.own_pages(), "{way}: {slept:?}");
                stayed += u64::from(slept.stayed_pages > 0);
            }
            Err(SleepError::Interrupted) => {}
            Err(error) => panic!("{way}: {error}"),
        }
        assert_eq!(specimen.ask("checksum").unwrap(), before, "{way}, moment {moment}");
    }
    let found = bench.check(&specimen);
    assert!(found.is_same(), "{way}: {found:?}");
    stayed
}

#[test]
fn a_wake_while_memory_leaves_finds_the_rest_of_it() {
    let stayed: u64 = every_way()
        .into_iter()
        .map(|way| check_emptying(way, &Subject::specimen(&["memory", "42", "64"])))
        .sum();
    assert!(stayed > 0, "no wake came while memory was leaving");
}

#[test]
fn a_wake_while_a_tree_is_emptied_is_unharmed() {
    for way in every_way() {
        check_emptying(way, &Subject::specimen(&["tree", "2", "3"]));
    }
}

/// When all memory is back, a sandbox stands still for a moment, so that what it writes from then on can be noted.
/// Invocations come all the time meanwhile, and write.
#[track_caller]
fn check_stillness(subject: &Subject) {
    let (way, configure) = LAZY;
    let bench = Bench::with(configure);
    let mut specimen = bench.launch(subject);
    let (mut writes, mut shadows) = (0, 0);
    let mut before = specimen.ask("checksum").unwrap();
    for round in 0..STILLNESS_ROUNDS {
        bench.sleep(&specimen);
        bench.wake(&specimen);
        assert_eq!(specimen.ask("checksum").unwrap(), before, "{way}, round {round}");
        while bench.node.record().coming_back > 0 {
            sandbox(&specimen).begin_invocation().unwrap();
            writes += 1;
            specimen.ask(&format!("mutate {writes}")).unwrap();
            sandbox(&specimen).end_invocation().unwrap();
            std::thread::sleep(Duration::from_millis(writes % 5));
        }
        shadows += bench.node.record().shadows;
        before = specimen.ask("checksum").unwrap();
    }
    assert!(writes > 0 && shadows > 0, "{way}: {writes} writes, {shadows} shadows");
    let found = bench.check(&specimen);
    assert!(found.is_same(), "{way}: {found:?}");
}

#[test]
fn invocations_that_come_in_the_moment_of_stillness_are_not_lost_on_it() {
    check_stillness(&Subject::specimen(&["memory", "43", "64"]));
}

#[test]
fn nor_are_those_of_a_tree() {
    check_stillness(&Subject::specimen(&["tree", "2", "3"]));
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
