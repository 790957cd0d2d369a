//! Many sandboxes sleep at once and wake at once; the accounts add up, and nothing is left when all are gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{AS_USER, Bench, FILLED, LAZY, Way, sandbox, wait};
use node::{Layout, Sharing};
use protocol::State;
use testkit::{Specimen, Subject};

const SANDBOXES: usize = 32;

/// Sandboxes that may fall asleep at the same time.
const SLEEP_SLOTS: usize = 4;

/// Does something with all sandboxes, each in a thread of its own.
fn all_at_once<T: Send>(specimens: &[Specimen], act: impl Fn(&node::Sandbox) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> =
            specimens.iter().map(sandbox).map(|one| scope.spawn(move || act(one))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// All sleep at once and wake at once, twice, in this way.
#[track_caller]
fn check((way, configure): Way) {
    println!("--- {way}");
    let bench = Bench::with(|config| {
        configure(config);
        config.sleep_slots = SLEEP_SLOTS;
    });
    let mut specimens: Vec<_> = (0..SANDBOXES)
        .map(|nth| {
            // Half of them are alike, so that there is something to share.
            let seed = (nth / 2).to_string();
            bench.launch_with(&Subject::specimen(&["memory", &seed, "1"]), |spec| {
                spec.layout = Layout::Pinned { secret: 1 };
                spec.sharing = Sharing::Domain("all".to_owned());
            })
        })
        .collect();
    let before: Vec<_> = specimens.iter_mut().map(|one| one.ask("checksum").unwrap()).collect();
    for _ in 0..2 {
        all_at_once(&specimens, |sandbox| wait(sandbox.sleep()).unwrap());
        assert!(specimens.iter().all(|one| sandbox(one).state() == State::Dedup), "{way}");
        expect_accounts_add_up(&bench);
        all_at_once(&specimens, |sandbox| wait(sandbox.wake()).unwrap().unwrap());
        for (specimen, before) in specimens.iter_mut().zip(&before) {
            assert_eq!(specimen.ask("checksum").unwrap(), *before, "{way}");
        }
    }
    // Some go in their sleep, some awake.
    all_at_once(&specimens[..SANDBOXES / 2], |sandbox| wait(sandbox.sleep()).unwrap());
    drop(specimens);
    bench.await_nothing();
}

#[track_caller]
fn expect_accounts_add_up(bench: &Bench) {
    let record = bench.node.record();
    let account = record.account;
    let parts = account.store_bytes() - account.manifest_bytes;
    let (held, tables) = (record.store_bytes, record.store_table_bytes);
    assert!(parts.abs_diff(held) * 20 <= held, "parts of {parts} bytes, {held} are held");
    let all = account.store_bytes();
    assert!(all >= parts && all <= (held + tables) * 2, "{all} bytes counted, {held} + {tables} are held");
    assert_eq!(record.dedup_sandboxes, SANDBOXES as u64);
}

#[test]
fn many_sandboxes_sleep_and_wake_at_once() {
    [FILLED, LAZY, AS_USER].into_iter().for_each(check);
}
