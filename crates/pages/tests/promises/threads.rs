//! Many threads put, read and release at once.

use std::thread;

use crate::specimen::{Specimen, sandbox};
use pages::{Domain, HeapArena, Heat, Store};

const THREADS: u16 = 4;
const ROUNDS: u16 = 25;

/// Each thread puts sandboxes of which `of` says the content, keeps one while it puts the next, reads both, and
/// releases; in the end nothing is left.
#[track_caller]
fn check(of: fn(thread: u16, round: u16) -> Vec<Specimen>) {
    let store = &Store::new(HeapArena::new(u64::MAX), [9; 32]);
    let sandbox_of = &|thread, round: u16| {
        let heat = if round.is_multiple_of(2) { Heat::Hot } else { Heat::Cold };
        sandbox(store, &Domain::named("a"), heat, &of(thread, round))
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut kept = sandbox_of(thread, 0);
                for round in 1..ROUNDS {
                    let next = sandbox_of(thread, round);
                    kept.assert_reads_back(store, &[]);
                    store.release(std::mem::replace(&mut kept, next).manifest);
                    kept.assert_reads_back(store, &[]);
                }
                store.release(kept.manifest);
            });
        }
    });
    assert_eq!(store.stats(), Default::default());
}

#[test]
fn threads_that_put_the_same_pages_at_once_lose_none() {
    check(|_, round| (0..40).map(|n| Specimen::Text(round / 3 * 20 + n)).collect());
}

#[test]
fn threads_with_their_own_pages_do_not_disturb_each_other() {
    check(|thread, round| (0..40).map(|n| Specimen::Random(thread * 1000 + round + n)).collect());
}
