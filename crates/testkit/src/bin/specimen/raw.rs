//! The raw system calls that several specimens need, with their results as `io::Result`.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often to look whether something has come to pass.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long to wait for it; far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The value of a system call, or its error.
pub(crate) fn check(value: i64) -> io::Result<i64> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// As [`check`], for calls that return a C `int`.
pub(crate) fn check_int(value: libc::c_int) -> io::Result<i64> {
    check(value.into())
}

/// Runs `child` in a fork of this process, which then exits with what it returns.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<libc::pid_t> {
    // SAFETY: the child runs `child` alone and leaves by `_exit`; glibc's fork keeps `malloc` usable there.
    let pid = unsafe { libc::fork() };
    match check_int(pid)? {
        0 => {
            let code = child();
            // SAFETY: `_exit` takes a number and does not return.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid as libc::pid_t),
    }
}

/// Waits until process `pid` has ended; how it ended, as `wait(2)` encodes it.
pub(crate) fn wait(pid: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` is ours for the length of this call.
    check_int(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(status)
}

/// Waits until `done` says so. `what` names it, should it never come.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("waited {PATIENCE:?} in vain for {what}")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Name of an errno, as tests compare it.
pub(crate) fn errno_name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EINTR) => "EINTR".to_owned(),
        Some(libc::EFAULT) => "EFAULT".to_owned(),
        Some(libc::EAGAIN) => "EAGAIN".to_owned(),
        Some(libc::ETIMEDOUT) => "ETIMEDOUT".to_owned(),
        Some(number) => format!("errno{number}"),
        None => error.to_string().replace(' ', "_"),
    }
}

/// Makes system call `number`: its value, or its error.
///
/// # Safety
/// `args` must be what that call expects, and whatever they point to must last as long as the call.
pub(crate) unsafe fn call(number: libc::c_long, args: [usize; 6]) -> io::Result<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller answers for the arguments.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// Sends `signal` to one thread of this process.
pub(crate) fn signal_thread(tid: i32, signal: libc::c_int) -> io::Result<()> {
    let args = [std::process::id() as usize, tid as usize, signal as usize, 0, 0, 0];
    // SAFETY: `tgkill` takes numbers only.
    unsafe { call(libc::SYS_tgkill, args) }.map(drop)
}

/// Lets `handler` handle `signal`, with these `SA_…` flags.
pub(crate) fn handle(
    signal: libc::c_int,
    handler: extern "C" fn(libc::c_int),
    flags: libc::c_int,
) -> io::Result<()> {
    // SAFETY: all zeros is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = flags;
    // SAFETY: `action` is initialised; handlers here touch nothing but atomics.
    check_int(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
    Ok(())
}

/// Keeps `signal` from being delivered to the calling thread.
pub(crate) fn block_signal(signal: libc::c_int) -> io::Result<()> {
    let bits = 1u64 << (signal - 1);
    let args = [libc::SIG_BLOCK as usize, &raw const bits as usize, 0, size_of::<u64>(), 0, 0];
    // SAFETY: the kernel reads eight bytes at `bits`, which last.
    unsafe { call(libc::SYS_rt_sigprocmask, args) }.map(drop)
}

/// A pipe that no executed program inherits: what is written to the second comes out of the first.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
