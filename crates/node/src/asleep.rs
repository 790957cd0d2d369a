//! A sandbox whose memory is out.

use std::sync::Arc;

use linux::trace::RseqArea;
use linux::userfault::Userfault;
use pages::{Manifest, PageRange};

use crate::memory_hash::MemoryHash;
use crate::stopped_tree::StoppedTree;

/// All that is needed to bring a sandbox back. Losing it means losing the sandbox: it must be killed.
pub(crate) struct Asleep {
    pub(crate) hold: Hold,
    pub(crate) spaces: Vec<Space>,
    /// Hash of all memory before it left, where one was asked for.
    pub(crate) hash: Option<MemoryHash>,
    /// Where the kernel itself writes; no part of the hash.
    pub(crate) rseq: Vec<RseqArea>,
    /// Whether it may run before all is back.
    pub(crate) lazy: bool,
    /// Whether pages stayed only because an invocation came: what a wake touches of them is not seen.
    pub(crate) is_partial: bool,
}

/// What keeps the processes from running.
pub(crate) enum Hold {
    /// The freezer of their cgroup.
    Frozen,
    /// Trace stops of this thread; if we die, the kernel kills them, and dropping this kills them as well.
    Traced(StoppedTree),
}

/// The address space of one process.
pub(crate) struct Space {
    pub(crate) pid: i32,
    pub(crate) manifest: Arc<Manifest>,
    /// Ranges whose missing pages wait for us: sorted, each in one mapping.
    pub(crate) watched: Vec<PageRange>,
    /// Fills them. `None`: they are filled by writing.
    pub(crate) planted: Option<Planted>,
    /// Will note which pages are written once all are back. `None`: it will not be known.
    pub(crate) writes: Option<Userfault>,
}

/// A userfaultfd that a process was made to create. It stays open there while the process runs with memory out, so
/// that faults wait even if we die.
pub(crate) struct Planted {
    pub(crate) userfault: Userfault,
    pub(crate) pid: i32,
    /// Its number in the process.
    pub(crate) fd: i32,
}

impl Planted {
    /// Whether the process still has it: a program may close what it does not know, and replaces itself by `exec`.
    pub(crate) fn is_there(&self) -> bool {
        let link = std::fs::read_link(format!("/proc/{}/fd/{}", self.pid, self.fd));
        link.is_ok_and(|to| to.as_os_str() == "anon_inode:[userfaultfd]")
    }
}

impl Space {
    /// Cuts a range so that each piece lies in one mapping: the kernel fills no other. All of it is watched.
    pub(crate) fn pieces(&self, range: PageRange) -> impl Iterator<Item = PageRange> {
        let first = self.watched.partition_point(|watched| watched.end() <= range.start());
        self.watched[first..].iter().map_while(move |watched| watched.intersect(range))
    }
}
