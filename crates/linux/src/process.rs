//! Facts about processes: who they are, who their children are, what they cost.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::sys;

/// A killed process needs microseconds, unless it waits for a disk.
const DIES_WITHIN: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A reference to a process that cannot come to mean another one.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// Refers to the process that has this number now. `ESRCH`: there is none.
    pub fn open(pid: i32) -> io::Result<Process> {
        Ok(Process { pid, fd: sys::pidfd_open(pid)? })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Kills it. Harmless when it is dead.
    pub fn kill(&self) {
        // ESRCH: it is dead already, which is what was wanted.
        let _ = rustix::process::pidfd_send_signal(&self.fd, Signal::KILL);
    }

    /// Collects it if it is a dead child of ours: its exit code, or the negative number of the signal.
    pub fn reap(&self) -> Option<i32> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.fd.as_fd()), options).ok()??;
        let code = status.exit_status();
        code.or_else(|| status.terminating_signal().map(|signal| -signal))
    }

    /// Kills a child of ours and collects it, or gives up after a while: then it hangs in the kernel. How it ended, as
    /// `reap` says it.
    pub fn kill_and_collect(&self) -> Option<i32> {
        self.kill();
        let dead = &mut [PollFd::new(self, PollFlags::IN)];
        // An error or the end of patience: it is collected if it can be.
        let _ = poll(dead, Some(&DIES_WITHIN));
        self.reap()
    }

    /// Our own copy of one of its descriptors.
    pub fn get_fd(&self, fd: i32) -> io::Result<OwnedFd> {
        sys::pidfd_getfd(self.fd.as_fd(), fd)
    }
}

impl AsFd for Process {
    /// Readable once the process is dead.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Numbers from `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Resident anonymous memory.
    pub anonymous_bytes: u64,
    /// Resident pages of files.
    pub file_bytes: u64,
    /// Resident shared memory.
    pub shared_bytes: u64,
    /// The most resident memory there ever was.
    pub peak_bytes: u64,
    /// Page tables.
    pub page_table_bytes: u64,
    /// Anonymous memory in swap.
    pub swap_bytes: u64,
    /// The process that traces it; 0 for none.
    pub tracer: i32,
    /// Threads.
    pub threads: u32,
    /// Its state, as the kernel's letter (`R`, `S`, `D`, `T`, `t`, `Z`, `X`).
    pub state: Option<char>,
    /// Its parent.
    pub parent: i32,
    /// Its user.
    pub user: Option<u32>,
}

/// Reads `/proc/PID/status`.
pub fn status(pid: i32) -> io::Result<Status> {
    Ok(parse_status(&fs::read(format!("/proc/{pid}/status"))?))
}

/// Understands `/proc/PID/status`; what is not there stays 0.
pub fn parse_status(text: &[u8]) -> Status {
    let text = String::from_utf8_lossy(text);
    let mut status = Status::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.split_ascii_whitespace().next().unwrap_or_default();
        let number = || value.parse::<u64>().unwrap_or(0);
        let bytes = || number().saturating_mul(1024);
        match key {
            "RssAnon" => status.anonymous_bytes = bytes(),
            "RssFile" => status.file_bytes = bytes(),
            "RssShmem" => status.shared_bytes = bytes(),
            "VmHWM" => status.peak_bytes = bytes(),
            "VmPTE" => status.page_table_bytes = bytes(),
            "VmSwap" => status.swap_bytes = bytes(),
            "TracerPid" => status.tracer = number() as i32,
            "Threads" => status.threads = number() as u32,
            "Uid" => status.user = value.parse().ok(),
            "State" => status.state = value.chars().next(),
            "PPid" => status.parent = number() as i32,
            _ => {}
        }
    }
    status
}

/// Numbers from `/proc/PID/smaps_rollup`: what a process has of memory that others have, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Resident memory, each page divided by those who have it.
    pub pss_bytes: u64,
    /// Pages that KSM has merged (Linux 6.7).
    pub ksm_bytes: u64,
}

