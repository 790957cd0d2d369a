//! From ranges to datagrams.

use advice::{BYTES_MAX, RANGES_MAX, Range, Wish, encode};

use crate::agent::{self, Untold};
use crate::counters::COUNTERS;

/// Ranges on their way, as many to a datagram as there is room.
pub(crate) struct Sender {
    wish: Wish,
    waiting: [Range; RANGES_MAX],
    count: usize,
    told_bytes: u64,
    failure: Option<Untold>,
}

impl Sender {
    /// With nothing to send yet.
    pub(crate) fn new(wish: Wish) -> Sender {
        Sender { wish, waiting: [Range::FIRST; RANGES_MAX], count: 0, told_bytes: 0, failure: None }
    }

    /// Adds a range; sends what there is when that is a whole datagram.
    pub(crate) fn add(&mut self, range: Range) {
        if let Some(place) = self.waiting.get_mut(self.count) {
            *place = range;
            self.count += 1;
        }
        if self.count == RANGES_MAX {
            self.flush();
        }
    }

    /// Sends the rest: how many bytes the agent was told of in all, and why not of all of them, if so.
    pub(crate) fn finish(mut self) -> (u64, Option<Untold>) {
        self.flush();
        (self.told_bytes, self.failure)
    }

    fn flush(&mut self) {
        let ranges = self.waiting.get(..self.count).unwrap_or_default();
        if ranges.is_empty() {
            return;
        }
        let bytes = ranges.iter().map(|range| range.bytes()).fold(0, u64::saturating_add);
        match agent::tell(encode(self.wish, ranges, &mut [0; BYTES_MAX])) {
            Ok(()) => {
                COUNTERS.told(ranges.len() as u64, bytes);
                self.told_bytes = self.told_bytes.saturating_add(bytes);
            }
            Err(why) => {
                COUNTERS.untold(ranges.len() as u64, why);
                self.failure = Some(why);
            }
        }
        self.count = 0;
    }
}
