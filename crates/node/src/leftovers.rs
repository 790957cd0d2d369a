//! What a node that died may have left behind, and how the next one finds it: cgroups by their name; where there are
//! none, process groups by a record in the data directory, and daemons by the mark in their environment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use linux::cgroup::Hierarchy;
use linux::ksm::Burst;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::family::Mark;

/// Kills and removes whatever an earlier node of this data directory left.
pub(crate) fn clean_up(data_dir: &Path, instance: &str) -> io::Result<()> {
    for (pid, started) in recorded(data_dir) {
        // The number may mean another process by now; the moment of its start tells.
        if start_time(pid).is_some_and(|now| now == started)
            && let Some(group) = Pid::from_raw(pid)
        {
            tracing::warn!(pid, "killing a sandbox of a node that died");
            let _ = kill_process_group(group, Signal::KILL); // ESRCH: it died meanwhile.
        }
        forget(data_dir, pid);
    }
    Mark::of_node(instance).kill_all();
    match Burst::recover(&ksm_kept(data_dir)) {
        Ok(true) => tracing::warn!("KSM is set as it was before a node died"),
        Ok(false) => {}
        // Sandboxes do not need it; who wants to merge is told.
        Err(error) => {
            tracing::warn!(%error, "KSM cannot be set as it was before a node died: {}", error.advice())
        }
    }
    Hierarchy::create(instance).remove()?;
    Hierarchy::create_v1(instance).remove()
}

/// Where a node keeps the settings of KSM while KSM works for it.
pub(crate) fn ksm_kept(data_dir: &Path) -> PathBuf {
    data_dir.join("ksm")
}

/// Writes down that a sandbox with this first process, leader of its group, lives.
pub(crate) fn remember(data_dir: &Path, pid: i32) {
    let started = start_time(pid).unwrap_or_default();
    let path = record_path(data_dir, pid);
    let written =
        fs::create_dir_all(data_dir.join("run")).and_then(|()| fs::write(&path, started.to_string()));
    if let Err(error) = written {
        tracing::warn!(%error, ?path, "cannot record a sandbox: if this node dies, the next cannot find it");
    }
}

/// It is gone.
pub(crate) fn forget(data_dir: &Path, pid: i32) {
    let _ = fs::remove_file(record_path(data_dir, pid)); // It may never have been written.
}

/// Whether a process, dead or alive, belongs to a sandbox of this node.
pub(crate) fn is_in_instance(pid: i32, instance: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(instance))
}

fn record_path(data_dir: &Path, pid: i32) -> PathBuf {
    data_dir.join("run").join(pid.to_string())
}

fn recorded(data_dir: &Path) -> Vec<(i32, u64)> {
    let Ok(entries) = fs::read_dir(data_dir.join("run")) else { return Vec::new() };
    let read = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let started = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        Some((path.file_name()?.to_str()?.parse().ok()?, started))
    };
    entries.filter_map(read).collect()
}

/// When a process started, in clock ticks since boot; with its number it means one process only.
fn start_time(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_process_is_killed_and_one_that_took_its_number_is_not() {
        use std::os::unix::process::CommandExt as _;
        let dir = tempfile::tempdir().unwrap();
        let start = || std::process::Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let (mut left, mut other) = (start(), start());
        remember(dir.path(), left.id() as i32);
        fs::write(record_path(dir.path(), other.id() as i32), "1").unwrap();
        clean_up(dir.path(), "dormouse-test-leftovers").unwrap();
        assert!(!left.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        assert_eq!(recorded(dir.path()), []);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
