//! The records: one table in one file, changed in transactions. One writer at a time; readers see what was there when
//! they began.

mod look;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use protocol::FunctionName;
use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};
use serde_json::value::RawValue;

use crate::Record;
pub use look::{All, Damaged, Look};

/// Kind, function, qualifier; a record in JSON.
const RECORDS: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("records");

/// Numbers of the whole file.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// In `NUMBERS`: the form of this file.
const FORMAT_KEY: &str = "format";

/// The form that this program reads and writes.
const FORMAT: u64 = 1;

/// Larger than every name and qualifier: no text of theirs holds the last character there is.
const AFTER_ALL: &str = "\u{10FFFF}";

/// The largest record. Policies are the longest, with 20 KiB in Lambda.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// The records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is none of ours, or damaged.
    #[error(
        "{path:?} is damaged ({why}): restore it from a backup, or move it away to begin without deployed functions"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// Another process has it open.
    #[error("{path:?} is in use by another dormouse: stop it, or name another --data")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a later program.
    #[error(
        "{what} has format {found}, and this dormouse reads {FORMAT}: use the one that wrote it, or a later one"
    )]
    Format {
        /// The file, or the record in it.
        what: String,
        /// Its number.
        found: u64,
    },
    /// A record is not what its kind is.
    #[error("the record {key} is damaged: {why}")]
    Record {
        /// Kind, function and qualifier.
        key: String,
        /// What was found.
        why: String,
    },
    /// A record is larger than any needs to be.
    #[error("the record {key} has {len} bytes, and may have {RECORD_BYTES_MAX}")]
    TooLarge {
        /// Kind, function and qualifier.
        key: String,
        /// Its size in bytes.
        len: usize,
    },
    /// The system refused.
    #[error("read or write {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database did.
    #[error(transparent)]
    Database(#[from] redb::Error),
}

impl StoreError {
    /// Whether one record is at fault, and all others can be read.
    pub fn is_of_record(&self) -> bool {
        matches!(self, StoreError::Record { .. } | StoreError::Format { .. })
    }
}

/// Anything of redb's, as ours.
fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database(error.into())
}

/// Opens the database; again after it failed.
type Opener = Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>;

/// All records of one server.
pub struct CatalogueStore {
    opener: Opener,
    /// None: it failed, and could not be opened again yet.
    open: RwLock<Option<Open>>,
}

/// An open database.
#[derive(Clone)]
struct Open {
    database: Arc<Database>,
    health: Health,
}

/// Whether a database is of use: redb does nothing more once an operation on the file has failed, on a full disk for
/// example.
#[derive(Clone, Default)]
struct Health {
    has_failed: Arc<AtomicBool>,
}

impl Health {
    /// The result, of which is remembered whether the file failed.
    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Database(_)) = result {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl CatalogueStore {
    /// Opens the file, and makes it if it is not there. A file that is there and empty is damaged, not new: to take it
    /// for new would sweep every package.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            create(path)?;
        }
        // It holds people's environments: also where others can enter its folder.
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(io)?;
        let path = path.to_owned();
        Self::open_by(Box::new(move || {
            let database = open(&path)?;
            match number(&database, FORMAT_KEY).map_err(|error| damaged(&path, &error))? {
                FORMAT => Ok(database),
                found => Err(StoreError::Format { what: format!("{path:?}"), found }),
            }
        }))
    }

    fn open_by(opener: Opener) -> Result<Self, StoreError> {
        let store = Self { opener, open: RwLock::default() };
        store.database()?;
        Ok(store)
    }

    /// What is there now; it does not change while the reader lives.
    pub fn read(&self) -> Result<Reader, StoreError> {
        let Open { database, health } = self.database()?;
        let transaction = health.note(database.begin_read().map_err(failed))?;
        Ok(Reader { transaction, health })
    }

    /// Changes records, all or none: an error leaves everything as it was; only where the disk failed at the very end
    /// the change may have come about. When this returns, what was changed is on disk. Blocks while others write,
    /// and for the disk.
    pub fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Writer) -> Result<T, E>,
    ) -> Result<T, E> {
        let Open { database, health } = self.database()?;
        let transaction = health.note(database.begin_write().map_err(failed))?;
        let mut writer = Writer { transaction, health: health.clone() };
        let value = change(&mut writer)?; // Dropping a transaction undoes it.
        fail_point::reach("catalogue-changing");
        health.note(writer.transaction.commit().map_err(failed))?;
        fail_point::reach("catalogue-changed");
        Ok(value)
    }

    /// The database; one that has failed is opened again. Where others are still at work on that one, they have to
    /// fail first: two at once may not have the file.
    fn database(&self) -> Result<Open, StoreError> {
        let is_well = |open: &&Open| !open.health.has_failed.load(Ordering::Relaxed);
        if let Some(open) = self.open.read().unwrap_or_else(PoisonError::into_inner).as_ref().filter(is_well)
        {
            return Ok(open.clone());
        }
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = slot.as_ref().filter(is_well) {
            return Ok(open.clone()); // Somebody was quicker.
        }
        drop(slot.take());
        let open = Open { database: Arc::new((self.opener)()?), health: Health::default() };
        Ok(slot.insert(open).clone())
    }
}

