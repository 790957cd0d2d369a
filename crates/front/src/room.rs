//! Room for payloads: what requests hold in memory, while they are read and until they are answered, has one bound. It
//! is one of bytes and not of requests: a thousand small ones fit where a thousand of the largest would not.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::aws_error::AwsError;
use crate::invoke::REQUEST_BYTES_MAX;
use crate::outcome::Throttle;

/// For all requests together: 512 of the largest, or 200,000 small ones, more than a machine has sandboxes for.
const ROOM_BYTES: usize = 512 * REQUEST_BYTES_MAX;

/// What a request costs beside its payload: its task, its connection's buffers, its headers.
const REQUEST_BYTES_MIN: usize = 16 * 1024;

/// Room is counted in these: a semaphore counts to 32 bits.
const UNIT_BYTES: usize = 1024;

/// All room. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

/// The room of one request, until it is dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_BYTES / UNIT_BYTES)))
    }

    /// Room for a request with these headers. One that does not say how long it is may be of the largest.
    pub(crate) fn take(&self, headers: &HeaderMap) -> Result<Place, AwsError> {
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = REQUEST_BYTES_MIN + said.unwrap_or(REQUEST_BYTES_MAX).min(REQUEST_BYTES_MAX);
        let place = Arc::clone(&self.0).try_acquire_many_owned(bytes.div_ceil(UNIT_BYTES) as u32);
        place.map_err(|_| AwsError::throttled(Throttle::Requests))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests of this length fit at once.
    fn fit(content_length: Option<usize>) -> usize {
        let mut headers = HeaderMap::new();
        headers.extend(content_length.map(|len| (header::CONTENT_LENGTH, len.into())));
        let room = Room::new();
        std::iter::from_fn(|| room.take(&headers).ok()).collect::<Vec<_>>().len()
    }

    #[test]
    fn large_requests_take_more_room_than_small_ones() {
        assert_eq!(fit(Some(REQUEST_BYTES_MAX)), 510);
        assert_eq!(fit(Some(1 << 40)), 510, "more than the limit is not kept");
        assert_eq!(fit(None), 510);
        assert!(fit(Some(100)) > 100_000);
    }
}
