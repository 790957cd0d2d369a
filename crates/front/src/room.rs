//! Room for payloads: what requests hold in memory, while they are read and until they are answered, has a bound. It
//! is one of bytes and not of requests: a thousand small ones fit where a thousand of the largest would not. What
//! counts is what has come, not what was announced: who announces megabytes and sends nothing keeps nobody out.

use std::sync::Arc;

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
    fn room_comes_back_whole() {
        let room = Room::of(2 * MIB);
        for _ in 0..3 {
            let mut place = room.enter().unwrap();
            place.grow(MIB).unwrap();
            place.grow(MIB + 1).unwrap();
            assert!(place.grow(2 * MIB).is_err());
        }
        assert_eq!(room.0.available_permits(), 2 * MIB / UNIT_BYTES);
    }
}
