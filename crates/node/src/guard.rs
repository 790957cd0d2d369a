//! The guard: a small process that outlives the node by a moment, and kills the sandboxes of a node that died.
//!
//! While the node lives it holds the writing end of a pipe and tells the guard what there is to clean up. When the
//! node dies, however it dies, the kernel closes the pipe. The guard knows nothing of pages: sandboxes that sleep
//! are frozen and their missing pages are poisoned, those that are filling wait at their userfaultfd, which is open
//! in the sandbox itself. So nothing runs on wrong bytes before the guard has done its work, nor if it never does.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// The node's end: tells the guard what to clean up.
pub(crate) struct Guard {
    program: PathBuf,
    said: Mutex<Said>,
}

struct Said {
    /// Everything said so far, to say again to a new guard when one was killed.
    things: BTreeSet<String>,
    /// The guard and the pipe to it; `None` while there is none.
    process: Option<(Child, ChildStdin)>,
}

impl Guard {
    /// Starts `PROGRAM guard`.
    pub(crate) fn start(program: &Path) -> io::Result<Guard> {
        let process = spawn(program)?;
        let said = Said { things: BTreeSet::new(), process: Some(process) };
        Ok(Guard { program: program.to_owned(), said: Mutex::new(said) })
    }

    /// Process id of the guard, while there is one.
    pub(crate) fn pid(&self) -> Option<i32> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.process.as_ref().map(|(child, _)| child.id() as i32)
    }

    /// When the node dies: kill everything in this cgroup, and remove it.
    pub(crate) fn watch_tree(&self, directory: &Path) {
        self.say(true, &format!("tree {}", directory.display()));
    }

    /// When the node dies: kill this process group.
    pub(crate) fn watch_group(&self, pid: i32) {
        self.say(true, &format!("group {pid}"));
    }

    /// The process group is gone: its number may come to mean another one.
    pub(crate) fn forget_group(&self, pid: i32) {
        self.say(false, &format!("group {pid}"));
    }

    fn say(&self, watch: bool, what: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Said { things, process } = &mut *said;
        let new = if watch { things.insert(what.to_owned()) } else { things.remove(what) };
        if !new {
            return;
        }
        let line = format!("{} {what}\n", if watch { '+' } else { '-' });
        let told = process.as_mut().is_some_and(|(_, pipe)| pipe.write_all(line.as_bytes()).is_ok());
        if !told {
            *process = self
                .replace(things)
                .map_err(|error| tracing::error!(%error, "the guard died and cannot be replaced"))
                .ok();
        }
    }

    /// A new guard that knows all that the old one knew.
    fn replace(&self, things: &BTreeSet<String>) -> io::Result<(Child, ChildStdin)> {
        tracing::warn!("the guard died; starting another");
        let (child, mut pipe) = spawn(&self.program)?;
        things.iter().try_for_each(|thing| writeln!(pipe, "+ {thing}"))?;
        Ok((child, pipe))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let said = self.said.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((mut child, pipe)) = said.process.take() {
            drop(pipe); // It cleans up what is still there, and ends.
            let _ = child.wait();
        }
    }
}

fn spawn(program: &Path) -> io::Result<(Child, ChildStdin)> {
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C must end the node first.
    command.arg("guard").stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut child = command.spawn()?;
    let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((child, pipe))
}

/// The guard's own life: listens until the node is dead, then cleans up.
pub fn run(input: impl BufRead) -> io::Result<()> {
    let mut things = BTreeSet::new();
    for line in input.lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("+", thing)) => things.insert(thing.to_owned()),
            Some(("-", thing)) => things.remove(thing),
            _ => false,
        };
    }
    let mut result = Ok(());
    for thing in things {
        match thing.split_once(' ') {
            Some(("group", pid)) => {
                if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                    let _ = kill_process_group(pid, Signal::KILL); // ESRCH: it is dead, as it should be.
                }
            }
            Some(("tree", place)) => result = linux::cgroup::remove_tree(Path::new(place)).and(result),
            _ => {}
        }
    }
    result
}
