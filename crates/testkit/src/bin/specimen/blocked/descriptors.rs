//! Waits for a descriptor to become readable.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::event::{EventfdFlags, epoll};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{FAR_SECS, Wait};
use crate::raw::{call, check_int, pipe};

/// Far enough for one event of any sort.
const BUFFER_BYTES: usize = 64;

const FAR: libc::timespec = libc::timespec { tv_sec: FAR_SECS, tv_nsec: 0 };

pub(super) fn read() -> io::Result<Wait> {
    let (reader, writer) = pipe()?;
    Ok(Wait { number: libc::SYS_read, call: Box::new(move || read_from(&reader)), release: write_to(writer) })
}

pub(super) fn poll() -> io::Result<Wait> {
    let (reader, writer) = pipe()?;
    let call = Box::new(move || {
        let mut entry = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let far_ms = FAR_SECS as usize * 1000;
        // SAFETY: one entry, ours for the length of the call.
        let ready = unsafe { call(libc::SYS_poll, [&raw mut entry as usize, 1, far_ms, 0, 0, 0]) }?;
        Ok(format!("{ready}:{}", entry.revents))
    });
    Ok(Wait { number: libc::SYS_poll, call, release: write_to(writer) })
}

pub(super) fn ppoll() -> io::Result<Wait> {
    let (reader, writer) = pipe()?;
    let call = Box::new(move || {
        let mut entry = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut far = FAR;
        let args = [&raw mut entry as usize, 1, &raw mut far as usize, 0, 0, 0];
        // SAFETY: one entry and the timeout (which the kernel updates), ours for the length of the call.
        let ready = unsafe { call(libc::SYS_ppoll, args) }?;
        Ok(format!("{ready}:{}", entry.revents))
    });
    Ok(Wait { number: libc::SYS_ppoll, call, release: write_to(writer) })
}

pub(super) fn select() -> io::Result<Wait> {
    let (reader, writer) = pipe()?;
    let call = Box::new(move || {
        let fd = reader.as_raw_fd() as usize;
        let mut set = [0u64; 16];
        set[fd / 64] |= 1 << (fd % 64);
        let mut far = libc::timeval { tv_sec: FAR_SECS, tv_usec: 0 };
        let args = [fd + 1, set.as_mut_ptr() as usize, 0, 0, &raw mut far as usize, 0];
        // SAFETY: 1024 bits and the timeout (which the kernel updates), ours for the length of the call.
        let ready = unsafe { call(libc::SYS_select, args) }?;
        Ok(format!("{ready}:{}", set[fd / 64] >> (fd % 64)))
    });
    Ok(Wait { number: libc::SYS_select, call, release: write_to(writer) })
}

pub(super) fn epoll_wait() -> io::Result<Wait> {
    epoll_by(libc::SYS_epoll_wait)
}

pub(super) fn epoll_pwait2() -> io::Result<Wait> {
    epoll_by(libc::SYS_epoll_pwait2)
}

/// Both calls agree on the first three arguments; the fourth is a number for one and an address for the other.
fn epoll_by(number: libc::c_long) -> io::Result<Wait> {
    let (reader, writer) = pipe()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &reader, epoll::EventData::new_u64(7), epoll::EventFlags::IN)?;
    let call = Box::new(move || {
        let _reader = &reader; // Or it would be closed now, and leave the epoll set.
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let far = FAR;
        let timeout = match number {
            libc::SYS_epoll_pwait2 => &raw const far as usize,
            _ => FAR_SECS as usize * 1000,
        };
        let args = [epoll.as_raw_fd() as usize, &raw mut event as usize, 1, timeout, 0, 0];
        // SAFETY: room for one event and the timeout, ours for the length of the call; no signal mask.
        let ready = unsafe { call(number, args) }?;
        let data = event.u64;
        Ok(format!("{ready}:{data}"))
    });
    Ok(Wait { number, call, release: write_to(writer) })
}

pub(super) fn eventfd() -> io::Result<Wait> {
    let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
    let mut writer = File::from(fd.try_clone()?);
    let release = Box::new(move |_| writer.write_all(&5u64.to_ne_bytes()));
    Ok(Wait { number: libc::SYS_read, call: Box::new(move || read_from(&fd)), release })
}

pub(super) fn timerfd() -> io::Result<Wait> {
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
    let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    set_timer(&fd, FAR)?;
    let timer = fd.try_clone()?;
    let release = Box::new(move |_| set_timer(&timer, libc::timespec { tv_sec: 0, tv_nsec: 1 }));
    Ok(Wait { number: libc::SYS_read, call: Box::new(move || read_from(&fd)), release })
}

fn set_timer(fd: &OwnedFd, it_value: libc::timespec) -> io::Result<()> {
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let timer = libc::itimerspec { it_interval: never, it_value };
    // SAFETY: the kernel reads `timer` and is given nowhere to write.
    check_int(unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const timer, std::ptr::null_mut()) })?;
    Ok(())
}

/// Watches a memfd through `/proc`, so that nothing is left on disk.
pub(super) fn inotify() -> io::Result<Wait> {
    let mut file = File::from(memfd_create("watched", MemfdFlags::CLOEXEC)?);
    // SAFETY: takes flags, returns a descriptor.
    let fd = check_int(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let inotify = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
    // SAFETY: `path` ends with a zero byte.
    check_int(unsafe {
        libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr().cast(), libc::IN_MODIFY)
    })?;
    let release = Box::new(move |_| file.write_all(b"x"));
    Ok(Wait { number: libc::SYS_read, call: Box::new(move || read_from(&inotify)), release })
}

/// How many bytes came, and the sum of them.
fn read_from(fd: &OwnedFd) -> io::Result<String> {
    let mut buffer = [0u8; BUFFER_BYTES];
    let args = [fd.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, BUFFER_BYTES, 0, 0, 0];
    // SAFETY: the kernel writes at most `BUFFER_BYTES` to `buffer`.
    let bytes = unsafe { call(libc::SYS_read, args) }? as usize;
    Ok(format!("{bytes}:{}", buffer[..bytes].iter().map(|byte| u32::from(*byte)).sum::<u32>()))
}

pub(super) fn write_to(fd: OwnedFd) -> Box<dyn FnOnce(i32) -> io::Result<()>> {
    Box::new(move |_| {
        let mut file = File::from(fd);
        file.write_all(b"x")?;
        std::mem::forget(file); // Closing it could be seen by the waiting side.
        Ok(())
    })
}
