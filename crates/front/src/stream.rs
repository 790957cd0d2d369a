//! An answer that comes piece by piece, on its way from a sandbox to a client.
//!
//! The pieces go past dispatch, which hears only that the answer began and how it ended: a sandbox is busy until
//! then. A client that reads slowly holds its function back; one that has gone holds nobody back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use crate::catalogue::Revision;
use crate::dispatch::Ended;
use crate::outcome::{self, Outcome};
use crate::runtime_api::RESPONSE_BYTES_MAX;

/// Pieces that wait for a slow client.
const CHUNKS_MAX: usize = 2;

/// Each is what one read of a socket brought.
const CHUNK_BYTES_MAX: usize = 400 * 1024;

/// What an answer holds in memory at most: pieces that wait, the one that is taken, and as much that is being written.
pub(crate) const PIECES_BYTES_MAX: usize = (CHUNKS_MAX + 2) * CHUNK_BYTES_MAX;

/// Where a sandbox puts the pieces of its answer.
pub(crate) type ChunkSender = mpsc::Sender<Bytes>;

/// An answer that has begun.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// What the runtime calls it.
    pub(crate) content_type: String,
    /// Its pieces. Closed when no more come; whether that was the end, only dispatch knows.
    pub(crate) chunks: mpsc::Receiver<Bytes>,
}

/// A begun answer, and where its end will be told.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) revision: Arc<Revision>,
    pub(crate) content_type: String,
    pub(crate) chunks: mpsc::Receiver<Bytes>,
    /// After the last piece: an empty `Answer`, or what went wrong on the way.
    pub(crate) end: oneshot::Receiver<Outcome>,
}

/// What the client of an invocation hears first.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Everything at once.
    Whole(Ended),
    /// A part of it.
    Stream(Stream),
}

/// To whom the end of an invocation is told.
pub(crate) enum Listener {
    /// It has heard nothing yet.
    Fresh(oneshot::Sender<Reply>),
    /// It hears an answer piece by piece.
    Streaming(oneshot::Sender<Outcome>),
}

/// A way for the pieces of one answer.
pub(crate) fn channel() -> (ChunkSender, mpsc::Receiver<Bytes>) {
    mpsc::channel(CHUNKS_MAX)
}

impl Listener {
    /// Tells that the answer has begun. An answer begins once: a second beginning is not passed on.
    pub(crate) fn begin(self, beginning: Beginning, revision: &Arc<Revision>) -> Listener {
        let Listener::Fresh(reply) = self else { return self };
        let (ended, end) = oneshot::channel();
        let Beginning { content_type, chunks } = beginning;
        let revision = Arc::clone(revision);
        drop(reply.send(Reply::Stream(Stream { revision, content_type, chunks, end })));
        Listener::Streaming(ended)
    }

    /// Tells the end. Who has hung up needs no answer.
    pub(crate) fn end(self, ended: Ended) {
        match self {
            Listener::Fresh(reply) => drop(reply.send(Reply::Whole(ended))),
            Listener::Streaming(end) => drop(end.send(ended.outcome)),
        }
    }
}

impl Reply {
    /// The whole answer, for who can do nothing with pieces: as long as an answer may be that comes at once.
    pub(crate) async fn whole(self) -> Ended {
        match self {
            Reply::Whole(ended) => ended,
            Reply::Stream(stream) => {
                let revision = Arc::clone(&stream.revision);
                Ended { outcome: stream.collect().await, revision }
            }
        }
    }
}

impl Stream {
    async fn collect(mut self) -> Outcome {
        let (mut kept, mut len) = (BytesMut::new(), 0u64);
        while let Some(chunk) = self.chunks.recv().await {
            len += chunk.len() as u64;
            if len <= RESPONSE_BYTES_MAX as u64 {
                kept.extend_from_slice(&chunk);
            } else {
                kept = BytesMut::new(); // Nobody wants it any more.
            }
        }
        match self.ended().await {
            Outcome::Answer { .. } if len > RESPONSE_BYTES_MAX as u64 => {
                outcome::too_large(len, RESPONSE_BYTES_MAX)
            }
            Outcome::Answer { .. } => {
                Outcome::Answer { payload: kept.freeze(), content_type: self.content_type }
            }
            failed => failed,
        }
    }

    /// How it ended. Called after the last piece.
    pub(crate) async fn ended(&mut self) -> Outcome {
        let cut_off = || Outcome::ServiceError { message: "the server is shutting down".to_owned() };
        (&mut self.end).await.unwrap_or_else(|_| cut_off())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &'static str) -> Outcome {
        Outcome::Answer { payload: payload.into(), content_type: "text/plain".to_owned() }
    }

    /// What a client hears that takes it whole, when this is sent and the invocation ends so.
    async fn heard(pieces: Vec<Bytes>, end: Outcome) -> Outcome {
        let (reply, heard) = oneshot::channel();
        let (sender, chunks) = channel();
        let revision = Arc::new(crate::double::revision());
        let beginning = Beginning { content_type: "text/plain".to_owned(), chunks };
        let begun = Listener::Fresh(reply).begin(beginning, &revision);
        tokio::spawn(async move {
            for piece in pieces {
                sender.send(piece).await.unwrap();
            }
            drop(sender);
            begun.end(Ended { outcome: end, revision });
        });
        heard.await.unwrap().whole().await.outcome
    }

    #[tokio::test]
    async fn pieces_make_a_whole() {
        assert_eq!(heard(vec!["a".into(), "b".into()], answer("")).await, answer("ab"));
    }

    #[tokio::test]
    async fn an_error_on_the_way_is_the_outcome() {
        let failed = outcome::function_error("{}".into(), Some("Broken".to_owned()));
        assert_eq!(heard(vec!["a".into()], failed.clone()).await, failed);
    }

    #[tokio::test]
    async fn what_is_too_long_for_a_whole_is_refused() {
        let pieces = vec![vec![b' '; RESPONSE_BYTES_MAX].into(), "x".into()];
        let Outcome::FunctionError { payload, .. } = heard(pieces, answer("")).await else { panic!() };
        assert!(String::from_utf8_lossy(&payload).contains("Function.ResponseSizeTooLarge"));
    }
}
