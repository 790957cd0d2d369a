//! Waits that a signal ends: released, all of them but `sigtimedwait` return `EINTR`.

use std::io;
use std::time::{Duration, Instant};

use super::{FAR_SECS, Wait};
use crate::raw::{self, call};

/// What ends them.
const SIGNAL: libc::c_int = libc::SIGUSR2;

/// How far from the truth the remaining time of a sleep may be: a loaded machine may hold us up between two lines.
const REMAINING_WITHIN: Duration = Duration::from_secs(5);

/// The size of a signal set, as the kernel has it.
const SET_BYTES: usize = size_of::<u64>();

extern "C" fn nothing(_: libc::c_int) {}

/// Must be called once, before any of these waits.
pub(super) fn install_handlers() -> io::Result<()> {
    raw::handle(SIGNAL, nothing, 0)
}

pub(super) fn pause() -> io::Result<Wait> {
    // SAFETY: `pause` takes nothing.
    let wait = || unsafe { call(libc::SYS_pause, [0; 6]) }.map(|value| value.to_string());
    Ok(Wait { number: libc::SYS_pause, call: Box::new(wait), release: signal() })
}

pub(super) fn sigsuspend() -> io::Result<Wait> {
    let wait = || {
        raw::block_signal(SIGNAL)?;
        let nothing_blocked = 0u64;
        let args = [&raw const nothing_blocked as usize, SET_BYTES, 0, 0, 0, 0];
        // SAFETY: the kernel reads the set, which is ours for the length of the call.
        unsafe { call(libc::SYS_rt_sigsuspend, args) }.map(|value| value.to_string())
    };
    Ok(Wait { number: libc::SYS_rt_sigsuspend, call: Box::new(wait), release: signal() })
}

pub(super) fn sigtimedwait() -> io::Result<Wait> {
    let wait = || {
        raw::block_signal(SIGNAL)?;
        let set = 1u64 << (SIGNAL - 1);
        let far = libc::timespec { tv_sec: FAR_SECS, tv_nsec: 0 };
        let args = [&raw const set as usize, 0, &raw const far as usize, SET_BYTES, 0, 0];
        // SAFETY: the kernel reads the set and the timeout, ours for the length of the call.
        unsafe { call(libc::SYS_rt_sigtimedwait, args) }.map(|signal| format!("signal{signal}"))
    };
    Ok(Wait { number: libc::SYS_rt_sigtimedwait, call: Box::new(wait), release: signal() })
}

/// A relative sleep: the kernel restarts it with what remains, and says so when a signal ends it.
pub(super) fn nanosleep() -> io::Result<Wait> {
    let wait = || {
        let far = libc::timespec { tv_sec: FAR_SECS, tv_nsec: 0 };
        let mut left = far;
        let start = Instant::now();
        let args = [&raw const far as usize, &raw mut left as usize, 0, 0, 0, 0];
        // SAFETY: the kernel reads one time and writes the other, both ours for the length of the call.
        let outcome = unsafe { call(libc::SYS_nanosleep, args) };
        let left = Duration::new(left.tv_sec as u64, left.tv_nsec as u32);
        let total = start.elapsed() + left;
        let right = total.abs_diff(Duration::from_secs(FAR_SECS as u64)) < REMAINING_WITHIN;
        let text = outcome.map_or_else(|error| raw::errno_name(&error), |value| value.to_string());
        Ok(format!("{text}:{}", if right { "remaining-right" } else { "remaining-wrong" }))
    };
    Ok(Wait { number: libc::SYS_nanosleep, call: Box::new(wait), release: signal() })
}

pub(super) fn clock_nanosleep() -> io::Result<Wait> {
    let wait = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let then = libc::timespec { tv_sec: now.tv_sec + FAR_SECS, tv_nsec: 0 };
        let clock = libc::CLOCK_MONOTONIC as usize;
        let args = [clock, libc::TIMER_ABSTIME as usize, &raw const then as usize, 0, 0, 0];
        // SAFETY: the kernel reads the time, ours for the length of the call.
        unsafe { call(libc::SYS_clock_nanosleep, args) }.map(|value| value.to_string())
    };
    Ok(Wait { number: libc::SYS_clock_nanosleep, call: Box::new(wait), release: signal() })
}

fn signal() -> Box<dyn FnOnce(i32) -> io::Result<()>> {
    Box::new(|tid| match raw::signal_thread(tid, SIGNAL) {
        // The thread has just returned by itself: its report says what.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        outcome => outcome,
    })
}
