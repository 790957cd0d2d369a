//! What the brain decides at Lambda's limits, and about provisioned sandboxes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it stands.

mod story;

use std::time::Duration;

use brain::{Brain, Policy, Provisioned};
use protocol::RevisionId;
use story::{check, check_with, event, name, plan, throttled};

#[test]
fn one_more_than_reserved_is_throttled_over_all_revisions() {
    check_with(
        throttled(),
        |brain| brain.set_reserved(&name(), Some(2)),
        "0 invoke a     -> start 1
         0 invoke b 2   -> start 2
         0 invoke c     -> reject c ReservedLimit
         0 invoke d 2   -> reject d ReservedLimit
         0 started 1
         1 ready 1      -> assign a to 1 cold
         2 answered 1
         2 invoke e 2   -> start 3",
    );
}

#[test]
fn nothing_reserved_is_nothing_at_all_with_zero_and_the_rest_of_the_allowance_without() {
    check_with(
        throttled(),
        |brain| brain.set_reserved(&name(), Some(0)),
        "0 invoke a -> reject a ReservedLimit",
    );
    let other = |brain: &mut Brain| {
        brain.set_allowance(3);
        brain.set_reserved(&"other".parse().unwrap(), Some(2));
    };
    check_with(
        throttled(),
        other,
        "0 invoke a     -> start 1
         0 invoke b     -> reject b AllowanceLimit
         0 started 1
         1 gone 1       -> reject a StartFailed
         2 invoke c     -> start 2",
    );
}

#[test]
fn idle_sandboxes_of_an_old_revision_leave_the_whole_limit_to_the_new_one() {
    check_with(
        throttled(),
        |brain| brain.set_reserved(&name(), Some(1)),
        "0 invoke a     -> start 1
         0 started 1
         0 ready 1      -> assign a to 1 cold
         1 answered 1
         1 ready 1
         2 retire 1 2   -> purge 1
         2 invoke b     -> start 2
         2 invoke c     -> reject c ReservedLimit",
    );
}

#[test]
fn provisioned_sandboxes_start_before_anybody_calls_and_do_not_sleep() {
    check(
        plan(),
        "0 provision 1 1  -> start 1
         0 started 1
         1 ready 1
         99999 tick
         99999 invoke a   -> assign a to 1 cold
         99999 invoke b   -> start 2
         99999 started 2
         99999 ready 2    -> assign b to 2 cold
         100000 answered 2
         100000 ready 2
         100000 answered 1
         100000 ready 1
         100010 tick      -> sleep 1
         100010 slept 1
         100011 provision 1 0
         100021 tick      -> sleep 2",
    );
}

#[test]
fn a_sleeper_is_woken_to_be_provisioned() {
    check(
        plan(),
        "0 invoke a       -> start 1
         0 started 1
         0 ready 1        -> assign a to 1 cold
         0 answered 1
         0 ready 1
         10 tick          -> sleep 1
         10 slept 1
         11 provision 1 2 -> wake 1, start 2",
    );
}

#[test]
fn a_provisioned_sandbox_that_dies_is_replaced_after_pauses_that_double() {
    check(
        plan(),
        "0 provision 1 1   -> start 1
         0 started 1
         1 gone 1
         1.9 tick
         2 tick            -> start 2
         2 start-failed 2
         3.9 tick
         4 tick            -> start 3
         4 started 3
         4 init-failed 3   -> purge 3
         4 gone 3
         7.9 tick
         8 tick            -> start 4
         8 started 4
         9 ready 4
         10 invoke a       -> assign a to 4 cold
         11 answered 4
         11 ready 4
         12 gone 4
         13 tick           -> start 5",
    );
}

#[test]
fn what_is_provisioned_counts_against_the_allowance_and_is_free_to_its_own() {
    let provisioned = "0 provision 1 2  -> start 1, start 2
         0 invoke a
         0 invoke b
         0 invoke c       -> reject c AllowanceLimit
         0 invoke d 2     -> reject d AllowanceLimit";
    check_with(throttled(), |brain| brain.set_allowance(2), provisioned);
}

#[test]
fn provisioning_says_how_far_it_is() {
    let mut brain = Brain::new(Policy::Fixed);
    brain.set_revision(RevisionId(1), name(), plan());
    let state = |brain: &Brain| brain.provisioned(RevisionId(1)).unwrap();
    let mut at = 0;
    let mut tell = |brain: &mut Brain, what| {
        at += 10;
        brain.handle(Duration::from_secs(at), event(what));
    };
    tell(&mut brain, "provision 1 1");
    assert_eq!(state(&brain), Provisioned { wanted: 1, available: 0, is_failing: false });
    tell(&mut brain, "started 1");
    tell(&mut brain, "ready 1");
    assert_eq!(state(&brain), Provisioned { wanted: 1, available: 1, is_failing: false });
    tell(&mut brain, "gone 1");
    for start in ["start-failed 2", "start-failed 3"] {
        assert!(!state(&brain).is_failing);
        tell(&mut brain, "tick");
        tell(&mut brain, start);
    }
    assert_eq!(state(&brain), Provisioned { wanted: 1, available: 0, is_failing: true });
    assert_eq!(brain.provisioned(RevisionId(7)), None);
}
