//! What makes a function what it is: every file of its package and its configuration, by content.

use std::path::{Path, PathBuf};

use crate::CatalogueError;

/// Lambda's limit for an unpacked package.
const PACKAGE_BYTES_MAX: u64 = 250 * 1024 * 1024;

/// Far more files than fit that size usefully; keeps a wrong `--functions` from hashing a whole disk.
const PACKAGE_FILES_MAX: usize = 100_000;

/// Hash of all files in `root`, in hex. `function.toml` is one of them. Compiled Python is left out: running a
/// function writes it, and that changes no function.
pub(crate) fn of_package(root: &Path) -> Result<String, CatalogueError> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort();
    let mut hasher = blake3::Hasher::new();
    let mut total_bytes = 0;
    for file in &files {
        let path = root.join(file);
        let content = content(&path)?;
        total_bytes += content.len() as u64;
        if total_bytes > PACKAGE_BYTES_MAX {
            return Err(too_large(root, format!("more than {PACKAGE_BYTES_MAX} bytes")));
        }
        let name = file.as_os_str().as_encoded_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name); // Lengths first: no two packages
        hasher.update(&(content.len() as u64).to_le_bytes()).update(&content); // hash the same bytes.
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// All files below `dir`, relative to `root`. Links are not followed: they may lead anywhere.
fn collect(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), CatalogueError> {
    let read = |source| CatalogueError::Read { path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let entry = entry.map_err(read)?;
        let path = entry.path();
        if entry.file_name() == "__pycache__" {
            continue;
        }
        if entry.file_type().map_err(read)?.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            files.push(relative.to_owned());
        }
        if files.len() > PACKAGE_FILES_MAX {
            return Err(too_large(root, format!("more than {PACKAGE_FILES_MAX} files")));
        }
    }
    Ok(())
}

/// A file's bytes, or where a link points. Other things (sockets, pipes) count by name only.
fn content(path: &Path) -> Result<Vec<u8>, CatalogueError> {
    let read = |source| CatalogueError::Read { path: path.to_owned(), source };
    let meta = path.symlink_metadata().map_err(read)?;
    if meta.is_symlink() {
        let target = std::fs::read_link(path).map_err(read)?;
        return Ok(target.into_os_string().into_encoded_bytes());
    }
    if !meta.is_file() {
        return Ok(Vec::new());
    }
    if meta.len() > PACKAGE_BYTES_MAX {
        return Err(too_large(path, format!("more than {PACKAGE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(read)
}

fn too_large(path: &Path, why: String) -> CatalogueError {
    CatalogueError::TooLarge { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&Path), same: bool) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lambda_function.py"), "x = 1").unwrap();
        let before = of_package(dir.path()).unwrap();
        change(dir.path());
        assert_eq!(of_package(dir.path()).unwrap() == before, same);
    }

    #[test]
    fn any_change_of_code_or_configuration_is_another_digest() {
        check(|_| {}, true);
        check(|dir| std::fs::write(dir.join("lambda_function.py"), "x = 2").unwrap(), false);
        check(|dir| std::fs::write(dir.join("function.toml"), "memory_mb = 1").unwrap(), false);
        check(|dir| std::fs::rename(dir.join("lambda_function.py"), dir.join("other.py")).unwrap(), false);
    }

    #[test]
    fn compiled_python_changes_nothing() {
        let compiled = |dir: &Path| {
            std::fs::create_dir(dir.join("__pycache__")).unwrap();
            std::fs::write(dir.join("__pycache__/x.pyc"), "1").unwrap();
        };
        check(compiled, true);
    }
}
