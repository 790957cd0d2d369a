//! What the crate promises to those who use it, through its public interface alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod crash;
mod damage;
mod model;
mod record;
mod tree;
