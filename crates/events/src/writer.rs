//! The one thread that writes. All that has been asked for while it wrote goes into its next transaction, so many
//! events share the time that a disk takes.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::Timestamp;
use crate::bounds::{Origin, PAYLOAD_MAX, RECORD_MAX, Usage};
use crate::event::{EventId, NewEvent};
use crate::index::Index;
use crate::queue::{AcceptError, QueueError, Shared};
use crate::store::{Meta, Write};

/// What one transaction takes at most: of commands, and of payload bytes with the last command's on top.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// What is to be written, and who waits for it.
pub(crate) enum Work {
    Accept { event: NewEvent, now: Timestamp, reply: oneshot::Sender<Result<EventId, AcceptError>> },
    Finish { id: EventId, follow_ups: Vec<NewEvent>, now: Timestamp, reply: oneshot::Sender<Finished> },
    Fail { id: EventId, due: Timestamp, reply: oneshot::Sender<Result<(), QueueError>> },
    Stop { reply: oneshot::Sender<()> },
}

pub(crate) type Finished = Result<Vec<Result<EventId, AcceptError>>, QueueError>;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    last: EventId,
}

/// One transaction in the making.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    /// What the index learns, and who is told, when it is on the disk.
    ends: Vec<End>,
    bytes: u64,
    stop: Option<oneshot::Sender<()>>,
}

enum End {
    Accepted { id: EventId, reply: oneshot::Sender<Result<EventId, AcceptError>> },
    Finished { id: EventId, follow_ups: Vec<Result<EventId, AcceptError>>, reply: oneshot::Sender<Finished> },
    Failed { id: EventId, due: Timestamp, reply: oneshot::Sender<Result<(), QueueError>> },
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, last: EventId) -> Self {
        Self { shared, last }
    }

    /// Until it is told to stop, or nobody is left to tell it anything.
    pub(crate) fn run(mut self, mut inbox: mpsc::Receiver<Work>) {
        while let Some(first) = inbox.blocking_recv() {
            let mut batch = Batch::default();
            self.add(&mut batch, first);
            while batch.has_room()
                && let Ok(work) = inbox.try_recv()
            {
                self.add(&mut batch, work);
            }
            let stop = batch.stop.take();
            self.commit(batch);
            if let Some(reply) = stop {
                let _ = reply.send(()); // It may have stopped waiting.
                return;
            }
        }
    }

    fn add(&mut self, batch: &mut Batch, work: Work) {
        match work {
            Work::Accept { event, now, reply } => match self.admit(batch, event, Origin::Client, None, now) {
                Ok(id) => batch.ends.push(End::Accepted { id, reply }),
                Err(error) => drop(reply.send(Err(error))),
            },
            Work::Finish { id, follow_ups, now, reply } => {
                if !self.shared.index().is_running(id) {
                    return drop(reply.send(Err(QueueError::NotTaken { id })));
                }
                let admit = |event| self.admit(batch, event, Origin::Event, Some(id), now);
                let follow_ups = follow_ups.into_iter().map(admit).collect();
                batch.writes.push(Write::Remove { id });
                batch.ends.push(End::Finished { id, follow_ups, reply });
            }
            Work::Fail { id, due, reply } => {
                if !self.shared.index().is_running(id) {
                    return drop(reply.send(Err(QueueError::NotTaken { id })));
                }
                batch.writes.push(Write::Failed { id, due });
                batch.ends.push(End::Failed { id, due, reply });
            }
            Work::Stop { reply } => batch.stop = Some(reply),
        }
    }

    /// Takes a place in the index, and in the transaction.
    fn admit(
        &mut self,
        batch: &mut Batch,
        event: NewEvent,
        origin: Origin,
        freed: Option<EventId>,
        now: Timestamp,
    ) -> Result<EventId, AcceptError> {
        let limit = match origin {
            Origin::Client => PAYLOAD_MAX,
            Origin::Event => RECORD_MAX,
        };
        let len = event.payload.len();
        if len > limit {
            return Err(AcceptError::TooLarge { len, limit });
        }
        let (lane, usage) = (event.target.lane(), Usage::of_payload(len));
        let mut index = self.shared.index();
        index.check(&self.shared.bounds, origin, &lane, usage, freed)?;
        self.last.0 += 1; // Also if the transaction fails: who knows what of it is in the file.
        index.insert(self.last, lane, now, now, usage);
        drop(index);
        batch.bytes += usage.bytes;
        let meta = Meta::of(&event, now);
        batch.writes.push(Write::Insert { id: self.last, meta, payload: event.payload });
        Ok(self.last)
    }

    fn commit(&self, batch: Batch) {
        let committed =
            if batch.writes.is_empty() { Ok(()) } else { self.shared.store.commit(&batch.writes) };
        if let Err(error) = &committed {
            tracing::error!(%error, events = batch.ends.len(), "events could not be written");
        }
        for end in batch.ends {
            end.tell(&self.shared, committed.clone().map_err(QueueError::from));
        }
    }
}

impl Batch {
    fn has_room(&self) -> bool {
        self.ends.len() < BATCH_MAX && self.bytes < BATCH_BYTES_MAX && self.stop.is_none()
    }
}

impl End {
    /// Whoever asked may have gone: what was written is written.
    fn tell(self, shared: &Shared, committed: Result<(), QueueError>) {
        let mut index = shared.index();
        let settle = |index: &mut Index, id| match committed {
            Ok(()) => index.written(id),
            Err(_) => index.remove(id),
        };
        match self {
            End::Accepted { id, reply } => {
                settle(&mut index, id);
                drop(index);
                drop(reply.send(committed.map(|()| id).map_err(AcceptError::from)));
            }
            End::Finished { id, follow_ups, reply } => {
                for id in follow_ups.iter().filter_map(|result| result.as_ref().ok()) {
                    settle(&mut index, *id);
                }
                if committed.is_ok() {
                    index.remove(id);
                }
                drop(index);
                drop(reply.send(committed.map(|()| follow_ups)));
            }
            End::Failed { id, due, reply } => {
                if committed.is_ok() {
                    index.retry(id, due);
                }
                drop(index);
                drop(reply.send(committed));
            }
        }
    }
}
