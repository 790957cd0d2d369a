//! Sandboxes with random layouts are kept as patches against the first of them that slept, and come back as they were,
//! whatever becomes of that one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use common::{AS_USER, Bench, FILLED, LAZY, Way, every_way, sandbox, wait};
use node::{Layout, NodeConfig, Sharing};
use protocol::{SleepRecord, State};
use testkit::{Specimen, Subject, require_python};

/// Of what a later sleeper stores anew, at least so many percent are patches.
const PATCHED_PERCENT_MIN: u64 = 80;

const VERIFY: &str = r#"{"verify": true}"#;

fn python() -> Subject {
    Subject::function("hello")
}

/// Launches three sandboxes of one domain with random layouts, and asks each something.
fn launch(bench: &Bench, subject: &Subject, asks: &[&str]) -> Vec<(Specimen, Vec<String>)> {
    let launch = |_| {
        let mut specimen = bench.launch_with(subject, |spec| {
            spec.layout = Layout::Random;
            spec.sharing = Sharing::Domain("tenant".to_owned());
        });
        let answers = asks.iter().map(|ask| specimen.ask(ask).unwrap()).collect();
        (specimen, answers)
    };
    (0..3).map(launch).collect()
}

/// Wakes it, and asks again what it was asked last.
#[track_caller]
fn expect_wakes(bench: &Bench, (specimen, answers): &mut (Specimen, Vec<String>), ask: &str) {
    bench.wake(specimen);
    assert_eq!(specimen.ask(ask).unwrap(), *answers.last().unwrap());
}

#[track_caller]
fn expect_mostly_patches(slept: &SleepRecord) {
    let new = slept.patched_pages + slept.packed_pages + slept.whole_pages;
    assert!(slept.patched_pages * 100 >= new * PATCHED_PERCENT_MIN, "{slept:?}");
}

/// The first sleeps as base, the others against it; each is compared byte by byte, and the base wakes first.
#[track_caller]
fn check((way, configure): Way, subject: &Subject, asks: &[&str]) {
    println!("--- {way}");
    let bench = Bench::with(configure);
    let mut alike = launch(&bench, subject, asks);
    let ask = asks[asks.len() - 1];
    let base = bench.sleep(&alike[0].0);
    assert_eq!(base.patched_pages, 0, "{way}");
    let second = bench.sleep(&alike[1].0);
    assert!(second.patched_pages > 0, "{way}: {second:?}");
    let found = bench.check(&alike[2].0);
    assert!(found.is_same() && found.sleep.patched_pages > 0, "{way}: {found:?}");
    bench.sleep(&alike[2].0);
    expect_wakes(&bench, &mut alike[0], ask);
    // It sleeps again, while its own old pages are the base.
    let found = bench.check(&alike[0].0);
    assert!(found.is_same(), "{way}: {found:?}");
    for one in &mut alike[1..] {
        expect_wakes(&bench, one, ask);
    }
}

