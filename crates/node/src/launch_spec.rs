//! What a sandbox is made from.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use linux::cell::{Network, NetworkError, Port, Sockets, View, listen_anywhere};
pub use linux::socket_owner::Witness;
use protocol::{Depth, Merge};

/// A program to run as a sandbox.
#[derive(Debug)]
pub struct LaunchSpec {
    /// What `ps` calls it: the function's name, or the command.
    pub name: String,
    /// The executable: a path, or a name to look up in `PATH`.
    pub program: OsString,
    /// Arguments after the program's name.
    pub args: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; the node's own when absent.
    pub cwd: Option<PathBuf>,
    /// What it may use.
    pub limits: Limits,
    /// Where its memory lies.
    pub layout: Layout,
    /// With whom its pages may be shared.
    pub sharing: Sharing,
    /// How deep it sleeps.
    pub depth: Depth,
    /// What of it may be merged while it is awake. Nothing, if its pages are not shared.
    pub merge: Merge,
    /// What it sees of the machine. `None`: all that we see, and it has our rights.
    pub cell: Option<CellSpec>,
    /// Where its standard output goes.
    pub stdout: Output,
    /// Where its standard error goes.
    pub stderr: Output,
}

impl LaunchSpec {
    /// What holds: who shares with nobody has nothing to merge, whatever else was said.
    pub(crate) fn merge_in_effect(&self) -> Merge {
        match self.sharing {
            Sharing::None => Merge::Off,
            Sharing::Domain(_) => self.merge,
        }
    }
}

/// A cell for one sandbox: namespaces, a user and a root of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellSpec {
    /// What it sees beside the system's programs and libraries, read-only.
    pub views: Vec<View>,
    /// Size of its `/tmp`, which is memory: it counts beside the limit of memory.
    pub tmp_bytes: u64,
    /// Which network it has.
    pub network: Network,
    /// If its network is its own: a port of its loopback address at which somebody outside is to listen, see
    /// `Sandbox::take_sockets`.
    pub port: Option<Port>,
}

/// Limits of one sandbox. `None` leaves the machine's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the whole tree, page cache included; needs a memory controller.
    pub memory_bytes: Option<u64>,
    /// Processes and threads of the whole tree; needs a pids controller.
    pub processes: Option<u64>,
    /// Largest file it may write.
    pub file_bytes: Option<u64>,
    /// Open file descriptors, per process.
    pub open_files: Option<u64>,
}

/// Where the memory of a sandbox lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The same addresses for all sandboxes with the same secret, so that their pages are alike; another secret,
    /// other addresses.
    Pinned {
        /// From it the place of the libraries follows. Derive it per function version; never show it.
        secret: u64,
    },
    /// As the kernel would have it: each sandbox different.
    Random,
}

/// With whom a sandbox shares stored pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// With every sandbox of the same domain (a tenant, a function version).
    Domain(String),
    /// With nobody, itself excepted.
    None,
}

/// Where an output stream goes.
#[derive(Debug)]
pub enum Output {
    /// To the node's own.
    Inherit,
    /// Nowhere.
    Discard,
    /// Into this descriptor.
    To(OwnedFd),
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It is dead, but how it died could not be learned.
    Unknown,
}

/// A sandbox could not be started; nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program cannot be run.
    #[error("start {program:?}")]
    Spawn {
        /// As it was given.
        program: OsString,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its cgroup cannot be made.
    #[error("make cgroup {path:?}")]
    Cgroup {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The node is shutting down.
    #[error("the node is shutting down")]
    ShuttingDown,
}
