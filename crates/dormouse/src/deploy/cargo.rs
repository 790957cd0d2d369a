//! A function that is a cargo project: built, and its binary put where `provided` looks for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::failure::Failure;

/// A folder with what is deployed; `None` for a folder that is no project, or brings its `bootstrap` along.
pub(super) fn build(folder: &Path) -> Result<Option<TempDir>, Failure> {
    if !folder.join("Cargo.toml").is_file() || folder.join("bootstrap").exists() {
        return Ok(None);
    }
    let binary = built(folder)?;
    let failed = |error| Failure::io("put the function together", &error);
    let together = tempfile::tempdir().map_err(failed)?;
    fs::copy(binary, together.path().join("bootstrap")).map_err(failed)?;
    let settings = folder.join("function.toml");
    if settings.is_file() {
        fs::copy(settings, together.path().join("function.toml")).map_err(failed)?;
    }
    Ok(Some(together))
}

/// The binary that cargo makes of it.
fn built(folder: &Path) -> Result<PathBuf, Failure> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--message-format=json-render-diagnostics"]).current_dir(folder);
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| {
        Failure::io("run cargo", &error)
            .hint("install Rust, or put an executable `bootstrap` into the folder")
    })?;
    if !output.status.success() {
        return Err(Failure::new("cargo did not build the function"));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    match said.lines().filter_map(executable).collect::<Vec<_>>().as_slice() {
        [one] => Ok(one.clone()),
        found => {
            Err(Failure::new(format!("the project has {} binaries, and a function is one", found.len())))
        }
    }
}
