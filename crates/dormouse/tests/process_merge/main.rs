//! `dormouse merge` on real processes: what is one page afterwards, what is not, and what is left of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

#[path = "../common/mod.rs"]
mod common;
mod peer;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Ground, Ran, run, until};
use peer::{COMMON_PAGES, OWN_PAGES, Peer};

/// Where `dormouse merge` keeps the settings of KSM meanwhile.
const KEPT: &str = "/run/dormouse-merge-ksm";

fn merge(ground: &Ground, options: &[&str], peers: &[&Peer]) -> Ran {
    let pids: Vec<String> = peers.iter().map(|peer| peer.pid().to_string()).collect();
    run(ground.command().arg("merge").arg("--json").args(options).args(pids))
}

/// Whether each of these pages is one frame in all of them.
#[track_caller]
fn check_one(peers: &[&Peer], pages: std::ops::Range<usize>) {
    let frames: BTreeSet<_> = peers.iter().map(|peer| peer.frames(pages.clone())).collect();
    assert_eq!(frames.len(), 1, "the same frames in all");
}

/// Whether no frame is in two of them.
#[track_caller]
fn check_apart(peers: &[&Peer]) {
    let all: Vec<u64> = peers.iter().flat_map(|peer| peer.frames(0..COMMON_PAGES + OWN_PAGES)).collect();
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len(), "each frame in one place");
}

#[test]
fn what_processes_have_in_common_becomes_one_page_and_is_each_ones_own_again() {
    let ground = Ground::alone();
    let mut one: Vec<Peer> = (0..3).map(|own| Peer::start(&ground, 1, own)).collect();
    let mut other: Vec<Peer> = (3..5).map(|own| Peer::start(&ground, 1, own)).collect();
    let sums: Vec<String> = one.iter_mut().chain(&mut other).map(|peer| peer.ask("sum")).collect();
    check_apart(&one.iter().chain(&other).collect::<Vec<_>>());

    let merged = merge(&ground, &[], &one.iter().collect::<Vec<_>>()).json();
    assert_eq!(merged["backend"], "ksm");
    assert_eq!(merged["end"], "settled", "{merged}");
    assert!(merged["saved_bytes"].as_u64().unwrap() >= 2 * COMMON_PAGES as u64 * 4096, "{merged}");
    check_one(&one.iter().collect::<Vec<_>>(), 0..COMMON_PAGES);
    let mut own: Vec<u64> =
        one.iter().flat_map(|peer| peer.frames(COMMON_PAGES..COMMON_PAGES + OWN_PAGES)).collect();
    own.sort_unstable();
    own.dedup();
    assert_eq!(own.len(), 3 * OWN_PAGES);
    for (peer, sum) in one.iter_mut().zip(&sums) {
        assert_eq!(peer.ask("sum"), *sum);
    }

    one[0].ask("write 7 1");
    one[0].ask("write 7 2");
    assert_ne!(one[0].frames(7..8), one[1].frames(7..8));
    check_one(&one[1..].iter().collect::<Vec<_>>(), 0..COMMON_PAGES);
    assert_eq!(one[1].ask("sum"), sums[1]);

    let refused = merge(&ground, &[], &other.iter().collect::<Vec<_>>());
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("in use") && refused.stderr.contains("--across-domains"), "{refused:?}");
    let named = format!("process {}", one[0].pid());
    assert!(refused.stderr.contains(&named), "{refused:?}");
    check_apart(&[&one[1], &other[0], &other[1]]);

    merge(&ground, &["--across-domains"], &other.iter().collect::<Vec<_>>()).json();
    check_one(&[&one[1], &one[2], &other[0], &other[1]], 0..COMMON_PAGES);

    let all: Vec<&Peer> = one.iter().chain(&other).collect();
    merge(&ground, &["--unmerge"], &all).json();
    check_apart(&all);
    merge(&ground, &[], &other.iter().collect::<Vec<_>>()).json();
    check_one(&other.iter().collect::<Vec<_>>(), 0..COMMON_PAGES);
    check_apart(&[&one[0], &one[1], &one[2], &other[0]]);
    for (peer, sum) in one.iter_mut().chain(&mut other).zip(&sums).skip(1) {
        assert_eq!(peer.ask("sum"), *sum);
    }
    assert!(!Path::new(KEPT).exists());
}

#[test]
fn nothing_that_is_written_meanwhile_is_lost() {
    let ground = Ground::alone();
    let mut peers: Vec<Peer> = (0..4).map(|own| Peer::start(&ground, 2, own)).collect();
    for peer in &mut peers[..2] {
        peer.say("churn 1000000");
    }
    for options in [&[] as &[&str], &["--unmerge"], &[]] {
        merge(&ground, options, &peers.iter().collect::<Vec<_>>()).json();
    }
    for peer in &mut peers[..2] {
        assert_eq!(peer.hear(), "kept");
    }
}

#[test]
fn one_that_is_killed_leaves_ksm_as_it_was_and_processes_that_run_on() {
    let ground = Ground::alone();
    let mut peers: Vec<Peer> = (0..2).map(|own| Peer::start(&ground, 3, own)).collect();
    let sums: Vec<String> = peers.iter_mut().map(|peer| peer.ask("sum")).collect();
    for point in ["ksm-kept", "merge-marked", "ksm-flat-out"] {
        let pids: Vec<String> = peers.iter().map(|peer| peer.pid().to_string()).collect();
        let killed = run(ground.command().env("DORMOUSE_DIE_AT", point).arg("merge").args(pids));
        assert_eq!(killed.code, None, "{point}: {killed:?}");
        // The guard puts it right.
        until("the settings of KSM are as they were", || {
            !Path::new(KEPT).exists() && ground.left().iter().all(|left| !left.contains("/ksm/"))
        });
        for (peer, sum) in peers.iter_mut().zip(&sums) {
            assert_eq!(peer.ask("sum"), *sum, "{point}");
        }
    }
    merge(&ground, &[], &peers.iter().collect::<Vec<_>>()).json();
    check_one(&peers.iter().collect::<Vec<_>>(), 0..COMMON_PAGES);
}
