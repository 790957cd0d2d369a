//! The hands on other processes: stop, read, inject, empty, fill, and what the kernel can do of it here.
//!
//! Of what is shipped, the only crate with `unsafe` beside `libdormouse`, which runs in programs of others. Each block holds
//! one operation and its proof; whatever changes another process carries a `TRACEE:` comment that says why that process is
//! safe. Nothing is decided here: that is `node`.

#![allow(unsafe_code)]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!(
    "dormouse drives ptrace and userfaultfd of Linux on x86-64; other machines are not supported yet"
);

pub mod advise;
pub mod arena;
pub mod carry;
pub mod cell;
pub mod cgroup;
pub mod datagrams;
#[doc(hidden)]
pub mod fuzzing;
pub mod heap;
pub mod inject;
pub mod ksm;
pub mod maps;
pub mod memory;
pub mod pagemap;
pub mod probe;
pub mod process;
mod seccomp;
pub mod socket_owner;
pub mod spawn;
mod sys;
pub mod trace;
pub mod userfault;
pub mod userfault_device;
