//! Reads a request's body up to a bound.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

/// How much of a body that is too large is read and thrown away: a client that is cut off in the middle of
/// sending sees a broken connection instead of our answer.
const DISCARD_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
    /// The connection broke.
    Broken,
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

/// The whole body, if it is not longer than `limit`.
pub(crate) async fn read(mut body: Body, limit: usize) -> Result<Bytes, ReadError> {
    let mut kept = BytesMut::new();
    let mut len = 0u64;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        len += data.len() as u64;
        if len <= limit as u64 {
            kept.extend_from_slice(&data);
        } else {
            kept = BytesMut::new(); // Nobody wants it any more.
            if len > DISCARD_BYTES_MAX {
                break;
            }
        }
    }
    if len > limit as u64 { Err(ReadError::TooLarge(TooLarge { len })) } else { Ok(kept.freeze()) }
}
