//! A folder as a zip: the same files make the same bytes, so that nothing changes where nothing has changed.

use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::failure::Failure;

/// What is no part of a function: history, installed tools, what is built again.
const LEFT_OUT: [&str; 4] = [".git", ".venv", "target", "__pycache__"];

/// What the server takes, unpacked.
const FILES_BYTES_MAX: u64 = 250 * 1024 * 1024;

/// The zip of a folder.
pub(super) fn pack(folder: &Path) -> Result<Vec<u8>, Failure> {
    let mut files = Vec::new();
    collect(folder, folder, &mut files)?;
    files.sort();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut left = FILES_BYTES_MAX;
    for file in &files {
        add(&mut writer, folder, file, &mut left)?;
    }
    let zipped = writer.finish().map_err(|error| Failure::of(&error))?;
    Ok(zipped.into_inner())
}

/// All files and links below `dir`, relative to `root`.
fn collect(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error| Failure::io(format!("read {}", dir.display()), &error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type().map_err(failed)?.is_dir() {
            collect(root, &entry.path(), files)?;
        } else if let Ok(relative) = entry.path().strip_prefix(root) {
            files.push(relative.to_owned());
        }
    }
    Ok(())
}

fn add(
    writer: &mut ZipWriter<Cursor<Vec<u8>>>,
    folder: &Path,
    file: &Path,
    left: &mut u64,
) -> Result<(), Failure> {
    let path = folder.join(file);
    let failed = |error| Failure::io(format!("read {}", path.display()), &error);
    let zip_failed = |error: zip::result::ZipError| Failure::of(&error);
    let name = file.to_string_lossy();
    let meta = path.symlink_metadata().map_err(failed)?;
    let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
    let options = SimpleFileOptions::default().unix_permissions(mode);
    if meta.is_symlink() {
        let target = fs::read_link(&path).map_err(failed)?;
        return writer.add_symlink(name, target.to_string_lossy(), options).map_err(zip_failed);
    }
    if !meta.is_file() {
        return Ok(()); // Sockets and pipes of something that runs there.
    }
    let mut content = Vec::new();
    fs::File::open(&path).and_then(|file| file.take(*left + 1).read_to_end(&mut content)).map_err(failed)?;
    *left = left.checked_sub(content.len() as u64).ok_or_else(|| {
        Failure::new(format!("{} holds more than {FILES_BYTES_MAX} bytes", folder.display()))
            .hint("name the folder of one function")
    })?;
    writer.start_file(name, options).map_err(zip_failed)?;
    writer.write_all(&content).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_bytes_and_tools_stay_behind() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("b/part.py", "x = 1");
        write("lambda_function.py", "");
        let first = pack(folder.path()).unwrap();
        write("__pycache__/x.pyc", "1");
        write(".venv/bin/python", "1");
        write("lambda_function.py", ""); // Another time of change.
        assert_eq!(pack(folder.path()).unwrap(), first);
        write("b/part.py", "x = 2");
        assert_ne!(pack(folder.path()).unwrap(), first);
    }
}
