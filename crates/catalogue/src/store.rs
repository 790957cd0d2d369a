//! The records: one table in one file, changed in transactions. One writer at a time; readers see what was there when
//! they began.

use std::path::{Path, PathBuf};

use protocol::FunctionName;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde_json::value::RawValue;

use crate::Record;

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

/// Anything of redb's, as ours.
fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database(error.into())
}

/// All records of one server.
pub struct CatalogueStore {
    database: Database,
}

impl CatalogueStore {
    /// Opens the file, and makes it if it is not there. A file that is there and empty is damaged, not new: to take it
    /// for new would sweep every package.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            create(path)?;
        }
        let database = open(path)?;
        let store = Self { database };
        match store.number(FORMAT_KEY).map_err(|error| damaged(path, &error))? {
            FORMAT => Ok(store),
            found => Err(StoreError::Format { what: format!("{path:?}"), found }),
        }
    }

    /// What is there now; it does not change while the reader lives.
    pub fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader(self.database.begin_read().map_err(failed)?))
    }

    /// Changes records, all or none: an error leaves everything as it was. When this returns, what was changed is on
    /// disk. Blocks while others write, and for the disk.
    pub fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Writer) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let mut writer = Writer(transaction);
        let value = change(&mut writer)?; // Dropping a transaction undoes it.
        fail_point::reach("catalogue-changing");
        writer.0.commit().map_err(failed)?;
        fail_point::reach("catalogue-changed");
        Ok(value)
    }

    fn number(&self, key: &str) -> Result<u64, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(NUMBERS).map_err(failed)?;
        Ok(table.get(key).map_err(failed)?.map_or(0, |number| number.value()))
    }
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

/// Key and value as they were found.
type Found = ((String, String), Vec<u8>);

/// Looking records up, in a snapshot or within a change.
pub trait Look {
    /// The bytes of one record.
    #[doc(hidden)]
    fn bytes(&self, key: (&str, &str, &str)) -> Result<Option<Vec<u8>>, StoreError>;

    /// All records of a kind between two keys of (function, qualifier).
    #[doc(hidden)]
    fn between(&self, kind: &str, from: (&str, &str), to: (&str, &str)) -> Result<Vec<Found>, StoreError>;

    /// One record.
    fn get<R: Record>(&self, name: &FunctionName, qualifier: &str) -> Result<Option<R>, StoreError> {
        let key = (R::KIND, name.as_str(), qualifier);
        self.bytes(key)?.map(|bytes| decode(key, &bytes)).transpose()
    }

    /// All of one kind that a function has, by qualifier as text.
    fn of<R: Record>(&self, name: &FunctionName) -> Result<Vec<(String, R)>, StoreError> {
        let found = self.between(R::KIND, (name.as_str(), ""), (name.as_str(), AFTER_ALL))?;
        let decoded = found.into_iter().map(|((name, qualifier), bytes)| {
            let record = decode((R::KIND, &name, &qualifier), &bytes)?;
            Ok((qualifier, record))
        });
        decoded.collect()
    }

    /// All of one kind: function, qualifier, record; in this order.
    fn all<R: Record>(&self) -> Result<Vec<(FunctionName, String, R)>, StoreError> {
        let found = self.between(R::KIND, ("", ""), (AFTER_ALL, ""))?;
        let decoded = found.into_iter().map(|((name, qualifier), bytes)| {
            let key = (R::KIND, name.as_str(), qualifier.as_str());
            let damaged = |error: protocol::InvalidName| StoreError::Record {
                key: key_text(key),
                why: error.to_string(),
            };
            let record = decode(key, &bytes)?;
            Ok((name.parse().map_err(damaged)?, qualifier.clone(), record))
        });
        decoded.collect()
    }
}

/// The records at one moment.
pub struct Reader(ReadTransaction);

/// The records while they are changed.
pub struct Writer(WriteTransaction);

fn look_up(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static [u8]>,
    key: (&str, &str, &str),
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(table.get(key).map_err(failed)?.map(|value| value.value().to_vec()))
}

fn look_between(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static [u8]>,
    kind: &str,
    from: (&str, &str),
    to: (&str, &str),
) -> Result<Vec<Found>, StoreError> {
    let range = table.range((kind, from.0, from.1)..=(kind, to.0, to.1)).map_err(failed)?;
    let found = range.map(|entry| {
        let (key, value) = entry.map_err(failed)?;
        let (_, name, qualifier) = key.value();
        Ok(((name.to_owned(), qualifier.to_owned()), value.value().to_vec()))
    });
    found.collect()
}

impl Look for Reader {
    fn bytes(&self, key: (&str, &str, &str)) -> Result<Option<Vec<u8>>, StoreError> {
        look_up(&self.0.open_table(RECORDS).map_err(failed)?, key)
    }

    fn between(&self, kind: &str, from: (&str, &str), to: (&str, &str)) -> Result<Vec<Found>, StoreError> {
        look_between(&self.0.open_table(RECORDS).map_err(failed)?, kind, from, to)
    }
}

impl Look for Writer {
    fn bytes(&self, key: (&str, &str, &str)) -> Result<Option<Vec<u8>>, StoreError> {
        look_up(&self.0.open_table(RECORDS).map_err(failed)?, key)
    }

    fn between(&self, kind: &str, from: (&str, &str), to: (&str, &str)) -> Result<Vec<Found>, StoreError> {
        look_between(&self.0.open_table(RECORDS).map_err(failed)?, kind, from, to)
    }
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
        self.0.open_table(RECORDS).map_err(failed)?.insert(key, bytes.as_slice()).map_err(failed)?;
        Ok(())
    }

    /// Takes a record away; says whether it was there.
    pub fn remove<R: Record>(&mut self, name: &FunctionName, qualifier: &str) -> Result<bool, StoreError> {
        let mut table = self.0.open_table(RECORDS).map_err(failed)?;
        let removed = table.remove((R::KIND, name.as_str(), qualifier)).map_err(failed)?;
        Ok(removed.is_some())
    }

    /// Takes all of one kind away that a function has.
    pub fn remove_all<R: Record>(&mut self, name: &FunctionName) -> Result<(), StoreError> {
        for (qualifier, _) in self.of::<R>(name)? {
            self.remove::<R>(name, &qualifier)?;
        }
        Ok(())
    }
}