#[test]
fn python_sandboxes_are_kept_as_patches_in_every_way() {
    if require_python(&[]) {
        every_way().into_iter().for_each(|way| check(way, &python(), &[r#"{"n": 3}"#, VERIFY]));
    }
}

#[test]
fn a_tree_is_kept_as_patches_process_by_process() {
    [FILLED, LAZY, AS_USER]
        .into_iter()
        .for_each(|way| check(way, &Subject::specimen(&["tree"]), &["checksum"]));
}

#[test]
fn most_pages_of_a_later_sleeper_are_patches() {
    if require_python(&[]) {
        let bench = Bench::new();
        let alike = launch(&bench, &python(), &[VERIFY]);
        let slept: Vec<_> = alike.iter().map(|(one, _)| bench.sleep(one)).collect();
        slept[1..].iter().for_each(expect_mostly_patches);
        // What all of them pay is what there is.
        let record = bench.node.record();
        let parts = record.account.store_bytes() - record.account.manifest_bytes;
        assert!(parts.abs_diff(record.store_bytes) * 20 <= record.store_bytes, "{parts}: {record:?}");
    }
}

#[test]
fn a_base_that_dies_leaves_its_pages_to_the_others() {
    if require_python(&[]) {
        let bench = Bench::new();
        let mut alike = launch(&bench, &python(), &[VERIFY]);
        for (one, _) in &alike {
            bench.sleep(one);
        }
        drop(alike.remove(0)); // It dies in its sleep.
        testkit::until(|| bench.node.sandboxes().len() == 2).unwrap();
        expect_wakes(&bench, &mut alike[0], VERIFY);
        let slept = bench.sleep(&alike[0].0);
        assert!(slept.patched_pages + slept.unchanged_pages > 0, "{slept:?}");
        alike.iter_mut().for_each(|one| expect_wakes(&bench, one, VERIFY));
        // Nobody sleeps, so there is no base, and the next sleeper is base anew.
        testkit::until(|| bench.node.record().bases == 0).unwrap();
        assert_eq!(bench.sleep(&alike[0].0).patched_pages, 0);
    }
}

#[test]
fn of_many_sleepers_more_become_base() {
    if require_python(&[]) {
        let bench = Bench::with(|config: &mut NodeConfig| config.sleepers_per_base = 1);
        let mut alike = launch(&bench, &python(), &[VERIFY]);
        let slept: Vec<_> = alike.iter().map(|(one, _)| bench.sleep(one)).collect();
        assert!(slept[1].patched_pages > 0 && slept[2].patched_pages == 0, "{slept:?}");
        // Of two bases one is chosen: its own old pages are the best for this one.
        expect_wakes(&bench, &mut alike[0], VERIFY);
        assert!(bench.check(&alike[0].0).is_same());
        alike[1..].iter_mut().for_each(|one| expect_wakes(&bench, one, VERIFY));
    }
}

#[test]
fn nothing_is_a_patch_across_domains() {
    if require_python(&[]) {
        let bench = Bench::new();
        for nth in 0..2 {
            let one = bench.launch_with(&python(), |spec| spec.sharing = Sharing::Domain(format!("{nth}")));
            assert_eq!(bench.sleep(&one).patched_pages, 0);
            std::mem::forget(one); // It sleeps on until the node is shut down.
        }
    }
}

/// The memory file of the store, from our own open files.
fn store_file() -> File {
    let own = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let is_store = |path: &std::path::PathBuf| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:dormouse-store"))
    };
    File::options().read(true).write(true).open(own.into_iter().find(is_store).unwrap()).unwrap()
}

/// Everything that a store has now goes bad; what comes later is sound.
fn damage(file: &File, len_bytes: u64) {
    let mut page = [0; 4096];
    for at in (0..len_bytes).step_by(page.len()) {
        file.read_exact_at(&mut page, at).unwrap();
        if page != [0; 4096] {
            page.iter_mut().for_each(|byte| *byte ^= 0x10);
            file.write_all_at(&page, at).unwrap();
        }
    }
}

#[test]
fn damaged_base_pages_kill_and_are_never_seen() {
    if !require_python(&[]) {
        return;
    }
    let whole: Way = ("all of it before the thaw", |config| config.lazy_above_bytes = u64::MAX);
    for (way, configure) in [whole, LAZY, AS_USER] {
        println!("--- {way}");
        let bench = Bench::with(configure);
        let alike = launch(&bench, &python(), &[VERIFY]);
        bench.sleep(&alike[0].0);
        let base_bytes = bench.node.record().store_bytes;
        // Bytes are put from the start on. The patches are sound, and what they are patches of is not.
        let slept = bench.sleep(&alike[1].0);
        expect_mostly_patches(&slept);
        damage(&store_file(), base_bytes);
        let woken = wait(sandbox(&alike[1].0).wake());
        assert!(woken.is_err() || way == LAZY.0, "{way}: {woken:?}");
        testkit::until(|| sandbox(&alike[1].0).state() == State::Gone).unwrap();
        // A third finds base pages that cannot be decoded: it is kept without them, or not at all.
        let _ = bench.try_sleep(&alike[2].0);
        let record = bench.node.record();
        assert_eq!(record.deaths, 1, "{way}");
        assert!(record.pages_damaged > 0, "{way}: {record:?}");
    }
}
