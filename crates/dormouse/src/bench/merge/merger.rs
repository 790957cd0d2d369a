//! What all ways to merge have in common, and the two that are not KSM.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{ksm, processor_time};
use crate::bench::error::BenchError;

/// A way to keep equal pages of running processes once. Dropping it leaves nothing that it set.
pub(super) trait Merger {
    /// Whether the processes must be marked for KSM from their first page on.
    fn marks_at_start(&self) -> bool {
        false
    }

    /// From here on it merges the private memory of these processes. Returns at once.
    fn begin(&mut self, pids: &[i32]) -> Result<(), BenchError>;

    /// What it has saved so far: pages beyond the first of each.
    fn shared_bytes(&mut self) -> Result<u64, BenchError>;

    /// How often it has been through all memory: where nothing came in some of these, nothing will.
    fn rounds(&mut self) -> Result<u64, BenchError>;

    /// The processor time that it has used so far. `None`: nobody tells.
    fn cpu(&mut self) -> Option<Duration>;

    /// The processes are dead: it forgets them.
    fn end(&mut self) -> Result<(), BenchError>;
}

/// Ours, on processes that it does not know: `dormouse merge PID…`, which lets KSM do it, on what it chooses.
pub(super) struct OurCommand {
    child: Option<Child>,
    /// The kernel's thread that works for us, and what it had used before.
    thread: Option<i32>,
    /// Once it has ended.
    used: Option<Duration>,
}

impl OurCommand {
    pub(super) fn new() -> OurCommand {
        OurCommand { child: None, thread: ksm::thread(), used: None }
    }

    /// Whether it has ended; what it used is known then. An error if it failed.
    fn has_ended(&mut self) -> Result<bool, BenchError> {
        let Some(child) = &mut self.child else { return Ok(true) };
        let pid = child.id() as i32;
        let is_dead = linux::process::status(pid).map_or(true, |status| status.state == Some('Z'));
        if !is_dead {
            return Ok(false);
        }
        self.used = processor_time::of_process(pid); // Its numbers go when it is collected.
        let status = child.wait().map_err(BenchError::system("collect `dormouse merge`"))?;
        self.child = None;
        match status.success() {
            true => Ok(true),
            false => Err(BenchError::Ours { doing: "dormouse merge", said: status.to_string() }),
        }
    }
}

impl Merger for OurCommand {
    fn begin(&mut self, pids: &[i32]) -> Result<(), BenchError> {
        let program = std::env::current_exe().map_err(BenchError::system("find this program"))?;
        let mut command = Command::new(program);
        command.args(["merge", "--json"]).args(pids.iter().map(ToString::to_string));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.used = None;
        self.child = Some(command.spawn().map_err(BenchError::system("start `dormouse merge`"))?);
        Ok(())
    }

    fn shared_bytes(&mut self) -> Result<u64, BenchError> {
        ksm::shared_bytes()
    }

    fn rounds(&mut self) -> Result<u64, BenchError> {
        // When it has ended it is done, for good.
        self.has_ended().map(|has_ended| if has_ended { u64::MAX } else { 0 })
    }

    fn cpu(&mut self) -> Option<Duration> {
        let running = self.child.as_ref().map(|child| processor_time::of_process(child.id() as i32));
        let own = running.unwrap_or(self.used).unwrap_or_default();
        Some(own + processor_time::of_kernel_thread(self.thread?)?)
    }

    fn end(&mut self) -> Result<(), BenchError> {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // It may have ended.
            let _ = child.wait();
        }
        Ok(())
    }
}

impl Drop for OurCommand {
    fn drop(&mut self) {
        let _ = self.end(); // It is never an error.
    }
}
