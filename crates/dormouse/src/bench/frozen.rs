//! The measure for the others: the worker is stopped and all its memory stays. By the cgroup freezer, or by
//! SIGSTOP where there is none.

use std::io;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::error::BenchError;
use super::keep::{Asleep, Keep, Woken, micros_since};
use super::worker::Worker;
use super::workshop::{Kind, Workshop};

/// A worker that is frozen and thawed.
pub(crate) struct Frozen {
    worker: Worker,
}

impl Frozen {
    /// Starts a worker and waits until it is warm.
    pub(crate) fn start(workshop: &Workshop, kind: Kind) -> Result<Frozen, BenchError> {
        let worker = workshop.start(kind, "frozen", true)?;
        worker.line().ask_when_ready(0)?.answer()?;
        Ok(Frozen { worker })
    }
}

impl Keep for Frozen {
    fn sleep(&mut self) -> Result<Asleep, BenchError> {
        let started = Instant::now();
        freeze(&self.worker)?;
        let sleep_us = Some(micros_since(started));
        let memory = self.worker.memory()?;
        let kept_bytes = memory.private_bytes + memory.kernel_bytes;
        Ok(Asleep { warm_bytes: memory.private_bytes, kept_bytes, kept_parts: None, sleep_us })
    }

    fn wake(&mut self, number: u64) -> Result<Woken, BenchError> {
        let asked = self.worker.line().ask(number)?;
        let started = Instant::now();
        thaw(&self.worker)?;
        let answer = asked.answer()?;
        Ok(Woken { wake_us: micros_since(started), answer })
    }
}

/// Stops a worker and waits until it stands still.
pub(super) fn freeze(worker: &Worker) -> Result<(), BenchError> {
    let frozen = match worker.cgroup.can_freeze() {
        true => worker.cgroup.freeze(),
        false => signal(worker, Signal::STOP).and_then(|()| wait_for_stop(worker)),
    };
    frozen.map_err(BenchError::system("freeze a worker"))
}

/// Lets it run.
pub(super) fn thaw(worker: &Worker) -> Result<(), BenchError> {
    let thawed = match worker.cgroup.can_freeze() {
        true => worker.cgroup.thaw(),
        false => signal(worker, Signal::CONT),
    };
    thawed.map_err(BenchError::system("thaw a worker"))
}

fn signal(worker: &Worker, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(worker.pid()).ok_or(io::ErrorKind::NotFound)?;
    kill_process(pid, signal).map_err(io::Error::from)
}

/// A stop reaches a thread when it next enters the kernel: microseconds. Looks often, and not for ever.
fn wait_for_stop(worker: &Worker) -> io::Result<()> {
    const LOOKS_MAX: u32 = 100_000;
    for _ in 0..LOOKS_MAX {
        if linux::process::status(worker.pid())?.state == Some('T') {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(io::ErrorKind::TimedOut.into())
}
