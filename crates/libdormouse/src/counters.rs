//! What this process has told the agent. A child that was forked goes on counting from where its parent stood.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::agent::Untold;

/// All counts of this process.
pub(crate) static COUNTERS: Counters = Counters {
    messages: AtomicU64::new(0),
    ranges: AtomicU64::new(0),
    bytes: AtomicU64::new(0),
    refused: AtomicU64::new(0),
    lost: AtomicU64::new(0),
    unheard: AtomicU64::new(0),
};

/// Each is what the header says of the field of its name.
pub(crate) struct Counters {
    pub(crate) messages: AtomicU64,
    pub(crate) ranges: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) unheard: AtomicU64,
}

impl Counters {
    /// Ranges of one message went out.
    pub(crate) fn told(&self, ranges: u64, bytes: u64) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.ranges.fetch_add(ranges, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ranges did not.
    pub(crate) fn untold(&self, ranges: u64, why: Untold) {
        let counter = match why {
            Untold::Off | Untold::NoAgent => &self.unheard,
            Untold::Busy => &self.lost,
        };
        counter.fetch_add(ranges, Ordering::Relaxed);
    }

    /// Something that is no memory was to be told.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}
