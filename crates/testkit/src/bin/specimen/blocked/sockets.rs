//! Waits on sockets.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{FAR_SECS, Wait};
use crate::raw::call;

pub(super) fn accept() -> io::Result<Wait> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let call = Box::new(move || {
        // SAFETY: no address is asked for, so the kernel writes nothing.
        unsafe { call(libc::SYS_accept4, [listener.as_raw_fd() as usize, 0, 0, 0, 0, 0]) }?;
        Ok("accepted".to_owned())
    });
    let release = Box::new(move |_| TcpStream::connect(address).map(std::mem::forget));
    Ok(Wait { number: libc::SYS_accept4, call, release })
}

pub(super) fn recv() -> io::Result<Wait> {
    recv_with(None)
}

/// With `SO_RCVTIMEO` the kernel does not restart the call: `EINTR` is what SIGSTOP and SIGCONT give, too.
pub(super) fn recv_timeout() -> io::Result<Wait> {
    recv_with(Some(Duration::from_secs(FAR_SECS as u64)))
}

fn recv_with(timeout: Option<Duration>) -> io::Result<Wait> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_read_timeout(timeout)?;
    let call = Box::new(move || {
        let mut buffer = [0u8; 16];
        let args = [reader.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
        // SAFETY: the kernel writes at most `buffer.len()` bytes; no address is asked for.
        let bytes = unsafe { call(libc::SYS_recvfrom, args) }? as usize;
        Ok(String::from_utf8_lossy(&buffer[..bytes]).into_owned())
    });
    Ok(Wait { number: libc::SYS_recvfrom, call, release: hello(writer) })
}

/// The kernel holds two of our addresses at once: the message header, and the buffer it names.
pub(super) fn recvmsg() -> io::Result<Wait> {
    let (reader, writer) = UnixStream::pair()?;
    let call = Box::new(move || {
        let mut buffer = [0u8; 16];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all zeros is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        let args = [reader.as_raw_fd() as usize, &raw mut message as usize, 0, 0, 0, 0];
        // SAFETY: header, part and buffer are ours for the length of the call.
        let bytes = unsafe { call(libc::SYS_recvmsg, args) }? as usize;
        Ok(String::from_utf8_lossy(&buffer[..bytes]).into_owned())
    });
    Ok(Wait { number: libc::SYS_recvmsg, call, release: hello(writer) })
}

fn hello(mut writer: UnixStream) -> Box<dyn FnOnce(i32) -> io::Result<()>> {
    Box::new(move |_| {
        writer.write_all(b"hello")?;
        std::mem::forget(writer); // Closing it could be seen by the waiting side.
        Ok(())
    })
}
