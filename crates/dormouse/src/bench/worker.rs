//! One worker of a rival: what it uses, and its end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use linux::cgroup::Cgroup;
use linux::process::{self, Process};

use super::error::BenchError;
use super::line::Line;
use super::workshop::Kind;
use crate::stop::Stop;

/// A killed process is dead within milliseconds; one that sits in the kernel may take longer.
const DEATH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const DEATH_LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// A worker of a rival. Dropping it kills it and removes its cgroup.
#[derive(Debug)]
pub(crate) struct Worker {
    /// What it computes.
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// Where it runs.
    pub(crate) cgroup: Cgroup,
    /// `None` while there is none.
    pub(crate) process: Option<Process>,
    /// Ctrl-C.
    pub(crate) stop: Stop,
}

/// Memory of one worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Anonymous memory and private copies of file pages.
    pub(crate) private_bytes: u64,
    /// Page tables and what else the kernel holds for it.
    pub(crate) kernel_bytes: u64,
}

impl Worker {
    /// Its process, while it has one.
    pub(crate) fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// A conversation with it.
    pub(crate) fn line(&self) -> Line {
        Line::to(self.kind, self.socket.clone(), self.stop.clone())
    }

    /// What it uses now. Where no controller counts kernel memory, that is the page tables alone.
    pub(crate) fn memory(&self) -> Result<Memory, BenchError> {
        let status = process::status(self.pid()).map_err(BenchError::system("read a worker's status"))?;
        let kernel_bytes = self.cgroup.usage().map_or(0, |usage| usage.kernel_bytes);
        let kernel_bytes = kernel_bytes.max(status.page_table_bytes);
        Ok(Memory { private_bytes: status.anonymous_bytes, kernel_bytes })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A killed process that is frozen dies as well (cgroup v2), or when its cgroup is removed (v1).
        if let Some(process) = &self.process {
            process.kill();
        }
        if let Err(error) = self.cgroup.remove() {
            tracing::warn!(%error, "a cgroup of the bench remains");
        }
        if let Some(process) = self.process.take() {
            collect(&process);
        }
    }
}

/// Waits until a process that dies is dead and collected: by us, or by a node, which collects every orphan.
pub(crate) fn collect(process: &Process) {
    let started = Instant::now();
    while process.reap().is_none()
        && process::status(process.pid()).is_ok()
        && started.elapsed() < DEATH_TIMEOUT
    {
        std::thread::sleep(DEATH_LOOK_INTERVAL);
    }
}
