//! The admin socket's file. Whoever can open it commands the server, so it is the owner's alone.

use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another server answers there.
    #[error("{path:?} is in use by another dormouse: stop it, or name another socket")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has that name, and is not ours to remove.
    #[error("{path:?} is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("make the socket {path:?}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said. Paths longer than 107 bytes are "invalid input".
        source: std::io::Error,
    },
}

/// A listening socket whose file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path)); // A stale one would be replaced anyway.
    }
}

/// Listens at `path`, mode 0600 from the moment the file appears there: it is made in a folder that only we may
/// enter and renamed into place. The process's umask, which other threads use, is left alone.
pub(crate) async fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    refuse_occupied(path).await?;
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    let aside = aside(path);
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).map_err(io)?;
    std::fs::DirBuilder::new().mode(0o700).create(&aside).map_err(io)?;
    let made = make(&aside.join("s"), path);
    drop(std::fs::remove_dir_all(&aside)); // Empty by now, or left behind by the failure that is reported.
    let listener = made.map_err(io)?;
    Ok((listener, SocketFile { path: path.to_owned() }))
}

fn make(aside: &Path, path: &Path) -> std::io::Result<UnixListener> {
    let listener = UnixListener::bind(aside)?;
    std::fs::set_permissions(aside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(aside, path)?;
    Ok(listener)
}

/// A name next to the socket that nobody else uses.
fn aside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{:08x}", uuid::Uuid::new_v4().as_fields().0))
}

/// A dead server's file may be replaced; a live one's, and anything that is no socket, may not.
async fn refuse_occupied(path: &Path) -> Result<(), SocketError> {
    let path = path.to_owned();
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SocketError::Io { path, source }),
        Ok(meta) if !meta.file_type().is_socket() => Err(SocketError::NotASocket { path }),
        Ok(_) if UnixStream::connect(&path).await.is_ok() => Err(SocketError::InUse { path }),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_may_use_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let (_listener, file) = listen(&path).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_servers_socket_is_replaced_and_a_live_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        drop(UnixListener::bind(&path).unwrap()); // The file stays.
        let (_listener, _file) = listen(&path).await.unwrap();
        assert!(matches!(listen(&path).await, Err(SocketError::InUse { .. })));
    }

    #[tokio::test]
    async fn a_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path).await, Err(SocketError::NotASocket { .. })));
    }
}
