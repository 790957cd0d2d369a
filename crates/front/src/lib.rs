//! The Lambda-compatible HTTP door: functions from folders and functions that clients deploy, invoked over HTTP, served to their sandboxes through
//! the Runtime API; and the operator's socket.
//!
//! What is to happen to which sandbox is decided by `brain` and done by `node`; `dispatch` stands between them.

mod access;
mod admin;
#[cfg(test)]
mod asking;
mod aws_error;
mod base64;
mod body;
mod catalogue;
mod client;
mod connections;
mod control;
mod deploy;
mod digest;
mod dispatch;
mod door;
#[cfg(test)]
mod double;
mod entrypoint;
mod event_queue;
mod event_stream;
mod extension_files;
mod function_toml;
mod function_url;
mod functions;
mod hands;
mod in_lambdas_words;
mod invoke;
mod isolation;
mod keys;
mod launch;
mod log;
mod log_store;
mod metrics;
mod names;
mod openapi;
mod outcome;
mod output;
mod promises;
mod python;
mod response_stream;
mod room;
mod runtime_api;
mod secret;
mod server;
mod sigv4;
mod socket;
mod stream;
mod watch;

pub use self::catalogue::{Alias, Revision, Version};
pub use base64::encode as base64;
pub use brain::Provisioned;
pub use client::{Client, ClientError, LambdaAnswer};
pub use control::DeployedError;
pub use deploy::Deployer;
pub use event_queue::InvalidDestination;
pub use function_toml::{LayoutChoice, Runtime, SharingScope};
pub use function_url::{Cors, InvokeMode, UrlAuth, UrlSettings};
pub use functions::{Catalogue, CatalogueError, Function, load_function};
pub use isolation::Isolation;
pub use keys::{Key, Keys, KeysError};
pub use launch::DataDirError;
pub use openapi::openapi;
pub use promises::{Allowance, LimitError};
pub use secret::program_layout;
pub use server::{Server, ServerConfig, ServerError};
pub use socket::SocketError;
