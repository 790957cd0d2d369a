//! Looking records up, in a snapshot or within a change.

use protocol::FunctionName;
use redb::ReadableTable;

use super::{AFTER_ALL, RECORDS, Reader, StoreError, Writer, decode, failed, key_text};
use crate::Record;

/// Key and value as they were found.
type Found = ((String, String), Vec<u8>);

/// All records of one kind.
pub struct All<R> {
    /// Function, qualifier, record; in this order.
    pub records: Vec<(FunctionName, String, R)>,
    /// Those that cannot be read; the others can.
    pub damaged: Vec<Damaged>,
}

/// A record that cannot be read: it is damaged, or a later program wrote it.
#[derive(Debug)]
pub struct Damaged {
    /// The function's name, as it was found.
    pub function: String,
    /// Of the record.
    pub qualifier: String,
    /// What is wrong.
    pub error: StoreError,
}

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

    /// The qualifiers of all of one kind that a function has, readable or not.
    fn qualifiers<R: Record>(&self, name: &FunctionName) -> Result<Vec<String>, StoreError> {
        let found = self.between(R::KIND, (name.as_str(), ""), (name.as_str(), AFTER_ALL))?;
        Ok(found.into_iter().map(|((_, qualifier), _)| qualifier).collect())
    }

    /// Whether there is such a record, readable or not.
    fn has<R: Record>(&self, name: &FunctionName, qualifier: &str) -> Result<bool, StoreError> {
        Ok(self.bytes((R::KIND, name.as_str(), qualifier))?.is_some())
    }

    /// All of one kind.
    fn all<R: Record>(&self) -> Result<All<R>, StoreError> {
        let mut all = All { records: Vec::new(), damaged: Vec::new() };
        for ((function, qualifier), bytes) in self.between(R::KIND, ("", ""), (AFTER_ALL, ""))? {
            let key = (R::KIND, function.as_str(), qualifier.as_str());
            let name = function.parse::<FunctionName>();
            let name =
                name.map_err(|error| StoreError::Record { key: key_text(key), why: error.to_string() });
            match name.and_then(|name| Ok((name, decode(key, &bytes)?))) {
                Ok((name, record)) => all.records.push((name, qualifier, record)),
                Err(error) => all.damaged.push(Damaged { function, qualifier, error }),
            }
        }
        Ok(all)
    }
}

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

macro_rules! look {
    ($($looker:ty),+) => {
        $(impl Look for $looker {
            fn bytes(&self, key: (&str, &str, &str)) -> Result<Option<Vec<u8>>, StoreError> {
                let table = self.transaction.open_table(RECORDS).map_err(failed);
                self.health.note(table.and_then(|table| look_up(&table, key)))
            }

            fn between(&self, kind: &str, from: (&str, &str), to: (&str, &str)) -> Result<Vec<Found>, StoreError> {
                let table = self.transaction.open_table(RECORDS).map_err(failed);
                self.health.note(table.and_then(|table| look_between(&table, kind, from, to)))
            }
        })+
    };
}

look!(Reader, Writer);
