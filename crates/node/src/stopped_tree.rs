//! All processes of a sandbox in trace stops.

use std::cell::Cell;

use linux::process::Process;
use linux::trace::{RseqArea, Stopped};

/// Dropping it lets the processes run on, or, once part of their memory is out, kills them first: so that no way out
/// of a function, errors and panics included, lets a process run on without its memory.
pub(crate) struct StoppedTree {
    processes: Vec<Stopped>,
    memory_is_out: Cell<bool>,
}

impl StoppedTree {
    pub(crate) fn new(processes: Vec<Stopped>) -> StoppedTree {
        StoppedTree { processes, memory_is_out: Cell::new(false) }
    }

    pub(crate) fn processes(&self) -> &[Stopped] {
        &self.processes
    }

    pub(crate) fn rseq_areas(&self) -> Vec<RseqArea> {
        self.processes.iter().flat_map(Stopped::rseq_areas).collect()
    }

    /// From now on, dropping kills.
    pub(crate) fn memory_leaves(&self) {
        self.memory_is_out.set(true);
    }

    /// Lets the processes go on their way: their memory is back, or the freezer waits for them.
    pub(crate) fn release(self) {
        self.memory_is_out.set(false);
    }

    /// Whether a process died while it was held. The kernel tells nobody before we have let go of all its threads.
    pub(crate) fn has_died(&self) -> bool {
        let dead =
            |pid| linux::process::status(pid).map_or(true, |status| matches!(status.state, Some('Z' | 'X')));
        self.processes.iter().any(|stopped| dead(stopped.pid()))
    }
}

impl Drop for StoppedTree {
    fn drop(&mut self) {
        if self.memory_is_out.get() {
            for stopped in &self.processes {
                // A process in a trace stop that is killed dies before it executes anything.
                if let Ok(process) = Process::open(stopped.pid()) {
                    process.kill();
                }
            }
        }
    }
}
