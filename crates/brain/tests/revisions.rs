//! What the brain decides when revisions come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it stands.

mod story;

use std::time::Duration;

use brain::{Brain, Policy};
use protocol::RevisionId;
use story::{check, event, one_sandbox, plan, words};

#[test]
fn those_who_wait_for_a_retired_revision_go_before_those_of_its_successor() {
    check(
        one_sandbox(),
        "0 invoke a     -> start 1
         0 invoke b
         0 invoke c 2   -> start 2
         0 retire 1 2
         1 started 2
         1 ready 2      -> assign a to 2 cold
         2 answered 2
         2 ready 2      -> assign b to 2 warm
         2 started 1    -> purge 1
         3 answered 2
         3 ready 2      -> assign c to 2 warm",
    );
}

#[test]
fn a_retired_revision_finishes_what_it_serves_and_loses_the_rest() {
    check(
        plan(),
        "0 invoke a     -> start 1
         0 invoke b     -> start 2
         0 started 1
         0 started 2
         1 ready 1      -> assign a to 1 cold
         1 ready 2      -> assign b to 2 cold
         2 answered 2
         2 ready 2
         3 retire 1 2   -> purge 2
         3 invoke c     -> start 3
         4 answered 1
         4 ready 1      -> purge 1
         5 started 3
         5 ready 3      -> assign c to 3 cold",
    );
}

#[test]
fn sleepers_and_those_falling_asleep_go_with_their_revision() {
    check(
        plan(),
        "0 invoke a     -> start 1
         0 invoke b     -> start 2
         0 started 1
         0 started 2
         0 ready 1      -> assign a to 1 cold
         0 ready 2      -> assign b to 2 cold
         0 answered 1
         0 ready 1
         1 answered 2
         1 ready 2
         10 tick        -> sleep 1
         10.5 slept 1
         11 tick        -> sleep 2
         11 retire 1 2  -> purge 1, purge 2
         11 left-warm 2
         11 gone 1
         11 gone 2",
    );
}

#[test]
fn a_retired_revision_without_a_successor_rejects_who_waits_and_who_comes() {
    check(
        one_sandbox(),
        "0 invoke a        -> start 1
         0 started 1
         1 ready 1         -> assign a to 1 cold
         2 invoke b
         3 retire 1        -> reject b UnknownRevision
         3 invoke c        -> reject c UnknownRevision
         4 gone 1          -> reject a Died",
    );
}

#[test]
fn who_comes_late_is_served_by_the_last_successor() {
    check(
        plan(),
        "0 retire 1 2
         0 retire 2 3
         1 invoke a     -> start 1
         1 retire 3 1   -> reject a UnknownRevision
         1 invoke b     -> reject b UnknownRevision",
    );
}

#[test]
fn a_failed_start_of_a_retired_revision_blames_nobody() {
    check(
        plan(),
        "0 invoke a       -> start 1
         0 retire 1 2     -> start 2
         1 start-failed 1
         1 started 2
         2 ready 2        -> assign a to 2 cold",
    );
}

#[test]
fn what_could_not_be_handed_over_goes_to_the_successor() {
    check(
        plan(),
        "0 invoke a     -> start 1
         0 started 1
         0 ready 1      -> assign a to 1 cold
         0 retire 1 2
         0 not-taken 1  -> purge 1, start 2",
    );
}

#[test]
fn an_unknown_revision_is_rejected() {
    let mut brain = Brain::new(Policy::Fixed);
    let actions = brain.handle(Duration::ZERO, event("invoke a"));
    assert_eq!(actions.iter().map(words).collect::<Vec<_>>(), ["reject a UnknownRevision"]);
}

#[test]
fn the_one_that_retired_last_is_remembered_though_it_was_made_first() {
    let mut brain = Brain::new(Policy::Fixed);
    for id in 1..=1_200 {
        brain.set_revision(RevisionId(id), story::name(), plan());
    }
    for id in 2..1_200 {
        brain.handle(Duration::ZERO, event(&format!("retire {id} 1200")));
    }
    brain.handle(Duration::ZERO, event("retire 1 1200"));
    let actions = brain.handle(Duration::ZERO, event("invoke a"));
    assert_eq!(actions.iter().map(words).collect::<Vec<_>>(), ["start 1"], "its successor starts");
}
