//! Starting processes whose parent is not we, but ours.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::sys;

/// Who we are after a fork.
pub(super) enum Fork {
    Child,
    Parent(i32),
}

/// Forks; the child's parent is the thread that started us. To be called while there is one thread.
pub(super) fn fork_beside() -> io::Result<Fork> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: no pointers: the child goes on with a copy of all memory, as after a fork. We are the only thread, so
    // no lock of another is held in the copy.
    let pid = sys::check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(if pid == 0 { Fork::Child } else { Fork::Parent(pid as i32) })
}

/// Leaves namespaces that we share with others.
pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers; we are the only thread.
    sys::check(i64::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// Between two processes that wait for each other.
pub(super) struct Turns(UnixStream);

impl Turns {
    pub(super) fn pair() -> io::Result<(Turns, Turns)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Turns(a), Turns(b)))
    }

    /// The other may go on.
    pub(super) fn pass(&mut self) -> io::Result<()> {
        self.0.write_all(b".")
    }

    /// Waits for the other. An error: it died, and has said why.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0])
    }
}
