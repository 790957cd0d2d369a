//! Room for payloads: what requests hold in memory, while they are read and until their answers are written, has a bound.
//! It is one of bytes and not of requests: a thousand small ones fit where a thousand of the largest would not. What
//! counts is what has come, not what was announced: who announces megabytes and sends nothing keeps nobody out.
//!
//! An answer is there already, and was worked for: where others have all the room it is written all the same, and who comes
//! next finds none. So the most that there can be is the room, and one answer for each invocation that may run.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::aws_error::AwsError;
use crate::outcome::Throttle;

/// What a request costs beside its payload: its task, its connection's buffers, its headers.
const REQUEST_BYTES_MIN: usize = 16 * 1024;

/// Room is counted in these: a semaphore counts to 32 bits.
const UNIT_BYTES: usize = 1024;

/// All room of one kind of requests. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

/// The room of one request, until it is dropped.
pub(crate) struct Place {
    room: Room,
    permit: OwnedSemaphorePermit,
}

/// Others have all of it.
#[derive(Debug)]
pub(crate) struct Full;

impl Room {
    /// For so many bytes together.
    pub(crate) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT_BYTES)))
    }

    /// Room for a request of which nothing has been read.
    pub(crate) fn enter(&self) -> Result<Place, Full> {
        let permit = self.take(REQUEST_BYTES_MIN / UNIT_BYTES)?;
        Ok(Place { room: self.clone(), permit })
    }

    /// Bytes that nobody has.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.0.available_permits() * UNIT_BYTES
    }

    fn take_at_most(self, units: usize) -> Place {
        let mut units = units;
        loop {
            match self.take(units) {
                Ok(permit) => return Place { room: self, permit },
                Err(Full) => units = units.saturating_sub(1).min(self.0.available_permits()), // Nothing can always be had.
            }
        }
    }

    fn take(&self, units: usize) -> Result<OwnedSemaphorePermit, Full> {
        Arc::clone(&self.0).try_acquire_many_owned(units as u32).map_err(|_| Full)
    }
}

impl Place {
    /// Has room for a payload of so many bytes in all.
    pub(crate) fn grow(&mut self, len: usize) -> Result<(), Full> {
        let units = (REQUEST_BYTES_MIN + len).div_ceil(UNIT_BYTES);
        let more = units.saturating_sub(self.permit.num_permits());
        self.permit.merge(self.room.take(more)?);
        Ok(())
    }
}

impl Place {
    /// The answer, which has room until it is written. A short one takes no more than any connection has.
    pub(crate) fn hold(self, answer: Bytes) -> Bytes {
        if answer.len() <= REQUEST_BYTES_MIN {
            return answer;
        }
        let _place = self.instead(answer.len());
        Bytes::from_owner(Held { answer, _place })
    }

    /// Room for so many bytes of an answer in place of the request; less, where there is no more.
    pub(crate) fn instead(self, len: usize) -> Place {
        let Place { room, permit } = self;
        drop(permit);
        let units = (REQUEST_BYTES_MIN + len).div_ceil(UNIT_BYTES);
        room.take_at_most(units)
    }
}

/// An answer and its room.
struct Held {
    answer: Bytes,
    _place: Place,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

impl From<Full> for AwsError {
    fn from(_: Full) -> Self {
        AwsError::throttled(Throttle::Requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// How many requests fit at once of which so much was read.
    fn fit(len: usize) -> usize {
        let room = Room::of(64 * MIB);
        let places = std::iter::from_fn(|| {
            let mut place = room.enter().ok()?;
            place.grow(len).ok().map(|()| place)
        });
        places.collect::<Vec<_>>().len()
    }

    #[test]
    fn large_requests_take_more_room_than_small_ones() {
        assert_eq!(fit(MIB), 63);
        assert_eq!(fit(64 * MIB), 0);
        assert_eq!(fit(0), 4096);
    }

    #[test]
    fn an_answer_has_room_until_it_is_written_and_keeps_others_out() {
        let room = Room::of(2 * MIB);
        let all = room.free();
        let short = room.enter().unwrap().hold(vec![b'x'; REQUEST_BYTES_MIN].into());
        assert_eq!((short.len(), room.free()), (REQUEST_BYTES_MIN, all));
        let (first, second) = (room.enter().unwrap(), room.enter().unwrap());
        let first = first.hold(vec![b'x'; MIB].into());
        assert_eq!(all - room.free(), MIB + 2 * REQUEST_BYTES_MIN);
        let rest = first.slice(MIB - 1..);
        drop(first);
        let second = second.hold(vec![b'y'; 6 * MIB].into());
        assert_eq!((second.len(), second[0]), (6 * MIB, b'y'), "it is there already");
        assert!(room.enter().is_err());
        drop(second);
        assert!(room.enter().is_ok());
        assert_eq!(&rest[..], b"x");
        drop(rest);
        assert_eq!(room.free(), all);
    }

    #[test]
    fn room_comes_back_whole() {
        let room = Room::of(2 * MIB);
        for _ in 0..3 {
            let mut place = room.enter().unwrap();
            place.grow(MIB).unwrap();
            place.grow(MIB + 1).unwrap();
            assert!(place.grow(2 * MIB).is_err());
        }
        assert_eq!(room.free(), 2 * MIB);
    }
}
