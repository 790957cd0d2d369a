//! What the soak could leave behind in this process and on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use linux::process;

/// Threads of a node that is gone end within a second.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What we have: descriptors by what they are, threads, children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Belongings {
    descriptors: Vec<String>,
    threads: usize,
    children: BTreeSet<i32>,
}

impl Belongings {
    /// Looks.
    pub(super) fn now() -> Belongings {
        let me = std::process::id() as i32;
        let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().filter_map(Result::ok);
        // The one that reads the directory is gone when its name is read.
        let mut descriptors: Vec<_> = entries
            .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
            .filter(|name| *name != format!("/proc/{me}/fd"))
            .collect();
        descriptors.sort_unstable();
        let threads = process::threads(me).map_or(0, |threads| threads.len());
        Belongings { descriptors, threads, children: process::children(me).into_iter().collect() }
    }

    /// What there is more than `before`, after some time.
    pub(super) fn left_since(before: &Belongings, cgroups: &[PathBuf]) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let left = Belongings::now().more_than(before, cgroups);
            if left.is_empty() {
                return Ok(());
            }
            if started.elapsed() > GONE_WITHIN {
                return Err(left.join(", "));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn more_than(&self, before: &Belongings, cgroups: &[PathBuf]) -> Vec<String> {
        let mut left = Vec::new();
        if self.descriptors.len() > before.descriptors.len() {
            left.push(format!("descriptors {:?}, before {:?}", self.descriptors, before.descriptors));
        }
        if self.threads > before.threads {
            left.push(format!("{} threads, before {}", self.threads, before.threads));
        }
        left.extend(self.children.difference(&before.children).map(|pid| format!("process {pid}")));
        let cgroups = cgroups.iter().filter(|path| path.exists());
        left.extend(cgroups.map(|path| format!("cgroup {}", path.display())));
        left
    }
}

/// The directories right below one.
pub(super) fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_not_left_behind() {
        let before = Belongings { descriptors: vec!["a".to_owned()], threads: 2, children: [7].into() };
        assert_eq!(before.more_than(&before, &["/no/such/cgroup".into()]), [""; 0]);
        let after = Belongings { descriptors: vec!["a".to_owned(); 2], threads: 3, children: [7, 9].into() };
        let left = after.more_than(&before, &["/proc".into()]);
        assert_eq!(left[1..], ["3 threads, before 2", "process 9", "cgroup /proc"]);
        assert_eq!(left.len(), 4);
        assert_eq!(before.more_than(&after, &[]), [""; 0]);
    }
}
