//! Lines of files: what destinations get that are no functions.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::Destinations;

/// Adds a line to a file in an allowed directory, which is made if it is missing, and has it on the disk. Blocks.
/// Nothing on the way may be a link: functions may be able to write there, too.
pub(super) fn append(destinations: &Destinations, path: &Path, line: &[u8]) -> io::Result<()> {
    let (dir, rest) = destinations.split(path).map_err(io::Error::other)?;
    let dir = File::open(dir)?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    // Without NONBLOCK, to open a pipe that nobody reads would never end.
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::openat2(&dir, rest, flags, Mode::RUSR | Mode::WUSR, beneath);
    let mut file = File::from(opened?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut whole = Vec::with_capacity(line.len() + 2);
    if !ends_with_line(&file, metadata.len())? {
        whole.push(b'\n'); // The line before was cut off: by a full disk, or a crash.
    }
    whole.extend_from_slice(line);
    whole.push(b'\n');
    file.write_all(&whole)?;
    file.sync_data()?;
    if metadata.len() == 0 {
        sync_folder(&dir, rest)?; // It may be new.
    }
    Ok(())
}

fn ends_with_line(file: &File, len: u64) -> io::Result<bool> {
    let Some(last) = len.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

fn sync_folder(dir: &File, rest: &Path) -> io::Result<()> {
    match rest.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        None => dir.sync_all(),
        Some(folder) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            File::from(rustix::fs::openat(dir, folder, flags, Mode::empty())?).sync_all()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_and_one_that_was_cut_off_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let destinations = Destinations::new(&[dir.path().to_owned()]);
        let path = dir.path().join("records.jsonl");
        append(&destinations, &path, b"1").unwrap();
        append(&destinations, &path, b"2").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
        std::fs::write(&path, "1\n2\nhal").unwrap();
        append(&destinations, &path, b"3").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\nhal\n3\n");
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let allowed = dir.path().join("allowed");
        std::fs::create_dir(&allowed).unwrap();
        let destinations = Destinations::new(std::slice::from_ref(&allowed));
        let outside = dir.path().join("outside");
        append(&destinations, &outside, b"1").unwrap_err();
        std::os::unix::fs::symlink(&outside, allowed.join("link")).unwrap();
        append(&destinations, &allowed.join("link"), b"1").unwrap_err();
        std::os::unix::fs::symlink(dir.path(), allowed.join("folder")).unwrap();
        append(&destinations, &allowed.join("folder/outside"), b"1").unwrap_err();
        append(&destinations, &allowed.join("missing/file"), b"1").unwrap_err();
        append(&destinations, &allowed, b"1").unwrap_err();
        assert!(!outside.exists());
    }
}
