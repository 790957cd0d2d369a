//! `aio`: a kernel AIO context. Its ring is a mapping that the kernel writes to by frame.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

use crate::control::{Control, unknown};
use crate::raw::call;

/// Requests that the context can hold.
const REQUESTS: usize = 8;

/// What is read.
const TEXT: &[u8; 8] = b"dormouse";

/// `struct iocb`.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key_and_flags: [u32; 2],
    /// 0 reads.
    opcode: u16,
    priority: i16,
    fd: u32,
    address: u64,
    len: u64,
    offset: i64,
    rest: [u64; 2],
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    result_2: i64,
}

/// Sets the context up. `use` reads a file through it.
pub(crate) fn run(mut control: Control) -> io::Result<()> {
    let mut context = 0usize;
    // SAFETY: the kernel writes the context's number, ours for the length of the call.
    let made = unsafe { call(libc::SYS_io_setup, [REQUESTS, &raw mut context as usize, 0, 0, 0, 0]) };
    if let Err(why) = made {
        return control.unavailable(&why);
    }
    let mut file = tempfile::tempfile()?;
    file.write_all(TEXT)?;
    control.serve("aio", |verb, _| match verb {
        "use" => read_through(context, &file),
        verb => Err(unknown(verb)),
    })
}

fn read_through(context: usize, file: &File) -> io::Result<String> {
    let mut buffer = [0u8; TEXT.len()];
    let (fd, address) = (file.as_raw_fd() as u32, buffer.as_mut_ptr() as u64);
    let request = Request { fd, address, len: TEXT.len() as u64, ..Request::default() };
    let list = [&raw const request];
    // SAFETY: one request, and the buffer it names, live until its event has come below.
    unsafe { call(libc::SYS_io_submit, [context, 1, list.as_ptr() as usize, 0, 0, 0]) }?;
    let mut event = Event::default();
    // SAFETY: room for one event, ours for the length of the call.
    unsafe { call(libc::SYS_io_getevents, [context, 1, 1, &raw mut event as usize, 0, 0]) }?;
    Ok(format!("read={} bytes={}", event.result, if &buffer == TEXT { "right" } else { "lost" }))
}
