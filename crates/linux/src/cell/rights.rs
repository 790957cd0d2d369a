//! Who the processes of a cell are, and that they can become nobody else.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, openat};

use super::{INSIDE_ID, at};
use crate::sys;

/// Maps the one user and group of a new user namespace whose first process is `pid`; `proc` is a `/proc` that knows it.
pub(super) fn map_ids(proc: BorrowedFd<'_>, pid: &str, (user, group): (u32, u32)) -> io::Result<()> {
    let write = |name: &str, text: String| {
        let path = format!("{pid}/{name}");
        let opened = openat(proc, path.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let written = opened.map_err(io::Error::from).map(fs::File::from);
        written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(at(format!("write {name}")))
    };
    write("setgroups", "deny".to_owned())?; // Else an ordinary user may not map a group.
    write("gid_map", format!("{INSIDE_ID} {group} 1"))?;
    write("uid_map", format!("{INSIDE_ID} {user} 1"))
}

/// Leaves all further groups. Only root can.
pub(super) fn leave_groups() -> io::Result<()> {
    // SAFETY: no groups, so nothing is read.
    let left = sys::check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) });
    left.map(drop).map_err(at("leave all groups"))
}

/// Becomes this user and group.
pub(super) fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: no pointers. The system call itself, as there is one thread.
    sys::check(unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) }).map_err(at("change the group"))?;
    // SAFETY: no pointers.
    sys::check(unsafe { libc::syscall(libc::SYS_setresuid, id, id, id) }).map_err(at("change the user"))?;
    Ok(())
}

/// No capability may come back by executing a program.
pub(super) fn drop_bounds() -> io::Result<()> {
    for capability in 0.. {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break, // There are no more.
            dropped => dropped.map_err(at("give up capabilities"))?,
        }
    }
    Ok(())
}

/// Gives all capabilities up, and the right to get any.
pub(super) fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: the kernel reads a header of two words and two sets of three, all live.
    sys::check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })
        .map_err(at("give up capabilities"))?;
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Dies with the thread that asked for the cell. The kernel forgets this whenever rights change, so it comes after that.
pub(super) fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

/// Shows nothing of our memory to others of the same user.
pub(super) fn hide() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

fn prctl(what: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: all requests made here take a number; the other arguments must be 0.
    sys::check(i64::from(unsafe { libc::prctl(what, value, none, none, none) })).map(drop)
}
