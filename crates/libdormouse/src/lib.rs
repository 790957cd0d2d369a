//! What programs call to have their memory merged. `include/dormouse.h` says what each function does.
//!
//! This runs inside of other people's programs, from any thread, between `fork` and `exec`, and in signal handlers that
//! interrupt itself: it takes no lock, allocates nothing, keeps no descriptor open (a program may close all that it does not
//! know, and get its number for something else), never waits, and leaves everything but its own counters as it found it.
//!
//! Beside `linux` the only crate that is shipped with `unsafe`: a C ABI is made of pointers.

#![allow(unsafe_code)]

mod abi;
mod agent;
mod counters;
#[cfg(not(test))] // The tests' own `madvise` is to be the C library's.
mod interpose;
mod send;
