//! Checkpoint and restore: CRIU writes the worker to an image and kills it, and makes a new one from the image.
//! Images go to memory where there is a file system in memory: that is CRIU at its best, and counted as memory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use linux::process::Process;

use super::error::{BenchError, with_causes};
use super::keep::{Asleep, Keep, Woken, micros_since};
use super::worker::{Worker, collect};
use super::workshop::{Kind, Workshop};

/// A file system in memory, on almost every Linux.
const MEMORY_FILES: &str = "/dev/shm";

/// CRIU, and that it works here.
#[derive(Debug)]
pub(crate) struct Criu {
    program: PathBuf,
    /// As it says itself.
    pub(crate) version: String,
}

impl Criu {
    /// Looks for it and asks it whether it can work on this kernel; or says why not, in words for the table.
    pub(crate) fn find() -> Result<Criu, String> {
        let program = std::env::var_os("DORMOUSE_CRIU").map_or_else(|| PathBuf::from("criu"), PathBuf::from);
        let version = Command::new(&program).arg("--version").output();
        let version = version.map_err(|_| "not installed (or name it in DORMOUSE_CRIU)".to_owned())?;
        let version = String::from_utf8_lossy(&version.stdout);
        let version =
            version.lines().next().unwrap_or_default().trim_start_matches("Version:").trim().to_owned();
        let check = Command::new(&program).arg("check").stdin(Stdio::null()).output();
        let check = check.map_err(|error| with_causes(&error))?;
        match check.status.success() {
            true => Ok(Criu { program, version }),
            false => Err(format!(
                "CRIU {version} does not work here: {}",
                last_error(&[check.stdout, check.stderr].concat())
            )),
        }
    }

    fn run(&self, verb: &str, images: &Path, more: &[&str]) -> Result<(), BenchError> {
        let mut command = Command::new(&self.program);
        // The worker stands in our session and in a cgroup of ours; both are there when it is restored.
        command.args([verb, "--shell-job", "--manage-cgroups=ignore", "-v1", "--log-file", "log", "-D"]);
        command.arg(images).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().map_err(BenchError::system("run criu"))?;
        match status.success() {
            true => Ok(()),
            false => Err(BenchError::Program {
                program: format!("criu {verb}"),
                said: last_error(&fs::read(images.join("log")).unwrap_or_default()),
            }),
        }
    }
}

/// The last line that names an error, without CRIU's own places.
fn last_error(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said
        .lines()
        .rfind(|line| line.contains("Error"))
        .or(said.lines().last())
        .unwrap_or("no reason given");
    line.rsplit_once("): ").map_or(line, |(_, reason)| reason).to_owned()
}

/// A worker that is dumped and restored.
pub(crate) struct Dumped<'a> {
    criu: &'a Criu,
    worker: Worker,
    images: tempfile::TempDir,
    pid: i32,
}

impl<'a> Dumped<'a> {
    /// Starts a worker and waits until it is warm.
    pub(crate) fn start(workshop: &Workshop, kind: Kind, criu: &'a Criu) -> Result<Dumped<'a>, BenchError> {
        let place = Path::new(MEMORY_FILES);
        let place = if place.is_dir() { place } else { workshop.dir.path() };
        let images = tempfile::Builder::new().prefix("dormouse-criu-").tempdir_in(place);
        let images = images.map_err(BenchError::system("make a directory for images"))?;
        let worker = workshop.start_without_bond(kind, "criued")?;
        worker.line().ask_when_ready(0)?.answer()?;
        Ok(Dumped { criu, pid: worker.pid(), worker, images })
    }

    fn image_bytes(&self) -> Result<u64, BenchError> {
        const BLOCK: u64 = 512; // Of `st_blocks`, whatever the file system's own.
        let entries = fs::read_dir(self.images.path()).map_err(BenchError::system("read images"))?;
        Ok(entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.blocks() * BLOCK)).sum())
    }
}

impl Keep for Dumped<'_> {
    fn sleep(&mut self) -> Result<Asleep, BenchError> {
        let warm_bytes = self.worker.memory()?.private_bytes;
        for entry in fs::read_dir(self.images.path()).map_err(BenchError::system("read images"))?.flatten() {
            let _ = fs::remove_file(entry.path()); // Of the sleep before; `dump` would overwrite them as well.
        }
        let started = Instant::now();
        self.criu.run("dump", self.images.path(), &["--tree", &self.pid.to_string()])?;
        let sleep_us = Some(micros_since(started));
        // Its number must be free again before it can be restored.
        if let Some(process) = self.worker.process.take() {
            collect(&process);
        }
        Ok(Asleep { warm_bytes, kept_bytes: self.image_bytes()?, kept_parts: None, sleep_us })
    }

    fn wake(&mut self, number: u64) -> Result<Woken, BenchError> {
        let started = Instant::now();
        self.criu.run("restore", self.images.path(), &["--restore-detached"])?;
        let asked = self.worker.line().ask_when_ready(number)?;
        let answer = asked.answer()?;
        let wake_us = micros_since(started);
        let process = Process::open(self.pid).map_err(BenchError::system("find a restored worker"))?;
        self.worker.process = Some(process);
        Ok(Woken { wake_us, answer })
    }
}

impl Drop for Dumped<'_> {
    fn drop(&mut self) {
        // A restore that failed half-way may have left a process with the worker's number; it is ours.
        if self.worker.process.is_none()
            && linux::process::children(std::process::id() as i32).contains(&self.pid)
        {
            self.worker.process = Process::open(self.pid).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, expected: &str) {
        assert_eq!(last_error(said.as_bytes()), expected);
    }

    #[test]
    fn the_reason_is_the_last_error() {
        check("Warn  (a.c:1): x\nError (criu/vdso.c:381): vdso: Unexpected\n", "vdso: Unexpected");
        check("Looks bad\n", "Looks bad");
        check("", "no reason given");
    }
}
