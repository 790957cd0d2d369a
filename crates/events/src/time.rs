//! Points in time. Nobody here reads a clock: whoever calls says what time it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970. It stands in files, so it is the time of day and may jump; nothing here relies on more
/// than that a jump only makes an attempt early or late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; nothing, where it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
