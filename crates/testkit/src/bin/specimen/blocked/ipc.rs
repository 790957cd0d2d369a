//! Waits for other processes, and for queues that outlive a process.

use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{Wait, descriptors};
use crate::raw::{self, call};
use crate::uring::Ring;

/// A System V message: its kind, and its text.
#[repr(C)]
struct Message {
    kind: libc::c_long,
    text: [u8; 8],
}

/// System V queues outlive who made them, but not their namespace. Where we may not have one of our own, `msgrcv`
/// and `semop` are unavailable.
pub(super) fn own_namespace() {
    // SAFETY: an IPC namespace concerns only calls that this process has not made yet.
    let outcome = unsafe { libc::unshare(libc::CLONE_NEWIPC) };
    OWN_NAMESPACE.store(outcome == 0, SeqCst);
}

static OWN_NAMESPACE: AtomicBool = AtomicBool::new(false);

fn require_own_namespace() -> io::Result<()> {
    match OWN_NAMESPACE.load(SeqCst) {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

pub(super) fn waitpid() -> io::Result<Wait> {
    let mut child = Command::new(std::env::current_exe()?).arg("until-eof").stdin(Stdio::piped()).spawn()?;
    let line = child.stdin.take();
    let pid = child.id() as usize;
    let wait = Box::new(move || {
        let mut status = 0i32;
        // SAFETY: the kernel writes the status, ours for the length of the call.
        unsafe { call(libc::SYS_wait4, [pid, &raw mut status as usize, 0, 0, 0, 0]) }?;
        Ok(format!("exited{}", libc::WEXITSTATUS(status)))
    });
    let release = Box::new(move |_| {
        drop(line); // The child sees the end of its input.
        Ok(())
    });
    Ok(Wait { number: libc::SYS_wait4, call: wait, release })
}

pub(super) fn msgrcv() -> io::Result<Wait> {
    require_own_namespace()?;
    // SAFETY: `msgget` takes numbers only.
    let queue = unsafe { call(libc::SYS_msgget, [libc::IPC_PRIVATE as usize, 0o600, 0, 0, 0, 0]) }? as usize;
    let wait = Box::new(move || {
        let mut message = Message { kind: 0, text: [0; 8] };
        // SAFETY: the kernel writes at most a kind and eight bytes, ours for the length of the call.
        let bytes = unsafe { call(libc::SYS_msgrcv, [queue, &raw mut message as usize, 8, 0, 0, 0]) }?;
        Ok(format!("{bytes}:{}:{}", message.kind, String::from_utf8_lossy(&message.text)))
    });
    let release = Box::new(move |_| {
        let message = Message { kind: 3, text: *b"dormouse" };
        // SAFETY: the kernel reads a kind and eight bytes, ours for the length of the call.
        unsafe { call(libc::SYS_msgsnd, [queue, &raw const message as usize, 8, 0, 0, 0]) }.map(drop)
    });
    Ok(Wait { number: libc::SYS_msgrcv, call: wait, release })
}

pub(super) fn semop() -> io::Result<Wait> {
    require_own_namespace()?;
    // SAFETY: `semget` takes numbers only.
    let set = unsafe { call(libc::SYS_semget, [libc::IPC_PRIVATE as usize, 1, 0o600, 0, 0, 0]) }? as usize;
    let change = move |by: i16| {
        let operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: 0 };
        // SAFETY: the kernel reads one operation, ours for the length of the call.
        unsafe { call(libc::SYS_semop, [set, &raw const operation as usize, 1, 0, 0, 0]) }
    };
    let wait = Box::new(move || change(-1).map(|value| value.to_string()));
    Ok(Wait { number: libc::SYS_semop, call: wait, release: Box::new(move |_| change(1).map(drop)) })
}

/// Waits for the completion of a read from an empty pipe. No buffer is registered: nothing is pinned while asleep.
pub(super) fn io_uring_enter() -> io::Result<Wait> {
    let mut ring = Ring::new()?;
    let (reader, writer) = raw::pipe()?;
    let wait = Box::new(move || {
        ring.submit_poll(&reader)?;
        ring.wait_completion().map(|result| result.to_string())
    });
    Ok(Wait { number: libc::SYS_io_uring_enter, call: wait, release: descriptors::write_to(writer) })
}
