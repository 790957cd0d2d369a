//! When a failed event is tried again, and when it is given up; as Lambda does it.

use std::time::Duration;

use crate::{Target, Timestamp};

/// What an operator may set for the events of one function, or of one version or alias of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventConfig {
    /// How often an event is tried again after an error of the function: 0 to `RETRIES_MAX`.
    pub retries: u32,
    /// How old an event may become: `AGE_MIN` to `AGE_MAX`.
    pub max_age: Duration,
    /// Who gets a record of each event that the function answered.
    pub on_success: Option<Target>,
    /// Who gets a record of each event that was given up.
    pub on_failure: Option<Target>,
    /// Who gets each event, as it was, that was given up.
    pub dead_letter: Option<Target>,
}

/// The most retries that may be asked for, and what there is without asking.
pub const RETRIES_MAX: u32 = 2;

/// The shortest age that may be asked for.
pub const AGE_MIN: Duration = Duration::from_secs(60);

/// The longest age that may be asked for, and what there is without asking.
pub const AGE_MAX: Duration = Duration::from_secs(6 * 3600);

/// From here on each retry waits as long as the last.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];

/// The first pause of a lane in which nothing can run.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Its longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// No event that waits is due later than this from now, whatever the file says of it: clocks are set back.
pub(crate) const WAIT_MAX: Duration = PAUSE_MAX;

impl Default for EventConfig {
    fn default() -> Self {
        Self { retries: RETRIES_MAX, max_age: AGE_MAX, on_success: None, on_failure: None, dead_letter: None }
    }
}

/// Why an event was given up. The names are those of Lambda's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The function failed as often as it may.
    RetriesExhausted,
    /// It became too old, or would until the next attempt.
    EventAgeExceeded,
}

impl GivenUp {
    /// As it stands in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            GivenUp::RetriesExhausted => "RetriesExhausted",
            GivenUp::EventAgeExceeded => "EventAgeExceeded",
        }
    }
}

impl EventConfig {
    /// After the function's `failures`th error on an event: when to try again.
    pub fn after_failure(
        &self,
        failures: u32,
        accepted: Timestamp,
        now: Timestamp,
    ) -> Result<Timestamp, GivenUp> {
        if failures > self.retries {
            return Err(GivenUp::RetriesExhausted);
        }
        let delay = RETRY_DELAYS[(failures.max(1) as usize - 1).min(RETRY_DELAYS.len() - 1)];
        let due = now.after(delay);
        if self.is_too_old(accepted, due) { Err(GivenUp::EventAgeExceeded) } else { Ok(due) }
    }

    /// Whether an event of that time must not be tried any more.
    pub fn is_too_old(&self, accepted: Timestamp, now: Timestamp) -> bool {
        now.since(accepted) >= self.max_age
    }
}

/// How long a lane pauses after so many refusals in a row.
pub(crate) fn pause(refusals: u32) -> Duration {
    PAUSE_MIN.saturating_mul(2_u32.saturating_pow(refusals.saturating_sub(1))).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn at(seconds: u64) -> Timestamp {
        START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn an_error_is_followed_by_two_retries_after_one_and_two_minutes() {
        let config = EventConfig::default();
        assert_eq!(config.after_failure(1, START, at(5)), Ok(at(65)));
        assert_eq!(config.after_failure(2, START, at(70)), Ok(at(190)));
        assert_eq!(config.after_failure(3, START, at(200)), Err(GivenUp::RetriesExhausted));
        let never = EventConfig { retries: 0, ..config };
        assert_eq!(never.after_failure(1, START, START), Err(GivenUp::RetriesExhausted));
    }

    #[test]
    fn an_event_is_not_tried_once_it_is_too_old() {
        let config = EventConfig { max_age: AGE_MIN, ..EventConfig::default() };
        assert_eq!(config.after_failure(1, START, at(1)), Err(GivenUp::EventAgeExceeded));
        assert!(!config.is_too_old(START, at(59)));
        assert!(config.is_too_old(START, at(60)));
        assert!(!config.is_too_old(at(100), START), "the clock was set back");
    }

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let seconds: Vec<_> = [1, 2, 3, 8, 9, 10, 40, u32::MAX].map(|n| pause(n).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 128, 256, 300, 300, 300]);
    }
}
