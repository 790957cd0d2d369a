//! The directories that cgroups are: what is in them, and how they go.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long killed processes may take to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Kills all processes below `place`, frozen or not, and removes it. Nothing there is no error.
pub fn remove_tree(place: &Path) -> io::Result<()> {
    let started = Instant::now();
    while place.exists() {
        kill_tree(place)?;
        if !any_process(place) && remove_directories(place).is_ok() {
            break;
        }
        if started.elapsed() > KILL_TIMEOUT {
            let left = format!("{} still holds processes after they were killed", place.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, left));
        }
        wait_a_little(place);
    }
    Ok(())
}

fn kill_tree(place: &Path) -> io::Result<()> {
    let kill = place.join("cgroup.kill");
    if kill.exists() {
        return fs::write(kill, "1"); // Reaches frozen processes and everything below.
    }
    for child in subdirectories(place) {
        kill_tree(&child)?;
    }
    for pid in processes(place).unwrap_or_default() {
        if let Ok(process) = crate::process::Process::open(pid) {
            process.kill();
        }
    }
    let state = place.join("freezer.state");
    if state.exists() {
        // Version 1: a frozen process dies once it is thawed, and before it runs any code of its own.
        fs::write(state, "THAWED")?;
    }
    Ok(())
}

fn any_process(place: &Path) -> bool {
    processes(place).is_ok_and(|found| !found.is_empty())
        || subdirectories(place).iter().any(|child| any_process(child))
}

fn remove_directories(place: &Path) -> io::Result<()> {
    subdirectories(place).iter().try_for_each(|child| remove_directories(child))?;
    match rmdir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn rmdir(place: &Path) -> io::Result<()> {
    let path = CString::new(place.as_os_str().as_bytes())?;
    rustix::fs::rmdir(path.as_c_str()).map_err(io::Error::from)
}

fn subdirectories(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

pub(super) fn processes(place: &Path) -> io::Result<Vec<i32>> {
    let text = fs::read_to_string(place.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// A number from `cgroup.events`.
pub(super) fn event(place: &Path, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(place.join("cgroup.events"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    value.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("cgroup.events without {key}")))
}

/// Until `cgroup.events` changes, 20 ms at most.
fn wait_a_little(place: &Path) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    match File::open(place.join("cgroup.events")) {
        Ok(events) => {
            // Whatever it says, the caller looks again.
            let _ = poll(&mut [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)], Some(&timeout));
        }
        Err(_) => std::thread::sleep(Duration::from_millis(1)),
    }
}

pub(super) fn writable(path: &Path) -> bool {
    OpenOptions::new().write(true).open(path).is_ok()
}

/// Lets cgroups below `place` limit memory and processes. Whether they now can.
pub(super) fn enable_controllers(place: &Path) -> bool {
    // The parent must hand the controllers down first; it may refuse, since it has processes of its own (us).
    for at in place.parent().into_iter().chain([place]) {
        let _ = fs::write(at.join("cgroup.subtree_control"), "+memory +pids");
    }
    let enabled = fs::read_to_string(place.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |name| enabled.split_ascii_whitespace().any(|word| word == name);
    has("memory") && has("pids")
}
