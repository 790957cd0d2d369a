//! How a node is set up.

use std::path::PathBuf;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where the node keeps what must outlive it: its lock, and a record of its sandboxes for the next start.
    pub data_dir: PathBuf,
    /// The executable that watches over this process and kills its sandboxes when it dies, called as `GUARD guard`, and
    /// builds cells, called as `GUARD inside`. `None`: no guard and no cells, for tests of single steps.
    pub guard: Option<PathBuf>,
    /// Threads that fill one waking sandbox.
    pub fill_threads: usize,
    /// Sandboxes that may fall asleep at the same time.
    pub sleep_slots: usize,
    /// Sandboxes with more private memory than this wake lazily: recorded working set, thaw, the rest by fault
    /// and in the background. Smaller ones are filled before the thaw.
    pub lazy_above_bytes: u64,
    /// When more sandboxes of one function version sleep for each that is base of the others, the next one becomes
    /// another base.
    pub sleepers_per_base: usize,
    /// How sleeping processes are held.
    pub stop_by: StopBy,
    /// How memory comes back.
    pub fill_by: FillBy,
}

/// How sleeping processes are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopBy {
    /// The best this machine offers.
    #[default]
    Best,
    /// The freezer of cgroup version 1.
    CgroupV1,
    /// Trace stops: all that an ordinary user has.
    Ptrace,
}

/// How memory comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FillBy {
    /// By userfaultfd where the kernel lets us serve faults of system calls, else by writing.
    #[default]
    Best,
    /// The same without `/dev/userfaultfd`, as before Linux 6.1: sandboxes without rights are filled by writing.
    Call,
    /// By writing, all of it before the process runs.
    Write,
}

impl NodeConfig {
    /// The usual settings.
    pub fn new(data_dir: PathBuf) -> NodeConfig {
        NodeConfig {
            data_dir,
            guard: None,
            fill_threads: fill_threads(),
            sleep_slots: 1,
            lazy_above_bytes: 4 << 20,
            sleepers_per_base: 40, // As Medes has it.
            stop_by: StopBy::Best,
            fill_by: FillBy::Best,
        }
    }
}

/// As many as there are processors, within reason: who waits for its memory has nothing else to do with them.
fn fill_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get().clamp(2, 4))
}
