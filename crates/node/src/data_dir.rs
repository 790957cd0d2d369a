//! The data directory: who may use it, and what a node is called after it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use crate::NodeError;

/// Takes the data directory, which is made if it is not there, for as long as the file lives.
pub(crate) fn lock(data_dir: &Path) -> Result<File, NodeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| NodeError::DataDir { path, source }
    };
    // What lies there (a secret, a socket) is for its owner only.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(failed(data_dir))?;
    let owner = fs::metadata(data_dir).map_err(failed(data_dir))?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        let source = io::Error::other(format!("it belongs to user {owner}: name another --data directory"));
        return Err(NodeError::DataDir { path: data_dir.to_owned(), source });
    }
    let path = data_dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(NodeError::InUse { path: data_dir.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(NodeError::DataDir { path, source }),
    }
}

/// What a node with this data directory, which must exist, calls its cgroups, and marks its processes with where there
/// are none. The same for every node that ever uses it, so that the next one finds what the last one left.
pub fn instance_name(data_dir: &Path) -> String {
    let path = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    // In a container the same path means another directory.
    let (device, inode) = fs::metadata(&path).map_or((0, 0), |directory| (directory.dev(), directory.ino()));
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(path.as_os_str().as_encoded_bytes());
    hash.update(&device.to_le_bytes());
    hash.update(&inode.to_le_bytes());
    format!("dormouse-{:016x}", hash.digest())
}
