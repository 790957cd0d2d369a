//! A process that somebody looks at from outside while it falls asleep.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{Bench, FILLED, LAZY, Way, sandbox};
use linux::{maps, memory::Memory};
use testkit::Subject;

/// Enough that some reads fall between the moment when a page leaves and that when missing pages are watched.
const SLEEPS: usize = 8;

/// Reads a byte of each page of the largest mappings, again and again, and counts. A page that is out makes it wait until
/// it is back.
fn look_at(pid: i32, stop: &AtomicBool) -> u64 {
    let mut seen = 0;
    let memory = Memory::open(pid).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let mut mappings = maps::read_without_flags(pid).unwrap();
        mappings.retain(|mapping| mapping.is_private_anonymous() && mapping.read);
        mappings.sort_by_key(|mapping| std::cmp::Reverse(mapping.len_bytes()));
        for mapping in mappings.iter().take(4) {
            for page in (mapping.start..mapping.end).step_by(4096) {
                if stop.load(Ordering::Relaxed) {
                    return seen;
                }
                seen += u64::from(memory.read(page, &mut [0]).is_ok()); // It may be gone by now.
            }
        }
    }
    seen
}

/// Ends the looking, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[track_caller]
fn check((way, configure): Way) {
    let bench = Bench::with(configure);
    let mut specimen = bench.launch(&Subject::specimen(&["memory", "7"]));
    let before = specimen.ask("checksum").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (pid, stop) = (sandbox(&specimen).pid(), &stop);
        let looking = scope.spawn(move || look_at(pid, stop));
        let stopping = Stop(stop);
        for _ in 0..SLEEPS {
            bench.sleep(&specimen);
            bench.wake(&specimen);
            assert_eq!(specimen.ask("checksum").unwrap(), before, "{way}");
            testkit::until(|| bench.node.record().coming_back == 0).unwrap();
        }
        drop(stopping);
        assert!(looking.join().unwrap() > 0, "{way}");
    });
}

#[test]
fn what_is_read_from_outside_while_it_leaves_does_not_become_zeros() {
    check(LAZY);
}

#[test]
fn nor_where_all_of_it_is_filled_first() {
    check(FILLED);
}
