//! The file: every event that was accepted and is not done with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use protocol::InvocationId;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::event::{EventId, NewEvent, Target};
use crate::{Event, Timestamp};

/// Facts of the whole file.
const FACTS: TableDefinition<&str, u64> = TableDefinition::new("facts");

/// What is known of each event, as JSON of `Meta`.
const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");

/// Their payloads, apart: a retry writes little.
const PAYLOADS: TableDefinition<u64, &[u8]> = TableDefinition::new("payloads");

/// Counts changes that an older program would not understand.
const FORMAT: u64 = 1;

/// Memory for pages of the file. Events come and go; what is read is small.
const CACHE_BYTES: usize = 8 << 20;

/// All of an event but its payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) target: Target,
    pub(crate) invocation: InvocationId,
    pub(crate) trace_id: String,
    pub(crate) hops: u8,
    pub(crate) accepted: Timestamp,
    pub(crate) due: Timestamp,
    pub(crate) failures: u32,
    pub(crate) payload_len: usize,
}

impl Meta {
    pub(crate) fn of(event: &NewEvent, now: Timestamp) -> Meta {
        Meta {
            target: event.target.clone(),
            invocation: event.invocation.clone(),
            trace_id: event.trace_id.clone(),
            hops: event.hops,
            accepted: now,
            due: now,
            failures: 0,
            payload_len: event.payload.len(),
        }
    }
}

/// One change of the file.
#[derive(Debug)]
pub(crate) enum Write {
    Insert { id: EventId, meta: Meta, payload: Bytes },
    Failed { id: EventId, due: Timestamp },
    Remove { id: EventId },
}

/// The queue's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read or made.
    #[error("open the event queue {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the event queue {path:?} is in use: another server has this data directory")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not as it was written.
    #[error(
        "the event queue {path:?} is damaged ({why}): put a copy back, or move it away to start without the events in it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A newer program wrote it.
    #[error(
        "the event queue {path:?} has format {found}, and this program reads {FORMAT}: use a newer dormouse"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
}

/// The file could not be read or written. What was to be changed is as it was; only where the disk failed at the
/// very end the change may show up after the next start, which repeats an event rather than losing it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the event queue: {0}")]
pub struct StoreError(String);

impl StoreError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Opens the database; a second time after it failed.
pub(crate) type Opener = Arc<dyn Fn() -> Result<Database, OpenError> + Send + Sync>;

pub(crate) struct Store {
    opener: Opener,
    /// None: it failed, and could not be opened again; or it is closed.
    database: RwLock<Option<Database>>,
}

/// What opens the file at this path. A missing one is made; an empty one was not made here, and is refused.
pub(crate) fn file(path: &Path) -> Opener {
    let path = path.to_owned();
    Arc::new(move || {
        let exists = path.try_exists().map_err(|source| OpenError::Io { path: path.clone(), source })?;
        if !exists {
            create(&path)?;
        }
        // It holds payloads: also where others can enter its folder.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        // redb trusts what it reads unless it is told to check, and a check costs one pass over the file.
        let opened = std::panic::catch_unwind(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(&path)
        });
        match opened {
            Ok(database) => database.map_err(|error| refused(&path, error)),
            Err(_) => Err(OpenError::Damaged { path: path.clone(), why: "it cannot be read".to_owned() }),
        }
    })
}

/// Made under another name: a file with the right one is whole.
fn create(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { path: path.to_owned(), source };
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let database = Database::create(&new).map_err(|error| refused(path, error))?;
    prepare(&database).map_err(|error| failed(io::Error::other(error)))?;
    drop(database);
    std::fs::rename(&new, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// The tables of an empty file.
pub(crate) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(FACTS)?.insert("format", FORMAT)?;
    write.open_table(EVENTS)?;
    write.open_table(PAYLOADS)?;
    write.commit()?;
    Ok(())
}

fn refused(path: &Path, error: redb::DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != io::ErrorKind::InvalidData
                && source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            OpenError::Io { path, source }
        }
        other => OpenError::Damaged { path, why: other.to_string() },
    }
}

impl Store {
    /// Opens the file; returns everything that is in it, the oldest first.
    pub(crate) fn open(path: &Path, opener: Opener) -> Result<(Store, Vec<(EventId, Meta)>), OpenError> {
        let database = opener()?;
        let damaged = |why: String| OpenError::Damaged { path: path.to_owned(), why };
        let found = format(&database).map_err(|error| damaged(error.to_string()))?;
        match found {
            Some(FORMAT) => {}
            Some(found) => return Err(OpenError::Format { path: path.to_owned(), found }),
            None => return Err(damaged("it does not say its format".to_owned())),
        }
        let events = events(&database).map_err(damaged)?;
        Ok((Store { opener, database: RwLock::new(Some(database)) }, events))
    }

