//! One machine's sandboxes: launched, put to sleep, woken, accounted for. Who is to sleep, and when, is not
//! decided here: that is `brain`.

#![forbid(unsafe_code)]

mod account;
mod asleep;
mod base;
mod batch;
mod body;
mod data_dir;
mod dedup;
mod driver;
mod encode;
mod family;
mod guard;
mod jobs;
pub mod ksm;
mod launch;
mod launch_spec;
mod lazy;
mod lazy_space;
mod leftovers;
mod likeness;
mod lineage;
mod mailbox;
mod memory_hash;
mod merge;
mod node;
mod node_config;
mod outsiders;
mod parallel;
mod patient;
mod ranges;
mod regroup;
mod remaining;
mod restore;
mod sandbox;
mod shadow;
mod slots;
mod source;
mod stopped_tree;
mod survey;
mod unwatch;
mod working_set;

pub use data_dir::instance_name;
pub use guard::{KsmGuard, run as run_guard};
pub use launch_spec::{
    CellSpec, Exit, LaunchError, LaunchSpec, Layout, Limits, Network, NetworkError, Output, Port, Sharing,
    Sockets, View, Witness, listen_anywhere,
};
pub use merge::{Advice, AdviceCounts};
pub use node::{Node, NodeError};
pub use node_config::{FillBy, NodeConfig, StopBy};
pub use sandbox::{CheckError, Peer, Sandbox, SleepError, WakeError};
use working_set::WorkingSet;

/// The store of a node: its pages lie in memory files.
type PageStore = pages::Store<linux::arena::MemfdArena>;

/// An error and what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
