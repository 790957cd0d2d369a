//! A sandbox that dies, at whatever moment, is noticed: it is gone, its exit is known, and nothing of it is kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::time::{Duration, Instant};

use common::{Bench, LAZY, Way, await_state, every_way, sandbox, signal, wait};
use node::{CheckError, Exit, Sandbox, SleepError, WakeError};
use protocol::State;
use rustix::process::Signal;
use testkit::{Specimen, Subject};

/// Moments within a sleep or a wake, spread evenly over the time that it takes.
const MOMENTS: u32 = 12;

fn subject() -> Subject {
    Subject::specimen(&["memory", "51", "16"])
}

/// After somebody killed it: all of it is gone.
#[track_caller]
fn expect_gone(bench: &Bench, sandbox: &Sandbox) {
    await_state(sandbox, State::Gone);
    assert_eq!(wait(sandbox.exit()), Exit::Signal(Signal::KILL.as_raw()));
    bench.await_nothing();
    assert!(matches!(wait(sandbox.sleep()), Err(SleepError::Gone)));
    assert!(matches!(wait(sandbox.wake()), Err(WakeError::Gone)));
    assert!(matches!(wait(sandbox.check()), Err(CheckError::Wake(WakeError::Gone))));
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid()));
    assert!(cgroups.is_err(), "the process is still there: {cgroups:?}");
}

/// Launches a sandbox in every way and brings it where `prepare` says; then it is killed.
#[track_caller]
fn check(ways: &[Way], prepare: impl Fn(&Bench, &mut Specimen)) {
    for (way, configure) in ways {
        println!("--- {way}");
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(&subject());
        prepare(&bench, &mut specimen);
        signal(specimen.pid(), Signal::KILL);
        expect_gone(&bench, sandbox(&specimen));
        assert_eq!(bench.node.record().deaths, 1, "{way}");
    }
}

/// Kills it after each part of the time that `act` takes undisturbed, while `act` is under way.
#[track_caller]
fn check_moments(prepare: impl Fn(&Bench, &Specimen), act: impl Fn(&Sandbox) + Sync) {
    for (way, configure) in every_way() {
        println!("--- {way}");
        let bench = Bench::with(configure);
        let specimen = bench.launch(&subject());
        prepare(&bench, &specimen);
        let started = Instant::now();
        act(sandbox(&specimen));
        let undisturbed = started.elapsed();
        drop(specimen);
        for moment in 0..MOMENTS {
            let specimen = bench.launch(&subject());
            prepare(&bench, &specimen);
            kill_during(&act, sandbox(&specimen), undisturbed * moment / MOMENTS);
            expect_gone_but_for(&bench, sandbox(&specimen));
        }
        bench.await_nothing();
    }
}

fn kill_during(act: &(impl Fn(&Sandbox) + Sync), sandbox: &Sandbox, after: Duration) {
    std::thread::scope(|scope| {
        let acting = scope.spawn(|| act(sandbox));
        let started = Instant::now();
        while started.elapsed() < after {
            std::hint::spin_loop();
        }
        signal(sandbox.pid(), Signal::KILL);
        acting.join().unwrap();
    });
}

/// Gone, and alone in that: others of the same bench may be on their way out.
#[track_caller]
fn expect_gone_but_for(bench: &Bench, sandbox: &Sandbox) {
    await_state(sandbox, State::Gone);
    assert_eq!(wait(sandbox.exit()), Exit::Signal(Signal::KILL.as_raw()));
    bench.await_nothing();
}

#[test]
fn a_death_while_warm_is_noticed() {
    check(&every_way(), |_, _| {});
}

#[test]
fn a_death_while_asleep_is_noticed() {
    check(&every_way(), |bench, specimen| {
        bench.sleep(specimen);
    });
}

#[test]
fn a_death_after_a_wake_is_noticed() {
    check(&every_way(), |bench, specimen| {
        bench.sleep(specimen);
        bench.wake(specimen);
        specimen.ask("checksum").unwrap();
    });
}

#[test]
fn a_death_while_memory_comes_back_is_noticed() {
    check(&[LAZY], |bench, specimen| {
        bench.sleep(specimen);
        bench.wake(specimen);
    });
    check(&[LAZY], |bench, specimen| {
        bench.sleep(specimen);
        bench.wake(specimen);
        sandbox(specimen).begin_invocation().unwrap();
        sandbox(specimen).end_invocation().unwrap(); // Now the background fills.
    });
}

#[test]
fn a_death_while_falling_asleep_is_noticed() {
    check_moments(
        |_, _| {},
        |sandbox| {
            let slept = wait(sandbox.sleep());
            assert!(
                matches!(slept, Ok(_) | Err(SleepError::Gone | SleepError::LeftWarm { .. })),
                "{slept:?}"
            );
        },
    );
}

#[test]
fn a_death_while_waking_is_noticed() {
    let sleep = |bench: &Bench, specimen: &Specimen| {
        bench.sleep(specimen);
    };
    check_moments(sleep, |sandbox| {
        let woken = wait(sandbox.wake());
        assert!(matches!(woken, Ok(_) | Err(WakeError::Gone)), "{woken:?}");
    });
}

#[test]
fn a_purge_at_any_moment_leaves_nothing() {
    for (way, configure) in every_way() {
        println!("--- {way}");
        let bench = Bench::with(configure);
        for asleep in [false, true] {
            let specimen = bench.launch(&subject());
            if asleep {
                bench.sleep(&specimen);
            }
            sandbox(&specimen).purge();
            expect_gone_but_for(&bench, sandbox(&specimen));
        }
    }
}

#[test]
fn a_tree_of_which_one_process_dies_asleep_is_gone_or_lives_on_without_it() {
    for (way, configure) in every_way() {
        println!("--- {way}");
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(&Subject::specimen(&["tree", "1", "2"]));
        let before = specimen.ask("checksum").unwrap();
        let pids = specimen.ask("pids").unwrap();
        let member: i32 = pids.split(' ').nth(1).unwrap().parse().unwrap();
        bench.sleep(&specimen);
        signal(member, Signal::KILL);
        testkit::until(|| is_dead(member)).unwrap();
        match wait(sandbox(&specimen).wake()) {
            Err(WakeError::Gone) => await_state(sandbox(&specimen), State::Gone),
            // Filled lazily, nobody looked at the dead one: the rest sees what it would have seen awake.
            Ok(woken) => {
                let asked = specimen.ask("checksum");
                assert!(!asked.as_ref().is_ok_and(|sum| *sum == before), "{way}: {asked:?}, {woken:?}");
            }
            Err(error) => panic!("{way}: {error}"),
        }
    }
}

/// Dead, if not yet collected by its parent or its tracer; or, frozen by version 1, as good as dead.
fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_gone = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
    is_gone || linux::process::is_killed(pid)
}
