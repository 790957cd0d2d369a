//! The node: all sandboxes of this machine, and what they share.

use std::path::PathBuf;

use protocol::{NodeRecord, SandboxId};

use crate::{LaunchError, LaunchSpec, Sandbox};

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where the node keeps what must outlive it: the record of its cgroups, the layout secrets.
    pub data_dir: PathBuf,
    /// The executable that watches over this process and kills its sandboxes when it dies, called as
    /// `GUARD guard …`. `None`: no guard, for tests of single steps.
    pub guard: Option<PathBuf>,
    /// Threads that fill one waking sandbox.
    pub fill_threads: usize,
    /// Sandboxes that may fall asleep at the same time.
    pub sleep_slots: usize,
    /// Sandboxes with more private memory than this wake lazily: recorded working set, thaw, the rest by fault
    /// and in the background. Smaller ones are filled before the thaw.
    pub lazy_above_bytes: u64,
}

/// The node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Another node uses the same data directory.
    #[error("{path:?} is in use by another dormouse: stop it, or name another --data directory")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("use {path:?} as data directory")]
    DataDir {
        /// The data directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Memory for the page store cannot be had.
    #[error("set up the page store")]
    Store {
        /// What the system said.
        source: std::io::Error,
    },
}

/// All sandboxes of this process. Cloning gives another handle to the same node.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// Cleans up after a dead node of the same data directory, then starts.
    pub fn start(_config: NodeConfig) -> Result<Node, NodeError> {
        todo!()
    }

    /// Starts a sandbox. Blocks for the time of a fork and exec.
    pub fn launch(&self, _spec: LaunchSpec) -> Result<Sandbox, LaunchError> {
        todo!()
    }

    /// Every sandbox that is not gone, by id.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        todo!()
    }

    /// The sandbox of this id, if it is not gone.
    pub fn sandbox(&self, _id: SandboxId) -> Option<Sandbox> {
        todo!()
    }

    /// Totals. Reads `/proc` for each sandbox: milliseconds, so not from an async task.
    pub fn record(&self) -> NodeRecord {
        todo!()
    }

    /// Kills every sandbox and removes their cgroups. Returns when nothing is left. Blocking.
    pub fn shutdown(&self) {
        todo!()
    }
}
