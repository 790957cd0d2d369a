//! A sandbox whose memory is out.

use std::sync::Arc;

use linux::trace::RseqArea;
use linux::userfault::Userfault;
use pages::Manifest;

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
    /// Ranges whose missing pages wait for us.
    pub(crate) watched: Vec<(u64, u64)>,
    /// Fills them, with the descriptor's number in the process. `None`: they are filled by writing.
    pub(crate) userfault: Option<(Userfault, i32)>,
}
