//! Packages: zips as people sent them, kept under the hash of their bytes.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::local::LocalFileSystem;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Lambda's limit for a zip that comes with a request.
pub const PACKAGE_BYTES_MAX: usize = 50 * 1024 * 1024;

/// SHA-256 of a package's bytes. As text: 64 digits in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageId([u8; 32]);

/// The text is not the id of a package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no id of a package: it has 64 digits in hex")]
pub struct InvalidPackageId {
    /// What was given.
    pub text: String,
}

impl PackageId {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for PackageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PackageId {
    type Err = InvalidPackageId;

    fn from_str(text: &str) -> Result<Self, InvalidPackageId> {
        let invalid = || InvalidPackageId { text: text.to_owned() };
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        let bytes: Vec<u8> = digits
            .ok_or_else(invalid)?
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |sum, d| sum << 4 | d))
            .collect();
        if text.len() != 64 {
            return Err(invalid());
        }
        bytes.try_into().map(Self).map_err(|_| invalid())
    }
}

impl TryFrom<String> for PackageId {
    type Error = InvalidPackageId;

    fn try_from(text: String) -> Result<Self, InvalidPackageId> {
        text.parse()
    }
}

impl From<PackageId> for String {
    fn from(id: PackageId) -> Self {
        id.to_string()
    }
}

/// A package cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// It is larger than a package may be.
    #[error("the package has {len} bytes, and may have {PACKAGE_BYTES_MAX}")]
    TooLarge {
        /// Its size in bytes.
        len: usize,
    },
    /// It is not there.
    #[error("the package {id} is not there: deploy the function again")]
    Missing {
        /// Which.
        id: PackageId,
    },
    /// What is there has other bytes.
    #[error("the package {id} is damaged: deploy the function again")]
    Damaged {
        /// Which.
        id: PackageId,
    },
    /// The folder of the packages cannot be made or changed.
    #[error("make or change {path:?}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

/// All packages of one server.
pub struct Packages {
    store: LocalFileSystem,
    folder: PathBuf,
}

impl Packages {
    /// Those in this folder, which is made if it is not there, and is for its owner only.
    pub fn open(folder: &Path) -> Result<Self, PackageError> {
        let failed = |source| PackageError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { store, folder: folder.to_owned() })
    }

    /// Keeps a package. When this returns it is on disk, whole.
    pub async fn put(&self, bytes: Bytes) -> Result<PackageId, PackageError> {
        if bytes.len() > PACKAGE_BYTES_MAX {
            return Err(PackageError::TooLarge { len: bytes.len() });
        }
        let id = PackageId::of(&bytes);
        self.store.put(&place(&id), bytes.into()).await?;
        fail_point::reach("package-kept");
        Ok(id)
    }

    /// The bytes of a package, compared with its id.
    pub async fn get(&self, id: &PackageId) -> Result<Bytes, PackageError> {
        let found = match self.store.get(&place(id)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(PackageError::Missing { id: *id }),
            Err(error) => return Err(error.into()),
        };
        let bytes = found.bytes().await?;
        if PackageId::of(&bytes) == *id { Ok(bytes) } else { Err(PackageError::Damaged { id: *id }) }
    }

    /// Removes a package, if it is there. To be called when no record names it, and nobody is about to.
    pub fn remove(&self, id: &PackageId) -> Result<(), PackageError> {
        let path = self.folder.join(id.to_string());
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(PackageError::Folder { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Removes what `is_wanted` does not name, and what a server left that died while it wrote. To be called while
    /// nobody puts packages: a package is there before the record that names it. Returns how many files went.
    pub async fn sweep(&self, is_wanted: impl Fn(&PackageId) -> bool) -> Result<usize, PackageError> {
        let failed = |source| PackageError::Folder { path: self.folder.clone(), source };
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let id = entry.file_name().to_str().and_then(|name| name.parse::<PackageId>().ok());
            if !id.is_some_and(|id| is_wanted(&id)) {
                std::fs::remove_file(entry.path()).map_err(failed)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn place(id: &PackageId) -> object_store::path::Path {
    object_store::path::Path::from(id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_text_and_back() {
        let id = PackageId::of(b"");
        assert_eq!(id.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_text_is_no_id() {
        for text in ["", "e3", "../../etc/passwd", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
            assert!(text.parse::<PackageId>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn what_was_kept_comes_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let packages = Packages::open(&folder.path().join("packages")).unwrap();
        let id = packages.put(Bytes::from_static(b"zip")).await.unwrap();
        assert_eq!(packages.put(Bytes::from_static(b"zip")).await.unwrap(), id);
        assert_eq!(packages.get(&id).await.unwrap(), "zip");
        let file = folder.path().join("packages").join(id.to_string());
        std::fs::write(&file, "zap").unwrap();
        assert!(matches!(packages.get(&id).await, Err(PackageError::Damaged { .. })));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(packages.get(&id).await, Err(PackageError::Missing { .. })));
    }

    #[tokio::test]
    async fn what_nobody_names_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let packages = Packages::open(folder.path()).unwrap();
        let kept = packages.put(Bytes::from_static(b"kept")).await.unwrap();
        let other = packages.put(Bytes::from_static(b"other")).await.unwrap();
        std::fs::write(folder.path().join(format!("{other}#1")), "half").unwrap();
        assert_eq!(packages.sweep(|id| *id == kept).await.unwrap(), 2);
        assert!(packages.get(&kept).await.is_ok());
        assert!(packages.get(&other).await.is_err());
    }

    #[tokio::test]
    async fn a_package_above_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let packages = Packages::open(folder.path()).unwrap();
        let error = packages.put(vec![0; PACKAGE_BYTES_MAX + 1].into()).await.unwrap_err();
        assert!(matches!(error, PackageError::TooLarge { .. }));
    }
}
