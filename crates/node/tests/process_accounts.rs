//! What a sleep gives, and to whom it is counted: little stays, equal pages are kept once where that is allowed, and
//! the parts of all sandboxes add up to what there is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Bench, every_way, sandbox};
use node::{LaunchSpec, Layout, Sharing};
use protocol::SleepRecord;
use testkit::{Specimen, Subject, require_python};

/// Pages that a sleep leaves on each process beside those it counts: an upper page of a stack, a page read meanwhile.
const FEW_PAGES: u64 = 8;

/// Sandboxes that sleep side by side.
const SANDBOXES: usize = 3;

const SECRET: u64 = 0x5ec2e7;

/// Launches sandboxes of one program, each changed by `change` with its number, and puts them to sleep. Their sleeps.
fn sleep_side_by_side(change: impl Fn(usize, &mut LaunchSpec)) -> Vec<SleepRecord> {
    let bench = Bench::new();
    let subject = Subject::specimen(&["memory", "21"]);
    let mut specimens: Vec<Specimen> =
        (0..SANDBOXES).map(|nth| bench.launch_with(&subject, |spec| change(nth, spec))).collect();
    let sleeps: Vec<_> = specimens.iter().map(|specimen| bench.sleep(specimen)).collect();
    let kept: u64 = specimens.iter().map(store_part).sum();
    let held = bench.node.record().store_bytes;
    assert!(kept.abs_diff(held) * 20 <= held, "parts of {kept} bytes, {held} are held");
    for specimen in &mut specimens {
        bench.wake(specimen);
        specimen.ask("checksum").unwrap();
    }
    sleeps
}

/// Its part of the pages in the store, tables not counted.
fn store_part(specimen: &Specimen) -> u64 {
    let account = sandbox(specimen).record().account;
    account.store_bytes() - account.manifest_bytes
}

/// Of later sandboxes, so many hundredths of the pages are in the store already: within `percent`.
#[track_caller]
fn check(change: impl Fn(usize, &mut LaunchSpec), percent: std::ops::RangeInclusive<u64>) {
    let sleeps = sleep_side_by_side(change);
    // What one process tree has twice is `Same` in the first one, too.
    let own = sleeps[0].same_pages;
    for later in &sleeps[1..] {
        let stored = later.same_pages + later.patched_pages + later.packed_pages + later.whole_pages;
        let shared = later.same_pages.saturating_sub(own) * 100 / (stored - own);
        assert!(percent.contains(&shared), "{shared} % of {later:?}");
    }
}

#[test]
fn pinned_layouts_in_one_domain_are_kept_once() {
    let same = |_: usize, spec: &mut LaunchSpec| {
        spec.layout = Layout::Pinned { secret: SECRET };
        spec.sharing = Sharing::Domain("tenant".to_owned());
    };
    check(same, 90..=100);
}

/// Two threads of one sleep may put twins at the same moment, which then are kept twice: so not every sandbox finds
/// quite as many of its own.
const OWN_TWINS: std::ops::RangeInclusive<u64> = 0..=2;

#[test]
fn sandboxes_without_sharing_share_nothing() {
    check(|_, spec| spec.layout = Layout::Pinned { secret: SECRET }, OWN_TWINS);
    check(|_, _| {}, OWN_TWINS);
}

#[test]
fn equal_sandboxes_of_different_domains_share_nothing() {
    let apart = |nth: usize, spec: &mut LaunchSpec| {
        spec.layout = Layout::Pinned { secret: SECRET };
        spec.sharing = Sharing::Domain(format!("tenant {nth}"));
    };
    check(apart, OWN_TWINS);
}

#[test]
fn a_sleeper_costs_little_and_a_woken_one_what_it_did() {
    for (way, configure) in every_way() {
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(&Subject::specimen(&["memory", "22"]));
        specimen.ask("checksum").unwrap();
        let warm = sandbox(&specimen).record().account;
        let slept = bench.sleep(&specimen);
        let asleep = sandbox(&specimen).record().account;
        let may_stay = (slept.left_pages + FEW_PAGES * u64::from(slept.processes)) * 4096;
        assert!(asleep.resident_bytes <= may_stay, "{way}: {asleep:?}, {slept:?}");
        assert!(asleep.kept_bytes() < warm.kept_bytes(), "{way}: {asleep:?}, {warm:?}");
        assert!(asleep.saved_bytes() > 0, "{way}: {asleep:?}");
        bench.wake(&specimen);
        specimen.ask("checksum").unwrap();
        testkit::until(|| bench.node.record().coming_back == 0).unwrap();
        let woken = sandbox(&specimen).record().account;
        // What is known to be unchanged stays in the store, and is paid for.
        let shadow_bytes = if bench.node.record().shadows > 0 { asleep.store_bytes() } else { 0 };
        assert_eq!(woken.store_bytes(), shadow_bytes, "{way}");
        assert!(woken.resident_bytes >= warm.resident_bytes / 10 * 9, "{way}: {woken:?}, {warm:?}");
    }
}

/// Sandboxes that sleep. More would cost less each, as what they have in common is kept once; and take longer to start.
const SLEEPERS: u64 = 10;

/// A sleeper costs less than this part of a warm one. So sixteen cost less than one that is warm.
const PART: u64 = 16;

/// What sandboxes of a function cost together when they sleep: all that is theirs, all of the store, and the growth of
/// this process, be it tables or anything else.
#[test]
fn sleepers_cost_less_than_a_sixteenth_of_a_warm_one_each() {
    if !require_python(&["sklearn"]) {
        return;
    }
    let bench = Bench::new();
    let own_before = bench.node.record().own_resident_bytes;
    let alike = |spec: &mut LaunchSpec| {
        spec.env.push(("PYTHONHASHSEED".into(), "20150331".into())); // As the server sets it.
        spec.layout = Layout::Pinned { secret: SECRET };
        spec.sharing = Sharing::Domain("tenant".to_owned());
    };
    let subject = Subject::function("sklearn");
    let mut specimens: Vec<Specimen> = (0..SLEEPERS).map(|_| bench.launch_with(&subject, alike)).collect();
    let answers: Vec<_> = specimens.iter_mut().map(|one| one.ask(r#"{"n": 3}"#).unwrap()).collect();
    let warm = sandbox(&specimens[0]).record().account;
    for one in &specimens {
        bench.sleep(one);
    }
    let record = bench.node.record();
    let sum = &record.account;
    let growth = record.own_resident_bytes.saturating_sub(own_before).max(record.store_table_bytes);
    let in_sandboxes = sum.resident_bytes + sum.page_table_bytes + sum.kernel_bytes;
    let kept = in_sandboxes + record.store_bytes + growth;
    let one = warm.resident_bytes + warm.page_table_bytes + warm.kernel_bytes;
    println!(
        "{kept} bytes: {in_sandboxes} in sandboxes, {} in the store, {growth} more; warm {one}",
        record.store_bytes
    );
    assert!(kept * PART < one * SLEEPERS, "{record:?}, {warm:?}");
    for (specimen, answer) in specimens.iter_mut().zip(&answers) {
        bench.wake(specimen);
        assert_eq!(specimen.ask(r#"{"n": 3}"#).unwrap(), *answer);
    }
}
