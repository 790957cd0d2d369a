//! Turning the kernel's way of reporting errors into ours, and the few raw calls that several files need.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The result of a libc call that says -1 and sets `errno`.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes ownership of a descriptor that a system call has just returned.
pub(crate) fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: only called with the fresh result of a call that creates a descriptor; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// `ioctl` with a pointer to a structure that the kernel reads and writes.
pub(crate) fn ioctl<T>(fd: BorrowedFd<'_>, request: u64, arg: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `arg` is a live exclusive reference and each caller passes the structure that `request` names;
    // pointers inside it are valid for the length of this call (the caller's borrow holds them).
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(arg)) };
    check(libc::c_long::from(result))
}

/// `ioctl` whose argument is a number.
pub(crate) fn ioctl_number(fd: BorrowedFd<'_>, request: u64, arg: i32) -> io::Result<libc::c_long> {
    // SAFETY: no pointers: each caller passes a request that takes a number.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, arg) };
    check(libc::c_long::from(result))
}

/// A pidfd for a process, or `ESRCH`.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the kernel checks `pid`.
    check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(own)
}

/// Our own copy of a descriptor of another process.
pub(crate) fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the kernel checks both descriptors and our right to them.
    check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) }).map(own)
}

/// The number of an `ioctl` request, put together as `_IOC` does.
pub(crate) const fn ioc(dir: u64, kind: u64, number: u64, size: usize) -> u64 {
    (dir << 30) | ((size as u64) << 16) | (kind << 8) | number
}

/// The argument is a number, or nothing.
pub(crate) const IOC_NONE: u64 = 0;
/// The kernel reads and writes the argument.
pub(crate) const IOC_READ_WRITE: u64 = 3;
/// The kernel writes the argument (seen from user space: it is read).
pub(crate) const IOC_READ: u64 = 2;

#[cfg(test)]
pub(crate) mod tests {
    /// Fresh anonymous memory of our own, unmapped on drop.
    pub(crate) struct Anonymous {
        at: *mut u8,
        len: usize,
    }

    /// Maps `pages` pages that nobody has touched.
    pub(crate) fn anonymous(pages: usize) -> Anonymous {
        let len = pages * 4096;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, at no address that we chose.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, 3, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Anonymous { at: at.cast(), len }
    }

    impl Anonymous {
        pub(crate) fn as_mut(&mut self) -> &mut [u8] {
            // SAFETY: the mapping is ours, `len` long, readable and writable, and borrowed exclusively.
            unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
        }
    }

    impl Anonymous {
        /// Makes a page a guard page, if this kernel knows such (6.13).
        pub(crate) fn guard(&mut self, page: usize) {
            const MADV_GUARD_INSTALL: i32 = 102;
            // SAFETY: the page lies inside the mapping.
            let at = unsafe { self.at.add(page * 4096) };
            // SAFETY: the page is ours; nobody touches it any more.
            unsafe { libc::madvise(at.cast(), 4096, MADV_GUARD_INSTALL) };
        }
    }

    impl Drop for Anonymous {
        fn drop(&mut self) {
            // SAFETY: the mapping is ours and no slice of it outlives `self`.
            unsafe { libc::munmap(self.at.cast(), self.len) };
        }
    }
}