    /// All of these or none; they are on the disk when this returns. After an error the next call finds the file
    /// opened again, if it can be opened.
    pub(crate) fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let committed = self.with(|database| commit(database, writes));
        if committed.is_err() {
            self.reopen();
        }
        committed
    }

    /// An event as it is now. None: it went in a transaction that seemed to fail.
    pub(crate) fn read(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        self.with(|database| {
            let read = database.begin_read()?;
            let (events, payloads) = (read.open_table(EVENTS)?, read.open_table(PAYLOADS)?);
            let (Some(meta), Some(payload)) = (events.get(id.0)?, payloads.get(id.0)?) else {
                return Ok(None);
            };
            let meta = parse(meta.value()).map_err(redb::StorageError::Corrupted)?;
            Ok(Some(meta.event(id, Bytes::copy_from_slice(payload.value()))))
        })
    }

    pub(crate) fn close(&self) {
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| StoreError::of("it could not be opened again"))?;
        act(database).map_err(StoreError::of)
    }

    /// redb does nothing more once an operation on the file has failed: a full disk, for example.
    fn reopen(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take()); // Two at once may not have it.
        match (self.opener)() {
            Ok(opened) => *database = Some(opened),
            Err(error) => tracing::error!(%error, "the event queue stays closed"),
        }
    }
}

impl Meta {
    fn event(self, id: EventId, payload: Bytes) -> Event {
        Event {
            id,
            target: self.target,
            invocation: self.invocation,
            payload,
            trace_id: self.trace_id,
            hops: self.hops,
            accepted: self.accepted,
            failures: self.failures,
        }
    }
}

fn format(database: &Database) -> Result<Option<u64>, redb::Error> {
    let facts = database.begin_read()?.open_table(FACTS)?;
    Ok(facts.get("format")?.map(|format| format.value()))
}

fn parse(text: &[u8]) -> Result<Meta, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

fn events(database: &Database) -> Result<Vec<(EventId, Meta)>, String> {
    let read = || -> Result<_, redb::Error> {
        let read = database.begin_read()?;
        Ok((read.open_table(EVENTS)?, read.open_table(PAYLOADS)?))
    };
    let (metas, payloads) = read().map_err(|error| error.to_string())?;
    let mut events = Vec::new();
    for entry in metas.iter().map_err(|error| error.to_string())? {
        let (id, text) = entry.map_err(|error| error.to_string())?;
        let meta = parse(text.value()).map_err(|why| format!("event {}: {why}", id.value()))?;
        let payload = payloads.get(id.value()).map_err(|error| error.to_string())?;
        if payload.is_none_or(|payload| payload.value().len() != meta.payload_len) {
            return Err(format!("event {} has lost its payload", id.value()));
        }
        events.push((EventId(id.value()), meta));
    }
    Ok(events)
}

fn commit(database: &Database, writes: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut events = transaction.open_table(EVENTS)?;
        let mut payloads = transaction.open_table(PAYLOADS)?;
        for write in writes {
            match write {
                Write::Insert { id, meta, payload } => {
                    events.insert(id.0, text(meta)?.as_slice())?;
                    payloads.insert(id.0, payload.as_ref())?;
                }
                Write::Failed { id, due } => {
                    let stored = events.get(id.0)?.map(|text| parse(text.value()));
                    let Some(stored) = stored else { continue };
                    let stored = stored.map_err(redb::StorageError::Corrupted)?;
                    let meta = Meta { due: *due, failures: stored.failures.saturating_add(1), ..stored };
                    events.insert(id.0, text(&meta)?.as_slice())?;
                }
                Write::Remove { id } => {
                    events.remove(id.0)?;
                    payloads.remove(id.0)?;
                }
            }
        }
    }
    fail_point::reach("events-written");
    transaction.commit()?; // Durable: redb syncs the file unless told otherwise.
    fail_point::reach("events-committed");
    Ok(())
}

fn text(meta: &Meta) -> Result<Vec<u8>, redb::StorageError> {
    serde_json::to_vec(meta).map_err(|error| redb::StorageError::Corrupted(error.to_string()))
}
