//! What the crate promises to those who use it, through its public interface alone.

#![allow(clippy::unwrap_used)] // The lint lets tests unwrap, but not what tests call.

mod alike;
mod damage;
mod hot;
mod specimen;
mod store;
mod threads;
