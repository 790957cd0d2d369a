//! Light sleep: what the last wakes touched stays in the process, the rest leaves, and all of it is there after the wake.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Bench, LAZY, sandbox, wait};
use protocol::{Depth, SleepRecord, State};
use testkit::{Specimen, Subject};

/// One that has slept, and served an invocation since: its working set is known.
fn known(bench: &Bench, depth: Depth) -> Specimen {
    let mut specimen = bench.launch_with(&Subject::specimen(&["memory", "7"]), |spec| spec.depth = depth);
    bench.sleep(&specimen);
    invoke(bench, &mut specimen);
    specimen
}

/// Wakes it, and has it touch the region that `mremap-grow` works on, but not all of its memory.
fn invoke(bench: &Bench, specimen: &mut Specimen) {
    bench.wake(specimen);
    sandbox(specimen).begin_invocation().unwrap();
    specimen.ask("grow-heap").unwrap();
    sandbox(specimen).end_invocation().unwrap();
    testkit::until(|| bench.node.record().coming_back == 0).unwrap();
}

fn left_pages(depth: Depth) -> (SleepRecord, u64) {
    let bench = Bench::with(LAZY.1);
    let mut specimen = known(&bench, depth);
    let before = specimen.ask("checksum").unwrap();
    let record = bench.sleep(&specimen);
    let resident = sandbox(&specimen).record().account.resident_bytes;
    assert_eq!(sandbox(&specimen).state(), State::Dedup);
    let woke = bench.wake(&specimen);
    assert_eq!(specimen.ask("checksum").unwrap(), before);
    if depth == Depth::Light {
        assert_eq!(woke.filled_pages, 0, "what it needs was there");
    }
    let found = bench.check(&specimen);
    assert!(found.is_same(), "{found:?}");
    (record, resident)
}

#[test]
fn the_working_set_of_a_light_sleeper_stays_and_the_rest_leaves() {
    let (deep, deep_bytes) = left_pages(Depth::Deep);
    let (light, light_bytes) = left_pages(Depth::Light);
    assert_eq!((light.depth, deep.depth), (Depth::Light, Depth::Deep));
    assert!(light.left_pages > deep.left_pages, "{light:?}, {deep:?}");
    assert!(light.left_pages < light.own_pages() / 2, "{light:?}");
    assert!(light_bytes > deep_bytes && light_bytes <= light.left_pages * 4096 + deep_bytes, "{light_bytes}");
}

#[test]
fn a_light_sleeper_whose_working_set_nobody_knows_sleeps_deeply() {
    let bench = Bench::with(LAZY.1);
    let subject = Subject::specimen(&["memory", "7"]);
    let deep = bench.sleep(&bench.launch(&subject));
    let light = bench.launch_with(&subject, |spec| spec.depth = Depth::Light);
    let slept = bench.sleep(&light);
    assert_eq!((slept.depth, slept.left_pages), (Depth::Deep, deep.left_pages));
    assert_eq!(sandbox(&light).record().depth_reached(), Some(Depth::Deep));
    wait(sandbox(&light).wake()).unwrap();
    assert_eq!(sandbox(&light).record().depth_reached(), None);
}
