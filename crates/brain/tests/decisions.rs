//! What the brain decides about the sandboxes of one revision.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it stands.

mod story;

use std::time::Duration;

use brain::{Brain, Policy};
use protocol::RevisionId;
use story::{check, event, name, one_sandbox, plan};

#[test]
fn the_first_invocation_starts_a_sandbox_and_the_next_finds_it_warm() {
    check(
        plan(),
        "0 invoke a   -> start 1
         0 started 1
         1 ready 1    -> assign a to 1 cold
         2 answered 1
         2 ready 1
         3 invoke b   -> assign b to 1 warm",
    );
}

#[test]
fn an_idle_sandbox_sleeps_after_keep_warm_and_goes_after_keep_dedup() {
    check(
        plan(),
        "0 invoke a      -> start 1
         0 started 1
         1 ready 1       -> assign a to 1 cold
         2 answered 1
         3 ready 1
         12.9 tick
         13 tick         -> sleep 1
         14 slept 1
         113.9 tick
         114 tick        -> purge 1
         114.1 gone 1",
    );
}

#[test]
fn a_snapshot_is_made_before_anybody_asks_and_sleeps_at_once() {
    check(
        plan(),
        "0 prepare 1 -> start 1
         0 prepare 1
         0 started 1
         1 snapshot 1 -> sleep 1
         2 slept 1
         3 invoke a -> wake 1
         4 woke 1 -> assign a to 1 dedup",
    );
}

#[test]
fn a_sleeping_sandbox_is_woken_before_a_new_one_is_started() {
    check(
        plan(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         0 answered 1
         0 ready 1
         10 tick      -> sleep 1
         11 slept 1
         20 invoke b  -> wake 1
         20 invoke c  -> start 2
         20 woke 1    -> assign b to 1 dedup
         21 answered 1
         21 ready 1   -> assign c to 1 warm
         21 started 2
         21 ready 2",
    );
}

#[test]
fn the_warm_sandbox_used_last_is_taken_first() {
    check(
        plan(),
        "0 invoke a   -> start 1
         0 invoke b   -> start 2
         0 started 1
         0 started 2
         1 ready 2    -> assign a to 2 cold
         1 ready 1    -> assign b to 1 cold
         2 answered 1
         2 ready 1
         3 answered 2
         3 ready 2
         4 invoke c   -> assign c to 1 warm",
    );
}

#[test]
fn who_calls_again_at_once_gets_the_same_sandbox() {
    check(
        plan(),
        "0 invoke a      -> start 1
         0 started 1
         1 ready 1       -> assign a to 1 cold
         2 answered 1
         2.001 invoke b
         2.002 ready 1   -> assign b to 1 warm",
    );
}

#[test]
fn a_sandbox_that_is_long_in_settling_is_not_waited_for() {
    check(
        plan(),
        "0 invoke a      -> start 1
         0 started 1
         1 ready 1       -> assign a to 1 cold
         2 answered 1
         2.001 invoke b
         2.002 invoke c  -> start 2
         2.02 tick
         2.03 started 2
         2.04 ready 2    -> assign b to 2 cold
         3 ready 1       -> assign c to 1 warm",
    );
}

#[test]
fn a_full_queue_throttles_the_newest() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 invoke b
         0 invoke c   -> reject c QueueFull
         0 started 1
         1 ready 1    -> assign a to 1 cold
         2 answered 1
         2 ready 1    -> assign b to 1 warm",
    );
}

#[test]
fn nobody_waits_longer_than_the_bound() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         5 ready 1    -> assign a to 1 cold
         6 invoke b
         35.9 tick
         36 tick      -> reject b QueuedTooLong
         37 answered 1
         37 ready 1",
    );
}

#[test]
fn an_invocation_in_the_middle_of_freezing_wins() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         0 answered 1
         0 ready 1
         10 tick      -> sleep 1
         10 invoke b  -> wake 1
         10 left-warm 1
         10 thawed 1  -> assign b to 1 warm",
    );
}

#[test]
fn a_sleep_that_ended_just_before_the_wake_is_restored() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         0 answered 1
         0 ready 1
         10 tick      -> sleep 1
         10 invoke b  -> wake 1
         10 slept 1
         10 woke 1    -> assign b to 1 dedup",
    );
}

