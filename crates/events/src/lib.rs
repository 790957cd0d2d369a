//! The queue of asynchronous invocations. An event that was accepted is on the disk; it is tried until it is done
//! with or given up, at least once, whatever happens to the process in between. What it leaves behind for others (a
//! record for a destination) is queued in the same transaction in which it goes.
//!
//! `Queue` is the way in. The file is `store`, what is in it is known to `index`, and when to try again is `policy`.

mod bounds;
mod event;
mod index;
mod policy;
mod queue;
mod record;
mod store;
mod time;
mod writer;

pub use bounds::{Bounds, Full, PAYLOAD_MAX, RECORD_MAX, Usage};
pub use event::{Event, EventId, Lane, NewEvent, Target};
pub use policy::{AGE_MAX, AGE_MIN, EventConfig, GivenUp, RETRIES_MAX};
pub use queue::{AcceptError, LaneFacts, Queue, QueueError, Taken};
pub use record::{Condition, DestinationRecord, Response, one_line};
pub use store::{OpenError, StoreError};
pub use time::Timestamp;

#[cfg(test)]
mod tests;
