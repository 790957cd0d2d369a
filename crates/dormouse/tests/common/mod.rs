//! The real program, from outside: a folder of the test's own, a server in it, and what asks that server.
//! All that a test starts stands in its folder, which is how what it leaves behind is found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.
#![allow(dead_code, unused_imports)] // Each test binary uses some of it.

mod ground;
mod http;
mod program;
mod scenario;
mod server;

use std::time::{Duration, Instant};

pub(crate) use ground::Ground;
pub(crate) use http::Reply;
pub(crate) use program::{NOBODY, Ran, Running, python_of_nobody, run};
pub(crate) use scenario::{play, play_with, scenario};
pub(crate) use server::{Server, Setup, invoke_at};

/// How long a change of state may take: a loaded machine imports pandas in 20 s.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `done` says so.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    assert!(comes_true(WITHIN, &mut done), "never: {what}");
}

/// Whether `done` says so in time.
pub(crate) fn comes_true(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}
