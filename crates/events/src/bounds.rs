//! How much a queue takes.

/// Bytes counted for each event beside its payload: names, ids, the place in file and memory.
pub(crate) const EVENT_OVERHEAD: u64 = 512;

/// Lambda's limit for the payload of an asynchronous invocation (256 KB until October 2025).
pub const PAYLOAD_MAX: usize = 1024 * 1024;

/// A record holds a request and its answer: as much as Lambda takes in any request.
pub const RECORD_MAX: usize = 6 * 1024 * 1024;

/// What may wait and run at the same time. Events that come of others (records for destinations, dead letters) may
/// take the queue up to twice this, so that clients who fill it are turned away before records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of one lane: of one function, or one file.
    pub lane: Usage,
    /// Of all together.
    pub total: Usage,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            lane: Usage { events: 50_000, bytes: 512 << 20 },
            total: Usage { events: 100_000, bytes: 1 << 30 },
        }
    }
}

/// A number of events, and what they take in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many.
    pub events: u64,
    /// Payloads, and half a kilobyte for each event.
    pub bytes: u64,
}

impl Usage {
    pub(crate) fn of_payload(len: usize) -> Usage {
        Usage { events: 1, bytes: len as u64 + EVENT_OVERHEAD }
    }

    pub(crate) fn add(&mut self, other: Usage) {
        self.events += other.events;
        self.bytes += other.bytes;
    }

    pub(crate) fn sub(&mut self, other: Usage) {
        self.events -= other.events;
        self.bytes -= other.bytes;
    }

    fn is_within(self, bound: Usage, times: u64) -> bool {
        self.events <= bound.events.saturating_mul(times) && self.bytes <= bound.bytes.saturating_mul(times)
    }
}

/// The queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Enough events wait for this function, or this file.
    #[error("enough events wait for this target")]
    Lane,
    /// Enough events wait for anything.
    #[error("enough events wait")]
    Total,
}

/// Who asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Client,
    Event,
}

impl Bounds {
    /// Whether a lane that would be at `lane`, in a queue that would be at `total`, is still within bounds.
    pub(crate) fn check(&self, origin: Origin, lane: Usage, total: Usage) -> Result<(), Full> {
        let times = match origin {
            Origin::Client => 1,
            Origin::Event => 2,
        };
        if !lane.is_within(self.lane, times) {
            Err(Full::Lane)
        } else if !total.is_within(self.total, times) {
            Err(Full::Total)
        } else {
            Ok(())
        }
    }
}
