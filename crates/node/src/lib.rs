//! One machine's sandboxes: launched, put to sleep, woken, accounted for. Who is to sleep, and when, is not
//! decided here: that is `brain`.

mod launch_spec;
mod node;
mod sandbox;

pub use launch_spec::{Exit, LaunchError, LaunchSpec, Layout, Limits, Output, Sharing};
pub use node::{Node, NodeConfig, NodeError};
pub use sandbox::{CheckError, Sandbox, SleepError, WakeError};
