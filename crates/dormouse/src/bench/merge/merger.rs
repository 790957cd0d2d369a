//! What all ways to merge have in common, and the two that are not KSM.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{ksm, processor_time};
use crate::bench::error::{BenchError, with_causes};

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
#[derive(Default)]
pub(super) struct OurCommand {
    child: Option<Child>,
    /// Processor time of those that have ended.
    used: Duration,
}

impl OurCommand {
    /// Whether it has ended. An error if it failed.
    fn has_ended(&mut self) -> Result<bool, BenchError> {
        let Some(child) = &mut self.child else { return Ok(true) };
        let pid = child.id() as i32;
        if linux::process::status(pid).is_ok_and(|status| status.state != Some('Z')) {
            return Ok(false);
        }
        self.used += processor_time::of_process(pid).unwrap_or_default(); // Its numbers go when it is collected.
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
        self.child = Some(command.spawn().map_err(BenchError::system("start `dormouse merge`"))?);
        Ok(())
    }

    fn shared_bytes(&mut self) -> Result<u64, BenchError> {
        Ok(ksm::counters()?.saved_bytes())
    }

    fn rounds(&mut self) -> Result<u64, BenchError> {
        // When it has ended it is done, for good.
        self.has_ended().map(|has_ended| if has_ended { u64::MAX } else { 0 })
    }

    fn cpu(&mut self) -> Option<Duration> {
        let running = self.child.as_ref().and_then(|child| processor_time::of_process(child.id() as i32));
        Some(self.used + running.unwrap_or_default() + linux::ksm::ksmd_time()?)
    }

    fn end(&mut self) -> Result<(), BenchError> {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // It may have ended.
            let _ = child.wait();
        }
        ksm::tidy()
    }
}

impl Drop for OurCommand {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("what was merged could not be tidied up: {}", with_causes(&error));
        }
    }
}
