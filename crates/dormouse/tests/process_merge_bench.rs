//! The experiment on merging: it finds what can be shared, KSM shares it, and nothing of it stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{Ground, run};
use report::merge::{MergeBench, MergeWay};

/// Of the worker's 100 MiB, the part that is the same in every process.
const COMMON_BYTES: u64 = 85 << 20;

/// What KSM counts moves while nobody turns a knob, and stays a while when all is gone that it counted.
const COUNTED: [&str; 6] =
    ["full_scans", "general_profit", "ksm_zero_pages", "pages_", "stable_node_chains", "stable_node_dups"];

/// All that KSM was told.
fn ksm() -> BTreeMap<String, String> {
    let files = fs::read_dir("/sys/kernel/mm/ksm").unwrap().map(Result::unwrap);
    let is_knob =
        |name: &str| name == "pages_to_scan" || !COUNTED.iter().any(|counted| name.starts_with(counted));
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
        .filter(|(name, _)| is_knob(name))
        .collect()
}

#[test]
fn what_can_be_shared_is_shared_and_ksm_is_as_before() {
    let (ground, before) = (Ground::alone(), ksm());
    let (json, svg) = (ground.path().join("merge.json"), ground.path().join("merge.svg"));
    let mut command = ground.command();
    command.args(["bench", "merge", "--quick", "--sandboxes", "1,3"]);
    let ran = run(command.arg("--json").arg(&json).arg("--svg").arg(&svg));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ksm(), before);
    let bench: MergeBench = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let case = |way, sandboxes| {
        let case = bench.workers[0].case(way, sandboxes);
        case.unwrap_or_else(|| panic!("no {way} of {sandboxes}: {}", ran.stdout))
    };
    for (way, count) in [MergeWay::Off, MergeWay::KsmFlat].into_iter().flat_map(|way| [(way, 1), (way, 3)]) {
        let case = case(way, count);
        // Two before merging and one after it of each, at the least, and those of a cold start.
        assert!(case.answers_wrong == 0 && case.answers_right > count * 3, "{case:?}");
        assert!(case.sharable_bytes >= COMMON_BYTES * (count - 1), "{case:?}");
        assert!(case.after.rss_bytes > COMMON_BYTES && case.footprint_bytes > COMMON_BYTES, "{case:?}");
    }
    let (off, merged) = (case(MergeWay::Off, 3), case(MergeWay::KsmFlat, 3));
    assert!(off.merging.is_none() && off.shared_bytes < COMMON_BYTES, "{off:?}");
    assert!(merged.shared_bytes > COMMON_BYTES, "{merged:?}");
    assert!(merged.footprint_bytes + COMMON_BYTES < off.footprint_bytes, "{merged:?} {off:?}");
    assert!(merged.after.pss_bytes < off.after.pss_bytes, "{merged:?} {off:?}");
    assert!(fs::read_to_string(svg).unwrap().contains("synthetic"));
    ground.await_empty();
}