fn number(database: &Database, key: &str) -> Result<u64, StoreError> {
    let transaction = database.begin_read().map_err(failed)?;
    let table = transaction.open_table(NUMBERS).map_err(failed)?;
    Ok(table.get(key).map_err(failed)?.map_or(0, |number| number.value()))
}

/// Made aside and renamed, so that no crash leaves half a file.
fn create(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let aside = path.with_extension("new");
    let _ = std::fs::remove_file(&aside); // Of a server that died here.
    let database = Database::create(&aside).map_err(failed)?;
    let transaction = database.begin_write().map_err(failed)?;
    transaction.open_table(NUMBERS).map_err(failed)?.insert(FORMAT_KEY, FORMAT).map_err(failed)?;
    transaction.open_table(RECORDS).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    drop(database);
    fail_point::reach("catalogue-made");
    std::fs::rename(&aside, path).map_err(io)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// The database tells a file that is cut off from a file of another kind now by an error, now (in debug builds) by a
/// panic; to whoever starts a server they are one.
fn open(path: &Path) -> Result<Database, StoreError> {
    let opened = std::panic::catch_unwind(|| Database::open(path));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => Err(StoreError::InUse { path: path.to_owned() }),
        Ok(Err(redb::DatabaseError::Storage(redb::StorageError::Io(source)))) if !is_damage(&source) => {
            Err(StoreError::Io { path: path.to_owned(), source })
        }
        Ok(Err(error)) => Err(damaged(path, &error)),
        Err(_) => Err(damaged(path, &"its structure is broken")),
    }
}

/// Of errors of input and output, those that speak of content.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why: why.to_string() }
}

/// A record as it lies on disk.
#[derive(serde::Serialize)]
struct Envelope<'a, R> {
    format: u32,
    record: &'a R,
}

/// The same, with the record not looked into: what it means hangs on the format.
#[derive(serde::Deserialize)]
struct Opened<'a> {
    format: u32,
    #[serde(borrow)]
    record: &'a RawValue,
}

fn key_text((kind, name, qualifier): (&str, &str, &str)) -> String {
    format!("{kind}/{name}/{qualifier}")
}

fn decode<R: Record>(key: (&str, &str, &str), bytes: &[u8]) -> Result<R, StoreError> {
    let damaged =
        |error: serde_json::Error| StoreError::Record { key: key_text(key), why: error.to_string() };
    let opened: Opened<'_> = serde_json::from_slice(bytes).map_err(damaged)?;
    if opened.format != R::FORMAT {
        let what = format!("the record {}", key_text(key));
        return Err(StoreError::Format { what, found: opened.format.into() });
    }
    serde_json::from_str(opened.record.get()).map_err(damaged)
}

/// The records at one moment.
pub struct Reader {
    transaction: ReadTransaction,
    health: Health,
}

/// The records while they are changed.
pub struct Writer {
    transaction: WriteTransaction,
    health: Health,
}

impl Writer {
    /// Writes a record; one of the same key is replaced.
    pub fn put<R: Record>(
        &mut self,
        name: &FunctionName,
        qualifier: &str,
        record: &R,
    ) -> Result<(), StoreError> {
        let key = (R::KIND, name.as_str(), qualifier);
        let damaged =
            |error: serde_json::Error| StoreError::Record { key: key_text(key), why: error.to_string() };
        let bytes = serde_json::to_vec(&Envelope { format: R::FORMAT, record }).map_err(damaged)?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(StoreError::TooLarge { key: key_text(key), len: bytes.len() });
        }
        let table = self.transaction.open_table(RECORDS).map_err(failed);
        let put = table.and_then(|mut table| table.insert(key, bytes.as_slice()).map(drop).map_err(failed));
        self.health.note(put)
    }

    /// Takes a record away; says whether it was there.
    pub fn remove<R: Record>(&mut self, name: &FunctionName, qualifier: &str) -> Result<bool, StoreError> {
        let key = (R::KIND, name.as_str(), qualifier);
        let table = self.transaction.open_table(RECORDS).map_err(failed);
        let removed = table.and_then(|mut table| Ok(table.remove(key).map_err(failed)?.is_some()));
        self.health.note(removed)
    }

    /// Takes all of one kind away that a function has, readable or not.
    pub fn remove_all<R: Record>(&mut self, name: &FunctionName) -> Result<(), StoreError> {
        for qualifier in self.qualifiers::<R>(name)? {
            self.remove::<R>(name, &qualifier)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
