//! Sleeps and wakes under load: somebody asks all the time, and always gets the right answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{AS_USER, Bench, Draw, FILLED, LAZY, Way, await_state, sandbox, wait};
use node::{Sandbox, SleepError};
use protocol::State;
use testkit::{Specimen, Subject, require_python};

/// Sleeps that end in sleep, in a row.
const CYCLES: u64 = 50;

/// An agent that asks as the front does: wakes the sandbox, begins an invocation, ends it. Returns how often.
fn invoke_until(done: &AtomicBool, sandbox: &Sandbox, mut ask: impl FnMut(u64)) -> u64 {
    let mut invocations = 0;
    let mut draw = Draw::seeded(43);
    while !done.load(Ordering::SeqCst) {
        idle(sandbox, &mut draw);
        wait(sandbox.wake()).unwrap();
        if sandbox.begin_invocation().is_ok() {
            ask(invocations);
            sandbox.end_invocation().unwrap();
            invocations += 1;
        } // Else a sleep came in between: wake it again.
    }
    invocations
}

/// Waits a little for a sleep to begin, and mostly for its end: who is never idle never sleeps.
fn idle(sandbox: &Sandbox, draw: &mut Draw) {
    let idle = (0..1000 + draw.below(5000)).take_while(|_| sandbox.state() == State::Warm);
    idle.for_each(|_| std::thread::yield_now());
    if draw.below(4) > 0 {
        testkit::until(|| sandbox.state() != State::Freezing).unwrap();
    }
}

/// Puts it to sleep again and again, at moments that follow from `seed`, until it has slept and woken often enough.
/// Not longer than somebody asks: a wrong answer ends that.
fn disturb(bench: &Bench, sandbox: &Sandbox, seed: u64, is_over: impl Fn() -> bool) {
    let mut draw = Draw::seeded(seed);
    while bench.node.record().wakes < CYCLES && !is_over() {
        (0..draw.below(200)).for_each(|_| std::thread::yield_now());
        match wait(sandbox.sleep()) {
            Ok(_) | Err(SleepError::Interrupted | SleepError::Refused(_)) => {}
            Err(SleepError::LeftWarm { why }) if why.contains("busy") => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// `ask` is called all the time while the sandbox falls asleep and wakes.
#[track_caller]
fn check((way, configure): Way, subject: &Subject, mut ask: impl FnMut(&mut Specimen, u64) + Send) {
    println!("--- {way}");
    let bench = Bench::with(configure);
    let mut specimen = bench.launch(subject);
    let sandbox = sandbox(&specimen).clone();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| invoke_until(&done, &sandbox, |nth| ask(&mut specimen, nth)));
        disturb(&bench, &sandbox, 42, || client.is_finished());
        done.store(true, Ordering::SeqCst);
        assert!(client.join().unwrap() > 0);
    });
    await_state(&sandbox, State::Warm);
    let found = bench.check(&specimen);
    assert!(found.is_same(), "{way}: {found:?}");
}

#[test]
fn fifty_sleeps_under_load_change_no_answer() {
    for way in [FILLED, LAZY, AS_USER] {
        let subject = Subject::specimen(&["memory", "31"]);
        let mut twin = Specimen::alone(&subject).unwrap();
        // Every other time it changes its memory: each sleep keeps something else.
        check(way, &subject, |specimen, nth| {
            let command = if nth % 2 == 0 { format!("mutate {nth}") } else { "checksum".to_owned() };
            assert_eq!(specimen.ask(&command).unwrap(), twin.ask(&command).unwrap(), "invocation {nth}");
        });
    }
}

#[test]
fn a_python_function_under_load_answers_as_ever() {
    if !require_python(&["numpy"]) {
        return;
    }
    let subject = Subject::function("numpy");
    let mut twin = Specimen::alone(&subject).unwrap();
    let answers: Vec<_> = (0..10).map(|n| twin.ask(&format!(r#"{{"n": {n}}}"#)).unwrap()).collect();
    drop(twin);
    for way in [FILLED, LAZY] {
        check(way, &subject, |specimen, nth| {
            let answer = specimen.ask(&format!(r#"{{"n": {}}}"#, nth % 10)).unwrap();
            assert_eq!(answer, answers[(nth % 10) as usize], "invocation {nth}");
        });
    }
}

#[test]
fn requests_of_which_nobody_tells_the_node_are_answered_right() {
    for (way, configure) in [FILLED, LAZY, AS_USER] {
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(&Subject::specimen(&["memory", "33"]));
        let before = specimen.ask("checksum").unwrap();
        let mut draw = Draw::seeded(7);
        for _ in 0..CYCLES {
            // It is asked first, and falls asleep at some point of its answer.
            specimen.say("checksum").unwrap();
            (0..draw.below(300)).for_each(|_| std::thread::yield_now());
            match bench.try_sleep(&specimen) {
                Ok(_) => drop(bench.wake(&specimen)),
                Err(SleepError::LeftWarm { why }) if why.contains("busy") => {}
                Err(error) => panic!("{way}: {error}"),
            }
            assert_eq!(specimen.answer().unwrap(), before, "{way}");
        }
    }
}
