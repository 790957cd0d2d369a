//! Opinions: when an idle sandbox sleeps, when a sleeping one is purged, when another one is started.
//! Whatever they say, the brain keeps its promises: limits, order, no lost invocation.

use std::time::Duration;

/// What the operator configured for one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionPlan {
    /// Sandboxes it may have at once, starting and dying ones included.
    pub concurrency: usize,
    /// How long an idle sandbox stays warm. `Duration::MAX`: for ever.
    pub keep_warm: Duration,
    /// How long a dedup sandbox is kept. `Duration::MAX`: for ever.
    pub keep_dedup: Duration,
    /// Invocations that may wait while no sandbox is on its way for them.
    pub queue_len: usize,
    /// How long one invocation may wait for a sandbox.
    pub queue_wait: Duration,
    /// What becomes of one invocation more than there may be.
    pub beyond: Beyond,
}

/// What becomes of one invocation more than there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond {
    /// It waits, as far as the queue goes. Lambda's limits do not count.
    #[default]
    Wait,
    /// As Lambda does it: it is rejected at once, at the limit of its function or of the allowance.
    Throttle,
}

/// How many want a sandbox, and how many sandboxes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Invocations waiting.
    pub waiting: usize,
    /// Sandboxes starting, waking, or about to be through with an answer: each will take one of them.
    pub coming: usize,
    /// Sandboxes that exist or are being started.
    pub alive: usize,
}

/// How to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Fixed idle times, a start for every invocation that finds nothing idle.
    #[default]
    Fixed,
}

/// The shortest pause before a sandbox that was left warm is asked again, so that `keep_warm = 0` does not
/// freeze it over and over.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// A sandbox that has answered counts so long as one that will take the next invocation: a client that calls again
/// at once is often quicker than the runtime. Far less than a start takes.
pub(crate) const SETTLES_WITHIN: Duration = Duration::from_millis(20);

/// The longest pause: what kept it warm (an open device, a foreign socket) may well have gone after ten minutes.
const RETRY_MAX: Duration = Duration::from_secs(600);

impl Policy {
    /// How long a sandbox stays warm from now on, if nothing comes. `left_warm`: how often in a row a sleep failed.
    pub fn sleeps_after(self, plan: &FunctionPlan, left_warm: u32) -> Duration {
        let Policy::Fixed = self;
        if left_warm == 0 {
            return plan.keep_warm;
        }
        let doubled = plan.keep_warm.max(RETRY_MIN).saturating_mul(1 << left_warm.min(16));
        doubled.min(RETRY_MAX.max(plan.keep_warm)) // Never sooner than the operator wants it.
    }

    /// How long a sandbox that fell asleep now is kept.
    pub fn purges_after(self, plan: &FunctionPlan) -> Duration {
        let Policy::Fixed = self;
        plan.keep_dedup
    }

    /// Whether to start one more sandbox.
    pub fn starts(self, plan: &FunctionPlan, demand: Demand) -> bool {
        let Policy::Fixed = self;
        demand.waiting > demand.coming && demand.alive < plan.concurrency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keep_warm_s: u64, left_warm: u32, expected_s: u64) {
        let plan = FunctionPlan {
            concurrency: 1,
            keep_warm: Duration::from_secs(keep_warm_s),
            keep_dedup: Duration::MAX,
            queue_len: 0,
            queue_wait: Duration::ZERO,
            beyond: Beyond::Wait,
        };
        assert_eq!(Policy::Fixed.sleeps_after(&plan, left_warm), Duration::from_secs(expected_s));
    }

    #[test]
    fn pauses_between_failed_sleeps_double_up_to_a_bound() {
        check(10, 0, 10);
        check(10, 1, 20);
        check(10, 2, 40);
        check(10, 30, 600);
    }

    #[test]
    fn a_sandbox_that_should_sleep_at_once_is_not_tried_in_a_hot_loop() {
        check(0, 0, 0);
        check(0, 1, 2);
    }

    #[test]
    fn a_long_keep_warm_is_not_shortened_by_a_failure() {
        check(3600, 1, 3600);
    }
}
