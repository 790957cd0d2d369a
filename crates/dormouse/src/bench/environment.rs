//! Where a bench runs: what a reader needs to judge its figures.

use std::fs;

use report::bench::Environment;

use super::criu::Criu;
use super::workshop::Workshop;

/// Looks at the machine. What cannot be learned stays empty.
pub(crate) fn look(workshop: &Workshop, criu: Option<&Criu>) -> Environment {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let stop_by = match workshop.hierarchy.can_freeze() {
        true => workshop.hierarchy.describe(),
        false => "SIGSTOP",
    };
    Environment {
        kernel: kernel.trim().to_owned(),
        cpu: field("/proc/cpuinfo", "model name").unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
        memory_bytes: bytes("/proc/meminfo", "MemTotal").unwrap_or_default(),
        dormouse: env!("CARGO_PKG_VERSION").to_owned(),
        python: workshop.python.version.clone(),
        criu: criu.map(|criu| criu.version.clone()),
        stop_by: stop_by.to_owned(),
    }
}

/// The first `name: value kB` in a file of the kernel's.
pub(crate) fn bytes(path: &str, name: &str) -> Option<u64> {
    let text = field(path, name)?;
    Some(text.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The first `name: value` in a file of the kernel's.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}
