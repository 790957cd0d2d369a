//! Trees: packages, unpacked, one folder each. A cache: what is missing is unpacked again.

use std::fs::{File, Permissions};
use std::io::{Cursor, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zip::ZipArchive;

use crate::PackageId;

/// Lambda's limit for what a package unpacks to.
pub const TREE_BYTES_MAX: u64 = 250 * 1024 * 1024;

/// Far more files than fit that size usefully; keeps a small zip from filling the table of inodes.
pub const TREE_ENTRIES_MAX: usize = 100_000;

/// The longest target of a link: the kernel's own limit.
const LINK_BYTES_MAX: u64 = 4096;

/// Read and written at once.
const COPY_BYTES: usize = 64 * 1024;

/// In a mode, the bits that say what a thing is, and those of what can be in a package.
const KIND_MASK: u32 = 0o170_000;
const KIND_FILE: u32 = 0o100_000;
const KIND_FOLDER: u32 = 0o040_000;
const KIND_LINK: u32 = 0o120_000;

/// Changes at every boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Says in which boot the trees were made.
const BOOT_FILE: &str = "boot";

/// A package cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is not a zip, or a damaged one.
    #[error("the package is no zip that can be read: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// It has something in it that has no place in a package.
    #[error("the package cannot be unpacked: {name:?} {why}")]
    Entry {
        /// The name in the zip.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It holds more than a package may.
    #[error("the package unpacks to more than {what}")]
    TooLarge {
        /// The limit.
        what: String,
    },
    /// The system refused.
    #[error("write to {path:?}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// All trees of one server.
pub struct Trees {
    folder: PathBuf,
    /// For names that nobody else uses.
    unpacked: AtomicU64,
}

impl Trees {
    /// Those in this folder, which is made if it is not there. Trees are not forced to disk, so those of another boot
    /// may be torn, and go.
    pub fn open(folder: &Path) -> Result<Self, TreeError> {
        let failed = |source| TreeError::Io { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        // Sandboxes come to their tree by a mount, not through here.
        std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
        let folder = folder.canonicalize().map_err(failed)?;
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        if boot.is_empty() || std::fs::read_to_string(folder.join(BOOT_FILE)).ok().as_ref() != Some(&boot) {
            sweep(&folder, |_| false).map_err(failed)?;
            std::fs::write(folder.join(BOOT_FILE), boot).map_err(failed)?;
        }
        Ok(Self { folder, unpacked: AtomicU64::new(0) })
    }

    /// The tree of a package, if it is there.
    pub fn find(&self, id: &PackageId) -> Option<PathBuf> {
        let path = self.folder.join(id.to_string());
        path.is_dir().then_some(path)
    }

    /// The tree of a package, which is unpacked if it is not there. Blocking: seconds for large packages.
    pub fn unpack(&self, id: &PackageId, package: &[u8]) -> Result<PathBuf, TreeError> {
        if let Some(path) = self.find(id) {
            return Ok(path);
        }
        let path = self.folder.join(id.to_string());
        let aside = path.with_extension(format!("new{}", self.unpacked.fetch_add(1, Ordering::Relaxed)));
        let failed = |source| TreeError::Io { path: path.clone(), source };
        remove(&aside).map_err(failed)?; // Of a server that died here.
        let unpacked = unpack(package, &aside).and_then(|()| match std::fs::rename(&aside, &path) {
            Err(_) if path.is_dir() => Ok(()), // Another was quicker; the bytes are the same.
            renamed => renamed.map_err(failed),
        });
        fail_point::reach("tree-placed");
        let removed = remove(&aside);
        unpacked?;
        removed.map_err(failed)?;
        Ok(path)
    }

    /// Takes a tree away from where it is found, which is quick; where it is until `remove`, if there was one. To be
    /// called while nothing runs in it, and nobody is about to have it.
    pub fn detach(&self, id: &PackageId) -> Result<Option<PathBuf>, TreeError> {
        let Some(path) = self.find(id) else { return Ok(None) };
        let aside = path.with_extension(format!("gone{}", self.unpacked.fetch_add(1, Ordering::Relaxed)));
        std::fs::rename(&path, &aside).map_err(|source| TreeError::Io { path, source })?;
        Ok(Some(aside))
    }

    /// Removes what was detached. Blocking: seconds for large trees.
    pub fn remove(&self, detached: &Path) -> Result<(), TreeError> {
        remove(detached).map_err(|source| TreeError::Io { path: detached.to_owned(), source })
    }

    /// Removes trees that `is_wanted` does not name. To be called while nothing runs in them.
    pub fn sweep(&self, is_wanted: impl Fn(&PackageId) -> bool) -> Result<(), TreeError> {
        sweep(&self.folder, is_wanted).map_err(|source| TreeError::Io { path: self.folder.clone(), source })
    }
}

fn sweep(folder: &Path, is_wanted: impl Fn(&PackageId) -> bool) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.parse::<PackageId>().ok());
        if name != BOOT_FILE && !id.is_some_and(|id| is_wanted(&id)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes whatever is there, if anything is.
fn remove(path: &Path) -> std::io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Unpacks into a folder that is not there yet. Links come last, so that nothing is written through one.
fn unpack(package: &[u8], root: &Path) -> Result<(), TreeError> {
    let failed = |source| TreeError::Io { path: root.to_owned(), source };
    let mut archive = ZipArchive::new(Cursor::new(package))?;
    if archive.len() > TREE_ENTRIES_MAX {
        return Err(TreeError::TooLarge { what: format!("{TREE_ENTRIES_MAX} files") });
    }
    make_folder(root).map_err(failed)?;
    let mut unpacking = Unpacking { root, bytes_left: TREE_BYTES_MAX, links: Vec::new() };
    for index in 0..archive.len() {
        unpacking.entry(archive.by_index(index)?)?;
    }
    unpacking.link()?;
    fail_point::reach("tree-unpacked");
    Ok(())
}

/// A package that is being unpacked.
struct Unpacking<'a> {
    root: &'a Path,
    /// What may still come. Counted while reading: what a zip says of its sizes may be a lie.
    bytes_left: u64,
    /// Where a link is to stand, and where it is to lead.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Unpacking<'_> {
    fn entry<R: std::io::Read>(&mut self, mut entry: zip::read::ZipFile<'_, R>) -> Result<(), TreeError> {
        let raw = entry.name_raw().to_vec();
        let refused = |why: &str| refused(&raw, why);
        let name = inside(&raw).ok_or_else(|| refused("leads out of the package"))?;
        let path = self.root.join(&name);
        let mode = entry.unix_mode().unwrap_or_default();
        let occupied = |error: std::io::Error| refused(&format!("cannot be made: {error}"));
        if entry.is_dir() {
            return make_folder(&path).map_err(occupied);
        }
        if name.as_os_str().is_empty() {
            return Err(refused("is no name of a file"));
        }
        make_folder(path.parent().unwrap_or(self.root)).map_err(occupied)?;
        match mode & KIND_MASK {
            KIND_LINK => {
                let mut target = Vec::new();
                self.copy(&raw, &mut (&mut entry).take(LINK_BYTES_MAX), &mut target)?;
                self.links.push((path, PathBuf::from(std::ffi::OsStr::from_bytes(&target))));
                Ok(())
            }
            0 | KIND_FILE => {
                let mut file = create(&path, mode).map_err(occupied)?;
                self.copy(&raw, &mut entry, &mut file)
            }
            KIND_FOLDER => Err(refused("is a folder by its mode and a file by its name")),
            _ => Err(refused("is a device, a pipe or a socket")),
        }
    }

    /// Counts before it writes, so that a bomb is noticed at the limit and not at the end.
    fn copy(
        &mut self,
        name: &[u8],
        from: &mut impl std::io::Read,
        to: &mut impl std::io::Write,
    ) -> Result<(), TreeError> {
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read =
                from.read(&mut buffer).map_err(|error| refused(name, &format!("is damaged: {error}")))?;
            if read == 0 {
                return Ok(());
            }
            self.count(read as u64)?;
            let failed = |source| TreeError::Io { path: self.root.to_owned(), source };
            to.write_all(&buffer[..read]).map_err(failed)?;
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), TreeError> {
        let too_large = || TreeError::TooLarge { what: format!("{TREE_BYTES_MAX} bytes") };
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }

    /// Makes the links, then looks where each leads: through others, that is more than their text says.
    fn link(self) -> Result<(), TreeError> {
        for (path, target) in &self.links {
            let refused = |why: &str| refused(path.as_os_str().as_bytes(), why);
            symlink(target, path).map_err(|error| refused(&format!("cannot be made: {error}")))?;
        }
        for (path, _) in &self.links {
            let refused = |why: &str| refused(path.as_os_str().as_bytes(), why);
            let end = path.canonicalize().map_err(|_| refused("is a link that leads nowhere"))?;
            if !end.starts_with(self.root) {
                return Err(refused("is a link that leads out of the package"));
            }
        }
        Ok(())
    }
}

fn refused(name: &[u8], why: &str) -> TreeError {
    TreeError::Entry { name: String::from_utf8_lossy(name).into_owned(), why: why.to_owned() }
}

/// The name as a path below the root; `None` if it is absolute, goes up, or is no path.
fn inside(name: &[u8]) -> Option<PathBuf> {
    if name.is_empty() || name.contains(&0) {
        return None;
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(name));
    let is_plain = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    path.components().all(|part| is_plain(&part)).then(|| parts.collect())
}

/// A folder that all can enter, with those above it that are missing. Its mode is set when it is there: while it is
/// made, the umask takes away from it.
fn make_folder(path: &Path) -> std::io::Result<()> {
    match (std::fs::create_dir(path), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == std::io::ErrorKind::NotFound => {
            make_folder(parent)?;
            make_folder(path)
        }
        (Err(_), _) if path.is_dir() => Ok(()),
        (made, _) => made.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o755))),
    }
}

/// A new file, readable for all, executable if it was for anybody, whatever the umask. Sandboxes may be other users.
fn create(path: &Path, mode: u32) -> std::io::Result<File> {
    let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
    let file = File::options().write(true).create_new(true).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}
