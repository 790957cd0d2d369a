//! Who may call: access keys in `keys.toml` in the data directory, for its owner's eyes only. A server that runs
//! notices changes at its next request.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Enough for every tool of every person; the file is read whole.
const KEYS_MAX: usize = 1000;

/// For so long nobody looks at the file again.
pub(crate) const FRESH: Duration = Duration::from_millis(100);

const ID_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Credentials of one client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its name, 20 letters and digits that begin with `AKIA`: clients call it the access key id.
    pub id: String,
    /// What it signs with; never shown again after it was made.
    pub secret: String,
    /// What it is for, in its owner's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

impl std::fmt::Debug for Key {
    /// Without the secret: logs are read by many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("note", &self.note).finish_non_exhaustive()
    }
}

/// The keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The system refused.
    #[error("{doing} {path:?}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what `dormouse key` writes.
    #[error("read {path:?}: {message}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where in it, and what.
        message: String,
    },
    /// Others could read the secrets, or write their own.
    #[error(
        "{path:?} can be read or written by others: make it yours alone with `chmod 600`, and replace its keys"
    )]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// There is no such key.
    #[error("there is no key {id:?}: `dormouse key list` shows those there are")]
    Unknown {
        /// What was asked for.
        id: String,
    },
    /// The file is full.
    #[error("there are {KEYS_MAX} keys already: remove some with `dormouse key rm`")]
    TooMany,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysToml {
    #[serde(default, rename = "key")]
    keys: Vec<Key>,
}

/// The keys of one data directory. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Keys {
    path: PathBuf,
    read: Arc<Mutex<Option<Known>>>,
}

/// What was read last.
#[derive(Debug)]
struct Known {
    /// The file's state then; `None`: there was none.
    stamp: Option<Stamp>,
    keys: Arc<Vec<Key>>,
    /// When the file was looked at.
    looked: Instant,
}

/// Changes whenever the file does: each change makes a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    mtime: (i64, i64),
    mode: u32,
}

impl Keys {
    /// Those in this data directory. Nothing is read yet.
    pub fn in_dir(data_dir: &Path) -> Self {
        Keys { path: data_dir.join("keys.toml"), read: Arc::default() }
    }

    /// All keys as they were a tenth of a second ago at most; none where there is no file. Every request asks, and
    /// to look at a file costs more than what most do with the answer.
    pub fn all(&self) -> Result<Arc<Vec<Key>>, KeysError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match read.take() {
            Some(known) if known.looked.elapsed() >= FRESH => self.look(Some(known))?,
            Some(known) => known,
            None => self.look(None)?,
        };
        let keys = Arc::clone(&known.keys);
        *read = Some(known);
        Ok(keys)
    }

    /// Looks at the file, and reads it unless it is as it was.
    fn look(&self, known: Option<Known>) -> Result<Known, KeysError> {
        let looked = Instant::now();
        let meta = match self.path.metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Known { stamp: None, keys: Arc::default(), looked });
            }
            Err(source) => return Err(self.io("look at", source)),
        };
        let mtime = (meta.mtime(), meta.mtime_nsec());
        let stamp = Stamp { inode: meta.ino(), len: meta.len(), mtime, mode: meta.mode() };
        if let Some(known) = known.filter(|known| known.stamp == Some(stamp)) {
            return Ok(Known { looked, ..known });
        }
        let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
        if stamp.mode & 0o077 != 0 || !is_ours {
            return Err(KeysError::Open { path: self.path.clone() });
        }
        let text = std::fs::read_to_string(&self.path).map_err(|source| self.io("read", source))?;
        let parsed: Result<KeysToml, _> = toml::from_str(&text);
        let message = |error: toml::de::Error| error.message().to_owned(); // Its `Display` quotes the file: secrets.
        let toml =
            parsed.map_err(|error| KeysError::Toml { path: self.path.clone(), message: message(error) })?;
        Ok(Known { stamp: Some(stamp), keys: Arc::new(toml.keys), looked })
    }

    /// Makes a key. One command at a time: two that add at once may lose one.
    pub fn add(&self, note: &str) -> Result<Key, KeysError> {
        let mut keys = Vec::clone(&self.look(None)?.keys);
        if keys.len() >= KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let random = |letters, len| random(letters, len).map_err(|source| self.io("make a key for", source));
        let key = Key {
            id: format!("AKIA{}", random(ID_LETTERS, 16)?),
            secret: random(SECRET_LETTERS, 40)?,
            note: note.to_owned(),
            created: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        };
        keys.push(key.clone());
        self.write(keys)?;
        Ok(key)
    }

    /// Removes a key: whoever has it is refused when this returns.
    pub fn remove(&self, id: &str) -> Result<(), KeysError> {
        let mut keys = Vec::clone(&self.look(None)?.keys);
        let len = keys.len();
        keys.retain(|key| key.id != id);
        if keys.len() == len {
            return Err(KeysError::Unknown { id: id.to_owned() });
        }
        self.write(keys)
    }

    /// Written aside and renamed, so that no crash leaves half a file, and no reader finds one. Returns when every
    /// server acts by it.
    fn write(&self, keys: Vec<Key>) -> Result<(), KeysError> {
        let toml = toml::to_string(&KeysToml { keys });
        let toml = toml.map_err(|error| self.io("write", std::io::Error::other(error.to_string())))?;
        let aside = self.path.with_extension("toml.new");
        let write = || {
            let dir = self.path.parent().unwrap_or(Path::new("."));
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let mut options = std::fs::OpenOptions::new();
            drop(std::fs::remove_file(&aside)); // Of a crash; another's would keep its mode.
            let mut file = options.write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(toml.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&aside, &self.path)
        };
        write().map_err(|source| self.io("write", source))?;
        std::thread::sleep(FRESH);
        Ok(())
    }

    fn io(&self, doing: &'static str, source: std::io::Error) -> KeysError {
        KeysError::Io { doing, path: self.path.clone(), source }
    }
}

/// Letters of an alphabet whose size divides 256: each as likely as the others.
fn random(letters: &[u8], len: usize) -> std::io::Result<String> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes.iter().map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_added_listed_and_removed_also_under_a_reader() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = (Keys::in_dir(dir.path()), Keys::in_dir(dir.path()));
        assert!(reader.all().unwrap().is_empty());
        let (a, b) = (writer.add("for \"terraform\"").unwrap(), writer.add("").unwrap());
        assert_eq!(**reader.all().unwrap(), [a.clone(), b.clone()]);
        assert_eq!((a.id.len(), a.secret.len()), (20, 40));
        assert!(a.id.starts_with("AKIA") && a.id != b.id && a.secret != b.secret);
        writer.remove(&a.id).unwrap();
        assert_eq!(**reader.all().unwrap(), [b]);
        assert!(matches!(writer.remove(&a.id), Err(KeysError::Unknown { .. })));
    }

    #[test]
    fn only_the_owner_can_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::in_dir(dir.path());
        keys.add("").unwrap();
        let path = dir.path().join("keys.toml");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(keys.all(), Err(KeysError::Open { .. })));
    }

    #[test]
    fn a_broken_file_is_refused_and_its_secrets_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::in_dir(dir.path());
        let key = keys.add("").unwrap();
        let path = dir.path().join("keys.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"\ncreated", "\ncreated")).unwrap();
        let error = keys.all().unwrap_err();
        assert!(
            error.to_string().contains("keys.toml") && !format!("{error:?}").contains(&key.secret),
            "{error:?}"
        );
        assert!(!format!("{key:?}").contains(&key.secret));
    }
}
