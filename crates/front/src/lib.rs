//! The Lambda-compatible HTTP door: functions from folders, invoked over HTTP, served to their sandboxes through
//! the Runtime API; and the operator's socket.
//!
//! What is to happen to which sandbox is decided by `brain` and done by `node`; `dispatch` stands between them.

mod admin;
mod aws_error;
mod base64;
mod body;
mod catalogue;
mod client;
mod deploy;
mod digest;
mod dispatch;
#[cfg(test)]
mod double;
mod function_toml;
mod functions;
mod hands;
mod invoke;
mod isolation;
mod launch;
mod log;
mod metrics;
mod names;
mod outcome;
mod output;
mod python;
mod runtime_api;
mod secret;
mod server;
mod socket;

pub use catalogue::{Alias, Revision, Version};
pub use client::{Client, ClientError};
pub use deploy::Deployer;
pub use function_toml::{LayoutChoice, Runtime, SharingScope};
pub use functions::{Catalogue, CatalogueError, Function, load_function};
pub use isolation::Isolation;
pub use launch::DataDirError;
pub use secret::program_layout;
pub use server::{Server, ServerConfig, ServerError};
pub use socket::SocketError;
