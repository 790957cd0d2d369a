//! One process that is to be merged: whether it can be, and what became of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;

use linux::process::{self, Rollup};
use linux::{ksm, maps};
use merge::{Choice, Index};
use node::ksm::{Looked, Marked, MergeError};

use super::show::Process;
use crate::failure::Failure;

/// A process, and how far it is.
pub(super) struct Subject {
    pid: i32,
    name: String,
    before: Rollup,
    looked: Option<Looked>,
    marked: Marked,
    problem: Option<String>,
}

impl Subject {
    /// Looks at its memory, and puts that into the index.
    pub(super) fn look(pid: i32, index: &mut Index, give_up: &dyn Fn() -> bool) -> Subject {
        let name = name(pid);
        let before = process::rollup(pid).unwrap_or_default(); // One that is dead has a problem all the same.
        let (looked, problem) = match node::ksm::look(pid, index, give_up) {
            Ok(looked) => (Some(looked), None),
            Err(error) => {
                index.forget(pid);
                (None, Some(told(&error)))
            }
        };
        Subject { pid, name, before, looked, marked: Marked::default(), problem }
    }

    /// Marks what has an equal.
    pub(super) fn mark(&mut self, index: &Index, choice: &Choice, give_up: &dyn Fn() -> bool) {
        let Some(looked) = &self.looked else { return };
        let mappings: Vec<_> = looked.mappings.iter().map(maps::Mapping::range).collect();
        let ranges = choice.ranges(&index.candidates(self.pid), &mappings);
        match node::ksm::mark(self.pid, looked, &ranges, give_up) {
            Ok(marked) => self.marked = marked,
            Err(error) => self.problem = Some(told(&error)),
        }
    }

    /// How it stands now.
    pub(super) fn result(self) -> Process {
        let now = process::rollup(self.pid).unwrap_or_default(); // It may have ended.
        let merged = ksm::merged(self.pid).unwrap_or_default();
        Process {
            pid: self.pid,
            name: self.name,
            rss_bytes: now.rss_bytes,
            pss_before_bytes: self.before.pss_bytes,
            pss_bytes: now.pss_bytes,
            private_bytes: self.looked.map_or(0, |looked| looked.pages * 4096),
            marked_bytes: self.marked.pages * 4096,
            marked_ranges: self.marked.ranges,
            merged_bytes: merged.pages * 4096,
            profit_bytes: merged.profit_bytes,
            longest_stop_us: self.marked.longest_stop.as_micros() as u64,
            problem: self.problem,
        }
    }
}

/// The processes that are meant. Fails where one cannot be merged for a reason that will not pass.
pub(super) fn find(named: &[i32], with_children: bool) -> Result<Vec<i32>, Failure> {
    named.iter().try_for_each(|pid| check(*pid))?;
    let tree = |pid: &i32| if with_children { process::tree(*pid) } else { vec![*pid] };
    let all: BTreeSet<i32> = named.iter().flat_map(tree).collect();
    Ok(all.into_iter().collect())
}

fn check(pid: i32) -> Result<(), Failure> {
    let refuse =
        |why: &str, hint: &str| Err(Failure::new(format!("{} {why}", process::named(pid))).hint(hint));
    let Ok(status) = process::status(pid) else {
        return Err(Failure::new(format!("there is no process {pid}")).hint("`ps -e` lists all"));
    };
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    match status.state {
        _ if pid == std::process::id() as i32 => refuse("is this command itself", "name others"),
        Some('Z' | 'X') => refuse("is dead", "name one that runs"),
        Some('T') => refuse("is stopped", "let it go on first: kill -CONT"),
        _ if cgroup.contains("/dormouse-") => {
            refuse("is a sandbox of a dormouse server", "the server alone may stop it")
        }
        _ if fs::read(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.is_empty()) => {
            refuse("is one of the kernel's, and has no memory of its own", "name one that runs a program")
        }
        _ if status.tracer != 0 => {
            refuse(&format!("is traced by process {}", status.tracer), "end the debugger, or strace, first")
        }
        _ if is_32_bit(pid) => refuse("is a 32-bit program", "64-bit programs can be merged"),
        _ => Ok(()),
    }
}

/// As the head of its program says.
fn is_32_bit(pid: i32) -> bool {
    let mut head = [0; 5];
    let read = File::open(format!("/proc/{pid}/exe")).and_then(|mut program| program.read_exact(&mut head));
    read.is_ok() && head == [0x7f, b'E', b'L', b'F', 1]
}

/// The program without its folder, and its first argument that is no option, as far as they say something.
fn name(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split('\0').filter(|word| !word.is_empty());
    let last = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let program = words.next().map(last).unwrap_or_default();
    let argument = words.find(|word| !word.starts_with('-')).map(last);
    argument.map_or(program.clone(), |argument| format!("{program} {argument}"))
}

/// An error with its causes, in a line.
pub(super) fn told(error: &MergeError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_merged_is_refused_with_a_reason() {
        let refused = |pid| find(&[pid], false).unwrap_err().text();
        assert!(refused(i32::MAX).contains("there is no process"));
        assert!(refused(std::process::id() as i32).contains("this command itself"));
        assert!(!is_32_bit(std::process::id() as i32));
    }

    #[test]
    fn processes_are_found_once_and_with_their_children() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let pid = child.id() as i32;
        let both = || find(&[pid, pid], true).unwrap();
        while both().len() < 2 {
            std::thread::yield_now();
        }
        assert_eq!(find(&[pid, pid], false).unwrap(), [pid]);
        for pid in both() {
            process::Process::open(pid).unwrap().kill();
        }
        child.wait().unwrap();
    }
}
