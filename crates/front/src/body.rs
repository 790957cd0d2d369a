//! Reads a request's body: up to a bound, into room that is taken as it comes, and, of clients, within a time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::aws_error::AwsError;
use crate::outcome::Throttle;
use crate::room::Place;

/// How much of a body that is too large is read and thrown away: a client that is cut off in the middle of
/// sending sees a broken connection instead of our answer.
const DISCARD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long a client may send nothing in the middle of a body.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long a client may take for a body, whatever its length.
const READ_MIN: Duration = Duration::from_secs(20);

/// Beyond that, a client must have sent so much for every second that it takes.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

/// What is hashed or parsed on the spot: a fraction of a millisecond.
const WORK_BYTES_MAX: usize = 64 * 1024;

/// The body has more bytes than it may.
#[derive(Debug)]
pub(crate) struct TooLarge {
    /// How many were seen.
    pub(crate) len: u64,
}

/// Why a body could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    TooLarge(TooLarge),
    /// The client took too long.
    TooSlow,
    /// Others hold all the memory that there is for bodies.
    NoRoom,
    /// The connection broke.
    Broken,
}

impl ReadError {
    /// As a client of the API is told it.
    pub(crate) fn told(self, too_large: impl FnOnce() -> AwsError) -> AwsError {
        match self {
            ReadError::TooLarge(_) => too_large(),
            ReadError::TooSlow => AwsError::too_slow(),
            ReadError::NoRoom => AwsError::throttled(Throttle::Requests),
            ReadError::Broken => AwsError::invalid("the request broke off"),
        }
    }
}

/// Who sends.
#[derive(Clone, Copy)]
enum Sender {
    Client {
        since: Instant,
    },
    /// It may be put to sleep in the middle of a body; what it does for a function has the function's time.
    Sandbox,
}

impl Sender {
    /// Until when there must be more than these bytes.
    fn deadline(self, len: u64) -> Option<Instant> {
        let Sender::Client { since } = self else { return None };
        let whole = since + READ_MIN + Duration::from_secs(len / BYTES_PER_SECOND_MIN);
        Some(whole.min(Instant::now() + IDLE_MAX))
    }

    /// The next piece; `None`: that was all.
    async fn next(self, body: &mut Body, len: u64) -> Result<Option<Bytes>, ReadError> {
        loop {
            let frame = match self.deadline(len) {
                Some(deadline) => timeout_at(deadline, body.frame()).await.map_err(|_| ReadError::TooSlow)?,
                None => body.frame().await,
            };
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() {
                return Ok(Some(data)); // Not trailers.
            }
        }
    }
}

/// Pieces, put together. One alone is not copied.
#[derive(Default)]
struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = piece;
            return;
        }
        self.all.extend_from_slice(&std::mem::take(&mut self.first));
        self.all.extend_from_slice(&piece);
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// What takes time by the byte. A large body is worked on beside, for requests of others wait for this thread.
pub(crate) async fn work<T: Send + 'static>(body: &Bytes, work: fn(&[u8]) -> T) -> T {
    if body.len() <= WORK_BYTES_MAX {
        return work(body);
    }
    let bytes = body.clone();
    match tokio::task::spawn_blocking(move || work(&bytes)).await {
        Ok(done) => done,
        Err(_) => work(body), // The runtime is ending, and takes no such work any more.
    }
}

/// What is left of a body; nobody wants it.
pub(crate) async fn discard(mut body: Body) {
    let mut len = 0;
    while let Some(Ok(frame)) = body.frame().await {
        len += frame.data_ref().map_or(0, |data| data.len() as u64);
        if len > DISCARD_BYTES_MAX {
            break;
        }
    }
}

/// The whole body of a client's request, if it is not longer than `limit`. `place` is room for all of it then.
pub(crate) async fn read(body: Body, limit: usize, place: &mut Place) -> Result<Bytes, ReadError> {
    let sender = Sender::Client { since: Instant::now() };
    collect(sender, body, limit, place).await
}

/// The same of what a sandbox sends.
pub(crate) async fn of_sandbox(body: Body, limit: usize, place: &mut Place) -> Result<Bytes, ReadError> {
    collect(Sender::Sandbox, body, limit, place).await
}

async fn collect(
    sender: Sender,
    mut body: Body,
    limit: usize,
    place: &mut Place,
) -> Result<Bytes, ReadError> {
    let mut kept = Joined::default();
    let mut len = 0u64;
    while let Some(data) = sender.next(&mut body, len).await? {
        len += data.len() as u64;
        if len <= limit as u64 {
            place.grow(len as usize).map_err(|_| ReadError::NoRoom)?;
            kept.push(data);
        } else {
            kept = Joined::default(); // Nobody wants it any more.
            if len > DISCARD_BYTES_MAX {
                break;
            }
        }
    }
    if len > limit as u64 { Err(ReadError::TooLarge(TooLarge { len })) } else { Ok(kept.finish()) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;
    use crate::room::Room;

    const ROOM: usize = 8 << 20;

    /// A body of pieces of these sizes, with so much time before each.
    fn trickle(pause: Duration, sizes: impl IntoIterator<Item = usize, IntoIter: Send + 'static>) -> Body {
        let pieces = stream::unfold(sizes.into_iter(), move |mut sizes| async move {
            let size = sizes.next()?;
            tokio::time::sleep(pause).await;
            Some((Ok::<_, Infallible>(vec![b'x'; size]), sizes))
        });
        Body::from_stream(pieces)
    }

    async fn read_within(limit: usize, body: Body) -> Result<usize, ReadError> {
        let mut place = Room::of(ROOM).enter().unwrap();
        read(body, limit, &mut place).await.map(|bytes| bytes.len())
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_keeps_being_read() {
        let fast = trickle(Duration::from_secs(1), [64 * 1024; 100]);
        assert_eq!(read_within(ROOM, fast).await.unwrap(), 6_553_600);
        let short = trickle(Duration::from_secs(9), [1, 1]);
        assert_eq!(read_within(ROOM, short).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_sending_is_given_up() {
        let stalled = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert!(matches!(read_within(ROOM, stalled).await, Err(ReadError::TooSlow)));
        let trickling = trickle(Duration::from_secs(1), std::iter::repeat(1));
        assert!(matches!(read_within(ROOM, trickling).await, Err(ReadError::TooSlow)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_may_sleep_in_the_middle() {
        let body = trickle(Duration::from_secs(3600), [1, 2, 3]);
        let mut place = Room::of(ROOM).enter().unwrap();
        assert_eq!(of_sandbox(body, ROOM, &mut place).await.unwrap().len(), 6);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_not_kept() {
        let body = || trickle(Duration::ZERO, [1 << 20; 9]);
        assert!(matches!(read_within(16 << 20, body()).await, Err(ReadError::NoRoom)));
        assert!(matches!(
            read_within(4 << 20, body()).await,
            Err(ReadError::TooLarge(TooLarge { len: 9437184 }))
        ));
    }
}