/// Reads `/proc/PID/smaps_rollup`. Walks its page tables: some milliseconds for a large process.
pub fn rollup(pid: i32) -> io::Result<Rollup> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let bytes = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        number.unwrap_or(0).saturating_mul(1024)
    };
    Ok(Rollup { rss_bytes: bytes("Rss"), pss_bytes: bytes("Pss"), ksm_bytes: bytes("KSM") })
}

/// All processes that we see.
pub fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// A process for people: its number and its name.
pub fn named(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", name.trim())
}

/// The threads of a process.
pub fn threads(pid: i32) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    let number = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(number).collect())
}

/// The children of a process, all of its threads taken together; empty when it is dead.
pub fn children(pid: i32) -> Vec<i32> {
    threads(pid).unwrap_or_default().into_iter().flat_map(|thread| children_of_thread(pid, thread)).collect()
}

fn children_of_thread(pid: i32, thread: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Whether a process is to die as soon as it runs: `SIGKILL` waits for it.
pub fn is_killed(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let sets = text.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    let killed =
        |set: &str| u64::from_str_radix(set.trim(), 16).is_ok_and(|set| set >> (libc::SIGKILL - 1) & 1 == 1);
    sets.into_iter().any(killed)
}

/// A process and all its descendants that are alive, parents first.
pub fn tree(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        found.extend(children(found[at]));
        at += 1;
    }
    found.retain(|pid| status(*pid).is_ok_and(|status| !matches!(status.state, None | Some('Z' | 'X'))));
    found
}

/// Where a process keeps its command line: `ps` reads it there. First and last address.
pub fn command_line_place(pid: i32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; fields after it are numbers.
    let numbers: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| numbers.get(number - 3)?.parse::<u64>().ok();
    Some((field(48)?, field(49)?)).filter(|(start, end)| start < end)
}

/// Collects dead children of our first thread that nobody waits for: orphans of sandboxes are given to it when we
/// are their subreaper. `is_orphan` tells them from children that somebody waits for.
pub fn reap_orphans(is_orphan: impl Fn(i32) -> bool) {
    let us = std::process::id() as i32;
    for pid in children_of_thread(us, us) {
        let zombie = || status(pid).is_ok_and(|status| status.state == Some('Z'));
        if zombie()
            && is_orphan(pid)
            && let Some(pid) = Pid::from_raw(pid)
        {
            // It is dead: this returns at once, and takes no stop of a traced process from its tracer.
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
        }
    }
}

/// Makes orphans in our sandboxes our children, so that we can collect them.
pub fn become_subreaper() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_understood_and_nonsense_is_zero() {
        let text = b"State:\tS (sleeping)\nUid:\t7\t8\t9\t9\nPPid:\t12\nTracerPid:\t3\nRssAnon:\t     100 kB\nVmPTE: 8 kB\n";
        let status = parse_status(text);
        assert_eq!((status.state, status.parent, status.tracer, status.user), (Some('S'), 12, 3, Some(7)));
        assert_eq!((status.anonymous_bytes, status.page_table_bytes), (102_400, 8192));
        assert_eq!(parse_status(b"\xff\n:::\nRssAnon:\nVmPTE: x kB"), Status::default());
    }

    #[test]
    fn what_others_have_too_is_counted_less() {
        let us = rollup(std::process::id() as i32).unwrap();
        assert!(us.pss_bytes > 0 && us.pss_bytes <= us.rss_bytes, "{us:?}");
        assert!(all().contains(&(std::process::id() as i32)));
    }

    #[test]
    fn our_command_line_is_where_the_kernel_says() {
        let (start, end) = command_line_place(std::process::id() as i32).unwrap();
        let mut text = vec![0; (end - start) as usize];
        crate::memory::Memory::open(std::process::id() as i32).unwrap().read(start, &mut text).unwrap();
        assert_eq!(text, fs::read("/proc/self/cmdline").unwrap());
    }

    #[test]
    fn a_child_is_found_and_reaped() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap();
        assert!(tree(std::process::id() as i32).contains(&process.pid()));
        assert_eq!(process.reap(), None);
        process.kill();
        let fds = &mut [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        rustix::event::poll(fds, None).unwrap();
        assert_eq!(process.reap(), Some(-libc::SIGKILL));
        assert!(child.wait().is_err(), "it was collected already");
    }
}
