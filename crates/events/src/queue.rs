//! The way in: a handle that many may hold, and one thread that writes.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::Timestamp;
use crate::bounds::{Bounds, Full, Usage};
use crate::event::{Event, EventId, Lane, NewEvent};
use crate::index::{Index, Next};
use crate::policy::WAIT_MAX;
use crate::store::{self, OpenError, Opener, Store, StoreError};
use crate::writer::{Work, Writer};

/// Commands that may wait for the writing thread; who has one more waits.
const COMMANDS_MAX: usize = 256;

/// The queue. Cloning gives another handle to the same; it is open until `close`.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Work>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) bounds: Bounds,
    index: Mutex<Index>,
}

impl Shared {
    /// Never held over a commit.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be tried, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This, now. End it by `finish`, `fail` or `refuse`; until then nobody else gets it.
    Event(Event),
    /// Nothing before this time, unless something is accepted or ends.
    NothingBefore(Timestamp),
    /// Nothing until something is accepted or ends.
    Nothing,
}

/// What is queued for one function, or one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneFacts {
    /// For which.
    pub lane: Lane,
    /// Events that wait for their time.
    pub waiting: u64,
    /// Events that are being tried.
    pub running: u64,
    /// What all of them take.
    pub bytes: u64,
    /// When the oldest was accepted.
    pub oldest: Option<Timestamp>,
}

/// An event was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// Its payload is too large.
    #[error("a payload of {len} bytes is more than {limit}")]
    TooLarge {
        /// Its size in bytes.
        len: usize,
        /// How large it may be, in bytes.
        limit: usize,
    },
    /// It could not be written.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// The file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue was closed.
    #[error("the event queue is closed")]
    Closed,
    /// It is not there, or nobody has taken it.
    #[error("event {id} is not being tried")]
    NotTaken {
        /// Which one.
        id: EventId,
    },
}

impl Queue {
    /// Opens the file at this path, or makes it. Whatever was running when it was left is due at once.
    pub fn open(path: &Path, bounds: Bounds, now: Timestamp) -> Result<Queue, OpenError> {
        Self::open_by(path, store::file(path), bounds, now)
    }

    pub(crate) fn open_by(
        path: &Path,
        opener: Opener,
        bounds: Bounds,
        now: Timestamp,
    ) -> Result<Queue, OpenError> {
        let (store, events) = Store::open(path, opener)?;
        let mut index = Index::default();
        let mut last = EventId(0);
        for (id, meta) in events {
            let due = meta.due.min(now.after(WAIT_MAX));
            index.insert(id, meta.target.lane(), meta.accepted, due, Usage::of_payload(meta.payload_len));
            index.written(id);
            last = last.max(id);
        }
        let shared = Arc::new(Shared { store, bounds, index: Mutex::new(index) });
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let writer = Writer::new(Arc::clone(&shared), last);
        let thread = std::thread::Builder::new().name("events".to_owned());
        let spawned = thread.spawn(move || writer.run(inbox));
        let writer = spawned.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Queue { shared, commands, writer: Arc::new(Mutex::new(Some(writer))) })
    }

    /// Queues an event of a client. It is on the disk when this returns; many that come together share a write.
    pub async fn accept(&self, event: NewEvent, now: Timestamp) -> Result<EventId, AcceptError> {
        self.ask(|reply| Work::Accept { event, now, reply }).await?
    }

    /// Takes the next event that is due, each lane in its turn. `may_run` says how many of a lane may be tried at
    /// once; the queue is locked meanwhile, so it must not wait for anything. Reads the file: not for a task that must
    /// not block.
    pub fn take(&self, now: Timestamp, may_run: &dyn Fn(&Lane) -> usize) -> Result<Taken, QueueError> {
        loop {
            let id = match self.shared.index().take(now, may_run) {
                Next::Now(id) => id,
                Next::At(time) => return Ok(Taken::NothingBefore(time)),
                Next::Nothing => return Ok(Taken::Nothing),
            };
            match self.shared.store.read(id) {
                Ok(Some(event)) => return Ok(Taken::Event(event)),
                Ok(None) => self.shared.index().remove(id),
                Err(error) => {
                    self.refuse(id, now, Timestamp(u64::MAX));
                    return Err(error.into());
                }
            }
        }
    }

    /// The event is done with, or given up: it goes, and these come in the same transaction. Tells of each of them
    /// whether there was room; one for which there was none is not queued. After an error the event is as it was,
    /// taken: `refuse` it.
    pub async fn finish(
        &self,
        id: EventId,
        follow_ups: Vec<NewEvent>,
        now: Timestamp,
    ) -> Result<Vec<Result<EventId, AcceptError>>, QueueError> {
        self.ask(|reply| Work::Finish { id, follow_ups, now, reply }).await?
    }

    /// The function failed on it: it counts one failure more, and is due again then. After an error the event is as
    /// it was, taken: `refuse` it.
    pub async fn fail(&self, id: EventId, due: Timestamp) -> Result<(), QueueError> {
        self.ask(|reply| Work::Fail { id, due, reply }).await?
    }

    /// It could not be tried: no sandbox was free, or the file could not be written. It keeps its place, and its
    /// lane pauses: a second at first, then twice as long each time, up to five minutes; but not beyond `latest`, and
    /// not when an attempt of its lane ends. Nothing is written.
    pub fn refuse(&self, id: EventId, now: Timestamp, latest: Timestamp) {
        self.shared.index().refuse(id, now, latest);
    }

    /// What is queued, by lane; lanes without events are not in it.
    pub fn facts(&self) -> Vec<LaneFacts> {
        self.shared.index().facts()
    }

    /// Writes what was asked for, and closes the file. What is queued stays in it. Blocks until that is done; from
    /// then on every call fails.
    pub fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        let (reply, done) = oneshot::channel();
        if self.commands.blocking_send(Work::Stop { reply }).is_ok() {
            drop(done.blocking_recv());
        }
        drop(writer.join());
        self.shared.store.close();
    }

    async fn ask<T>(&self, work: impl FnOnce(oneshot::Sender<T>) -> Work) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(work(reply)).await.map_err(|_| QueueError::Closed)?;
        answer.await.map_err(|_| QueueError::Closed)
    }
}
