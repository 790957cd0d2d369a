//! A thread that is blocked in a system call notices a sleep no more than it notices SIGSTOP and SIGCONT.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::collections::BTreeMap;

use common::{Bench, every_way};
use node::SleepError;
use testkit::{Specimen, Subject};

/// These may return `EINTR`, if they do so after SIGSTOP and SIGCONT: the kernel never restarts them.
const MAY_BE_INTERRUPTED: [&str; 5] = ["epoll_wait", "epoll_pwait2", "recv_timeout", "sigtimedwait", "semop"];

/// A request in flight cannot be carried, so a sandbox that waits for one does not sleep.
const IN_FLIGHT: &str = "io_uring_enter";

const EARLY: &str = "early:EINTR";

/// All kinds of calls that can be carried.
fn kinds() -> Vec<String> {
    let mut all = Specimen::alone(&Subject::specimen(&["blocked"])).unwrap();
    assert!(all.greeting().ends_with("unavailable="), "{}", all.greeting());
    all.ask("kinds").unwrap().split(' ').filter(|kind| *kind != IN_FLIGHT).map(str::to_owned).collect()
}

/// What each call returned when it was released.
fn release(specimen: &mut Specimen) -> BTreeMap<String, String> {
    let results = specimen.ask("release").unwrap();
    let pairs = results.split(' ').map(|result| result.split_once('=').unwrap());
    pairs.map(|(kind, result)| (kind.to_owned(), result.to_owned())).collect()
}

/// Sleeps so many times with all kinds of calls blocked, in every way, and compares what they return in the end
/// with a twin that nobody disturbed, and one that was stopped by SIGSTOP.
#[track_caller]
fn check(sleeps: usize) {
    let kinds = kinds();
    let args: Vec<&str> = ["blocked"].into_iter().chain(kinds.iter().map(String::as_str)).collect();
    let subject = Subject::specimen(&args);
    let undisturbed = release(&mut Specimen::alone(&subject).unwrap());
    let mut twin = Specimen::alone(&subject).unwrap();
    twin.stop().unwrap();
    twin.go_on().unwrap();
    let stopped = release(&mut twin);
    drop(twin);
    for (way, configure) in every_way() {
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(&subject);
        for _ in 0..sleeps {
            bench.sleep(&specimen);
            bench.wake(&specimen);
        }
        let slept = release(&mut specimen);
        assert_eq!(slept.len(), kinds.len(), "{way}: {slept:?}");
        for (kind, result) in &slept {
            let early = result == EARLY && stopped[kind] == EARLY;
            let known = MAY_BE_INTERRUPTED.contains(&kind.as_str());
            assert!(*result == undisturbed[kind] || (early && known), "{way}: {kind} returned {result}");
        }
    }
}

#[test]
fn blocked_calls_behave_as_after_sigstop_and_sigcont() {
    check(1);
}

#[test]
fn blocked_calls_survive_several_sleeps() {
    check(5);
}

#[test]
fn a_wait_for_a_request_in_flight_is_left_alone() {
    let bench = Bench::new();
    let mut specimen = bench.launch(&Subject::specimen(&["blocked", IN_FLIGHT]));
    let refused = bench.try_sleep(&specimen);
    assert!(matches!(&refused, Err(SleepError::LeftWarm { why }) if why.contains("io_uring")), "{refused:?}");
    let result = &release(&mut specimen)[IN_FLIGHT];
    assert!(result == "1" || result == EARLY, "{result}"); // As after SIGSTOP.
}