#[test]
fn a_sandbox_left_warm_is_asked_again_with_longer_pauses() {
    check(
        plan(),
        "0 invoke a      -> start 1
         0 started 1
         0 ready 1       -> assign a to 1 cold
         0 answered 1
         0 ready 1
         10 tick         -> sleep 1
         10 left-warm 1
         29.9 tick
         30 tick         -> sleep 1
         30 left-warm 1
         69.9 tick
         70 tick         -> sleep 1
         70 slept 1",
    );
}

#[test]
fn a_death_fails_its_invocation_and_the_next_gets_another_sandbox() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         1 invoke b
         2 gone 1     -> reject a Died, start 2
         2 started 2
         3 ready 2    -> assign b to 2 cold",
    );
}

#[test]
fn a_death_after_the_answer_fails_nobody() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         1 answered 1
         1 gone 1",
    );
}

#[test]
fn a_death_while_waking_costs_a_cold_start_and_no_invocation() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         0 answered 1
         0 ready 1
         10 tick      -> sleep 1
         10 slept 1
         11 invoke b  -> wake 1
         11 gone 1    -> start 2",
    );
}

#[test]
fn a_start_that_fails_is_told_to_the_one_who_waits_and_not_repeated() {
    check(
        plan(),
        "0 invoke a      -> start 1
         0 start-failed 1 -> reject a StartFailed
         1 tick
         2 invoke b      -> start 2
         2 started 2
         3 init-failed 2 -> purge 2, reject b StartFailed
         3 gone 2
         4 invoke c      -> start 3
         4 started 3
         5 gone 3        -> reject c StartFailed
         6 tick",
    );
}

#[test]
fn a_failed_start_blames_nobody_when_all_were_served() {
    check(
        plan(),
        "0 invoke a      -> start 1
         0 started 1
         0 ready 1       -> assign a to 1 cold
         1 invoke b      -> start 2
         2 answered 1
         2 ready 1       -> assign b to 1 warm
         3 start-failed 2",
    );
}

#[test]
fn what_could_not_be_handed_over_goes_to_another_sandbox() {
    check(
        plan(),
        "0 invoke a      -> start 1
         0 started 1
         0 ready 1       -> assign a to 1 cold
         0 not-taken 1   -> purge 1, start 2
         0 gone 1
         0 started 2
         1 ready 2       -> assign a to 2 cold",
    );
}

#[test]
fn a_dying_sandbox_still_counts_against_the_limit() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         3 purge 1    -> purge 1
         3 invoke b
         4 gone 1     -> reject a Died, start 2",
    );
}

#[test]
fn a_sandbox_put_to_sleep_by_hand_is_kept_until_it_is_wanted() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         0 answered 1
         0 ready 1
         1 sleep 1    -> sleep 1
         1 slept 1
         9999 tick
         9999 wake 1  -> wake 1
         9999 woke 1
         10009 tick   -> sleep 1
         10009 slept 1
         10010 sleep 1 -> refuse 1 dedup
         99999 tick
         99999 invoke b -> wake 1",
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    check(
        one_sandbox(),
        "0 sleep 7    -> refuse 7 unknown
         0 invoke a   -> start 1
         0 started 1
         0 wake 1     -> refuse 1 starting
         0 ready 1    -> assign a to 1 cold
         0 sleep 1    -> refuse 1 busy
         0 check 1    -> refuse 1 busy
         0 answered 1
         0 ready 1
         0 wake 1     -> refuse 1 warm",
    );
}

#[test]
fn a_check_is_not_broken_off() {
    check(
        one_sandbox(),
        "0 invoke a   -> start 1
         0 started 1
         0 ready 1    -> assign a to 1 cold
         0 answered 1
         0 ready 1
         1 check 1    -> check 1
         1 invoke b
         2 checked 1  -> assign b to 1 warm",
    );
}

#[test]
fn the_next_deadline_is_the_earliest_and_clears() {
    let mut brain = Brain::new(Policy::Fixed);
    brain.set_revision(RevisionId(1), name(), one_sandbox());
    let at = |s| Some(Duration::from_secs(s));
    assert_eq!(brain.next_deadline(), None);
    brain.handle(Duration::ZERO, event("invoke a"));
    assert_eq!(brain.next_deadline(), at(30), "the wait of `a`");
    brain.handle(Duration::ZERO, event("started 1"));
    brain.handle(Duration::ZERO, event("ready 1"));
    assert_eq!(brain.next_deadline(), None, "a busy sandbox has no deadline here");
    brain.handle(Duration::ZERO, event("answered 1"));
    brain.handle(Duration::from_secs(2), event("ready 1"));
    assert_eq!(brain.next_deadline(), at(12), "keep_warm");
}
