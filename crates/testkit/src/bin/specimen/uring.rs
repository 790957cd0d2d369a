//! `uring`: an io_uring with a registered buffer. The kernel pins the pages of such a buffer and writes to them by
//! frame, not by address: a sandbox that has one cannot be carried.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};

use crate::control::{Control, unknown};
use crate::raw::{call, check, pipe};
use crate::region::Region;

/// Requests that the ring can hold.
const ENTRIES: usize = 8;

/// Bytes of the registered buffer.
const BUFFER_BYTES: usize = 4 * crate::content::PAGE_BYTES;

/// Bytes of either mapping: far more than eight entries need, far less than the kernel allows for.
const RINGS_BYTES: usize = 4096;

const OFFSET_SQES: i64 = 0x1000_0000;
const OP_READ_FIXED: u8 = 4;
const OP_POLL_ADD: u8 = 6;
const ENTER_GETEVENTS: usize = 1;
const REGISTER_BUFFERS: usize = 0;

/// `struct io_uring_params`, with the offsets of the words in the mapping.
#[repr(C)]
#[derive(Default)]
struct Params {
    head: [u32; 10],
    sq: Offsets,
    cq: Offsets,
}

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`, which differ in two words.
#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    /// Flags (submission), overflow (completion).
    fifth: u32,
    /// Dropped (submission), where the completions lie (completion).
    sixth: u32,
    /// The array (submission), flags (completion).
    seventh: u32,
    reserved: [u32; 3],
}

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Default)]
struct Submission {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// A small ring, one request at a time.
pub(crate) struct Ring {
    fd: OwnedFd,
    params: Params,
    rings: *mut u8,
    submissions: *mut Submission,
}

// SAFETY: the mappings belong to the ring alone and stay until the process ends.
unsafe impl Send for Ring {}

impl Ring {
    /// Sets one up; an error says why there is none on this machine.
    pub(crate) fn new() -> io::Result<Ring> {
        let mut params = Params::default();
        // SAFETY: the kernel reads and writes `params`, which has its layout.
        let fd = unsafe { call(libc::SYS_io_uring_setup, [ENTRIES, &raw mut params as usize, 0, 0, 0, 0]) }?;
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let rings = map(&fd, 0)?;
        let submissions = map(&fd, OFFSET_SQES)?.cast();
        Ok(Ring { fd, params, rings, submissions })
    }

    /// Asks for a completion when `fd` is readable.
    pub(crate) fn submit_poll(&mut self, fd: &OwnedFd) -> io::Result<()> {
        let (fd, op_flags) = (fd.as_raw_fd(), libc::POLLIN as u32);
        self.submit(Submission { opcode: OP_POLL_ADD, fd, op_flags, ..Submission::default() })
    }

    /// Asks for a read into the registered buffer.
    fn submit_read_fixed(&mut self, fd: &OwnedFd, buffer: &Region, len: u32) -> io::Result<()> {
        let (fd, address) = (fd.as_raw_fd(), buffer.base() as u64);
        self.submit(Submission { opcode: OP_READ_FIXED, fd, address, len, ..Submission::default() })
    }

    fn submit(&mut self, submission: Submission) -> io::Result<()> {
        let tail = self.word(self.params.sq.tail).load(Acquire);
        let index = tail & self.word(self.params.sq.mask).load(Acquire);
        let slot = self.submissions.wrapping_add(index as usize);
        // SAFETY: `index` is below the number of entries, and the kernel reads the entry only when told to.
        unsafe { slot.write(submission) };
        self.word(self.params.sq.seventh + 4 * index).store(index, Release);
        self.word(self.params.sq.tail).store(tail.wrapping_add(1), Release);
        self.enter(1, 0)
    }

    /// Waits for the next completion: its result.
    pub(crate) fn wait_completion(&mut self) -> io::Result<i32> {
        let head = self.word(self.params.cq.head).load(Acquire);
        if self.word(self.params.cq.tail).load(Acquire) == head {
            self.enter(0, 1)?;
        }
        let index = head & self.word(self.params.cq.mask).load(Acquire);
        // A completion is 16 bytes: eight that we gave, the result, flags.
        let result = self.word(self.params.cq.sixth + 16 * index + 8).load(Acquire);
        self.word(self.params.cq.head).store(head.wrapping_add(1), Release);
        Ok(result as i32)
    }

    fn enter(&mut self, submit: usize, complete: usize) -> io::Result<()> {
        let flags = if complete > 0 { ENTER_GETEVENTS } else { 0 };
        let args = [self.fd.as_raw_fd() as usize, submit, complete, flags, 0, 0];
        // SAFETY: the entries in the ring are complete; no signal mask is passed.
        unsafe { call(libc::SYS_io_uring_enter, args) }.map(drop)
    }

    fn register(&mut self, buffer: &Region) -> io::Result<()> {
        let part = libc::iovec { iov_base: buffer.base().cast(), iov_len: buffer.len_bytes() };
        let args = [self.fd.as_raw_fd() as usize, REGISTER_BUFFERS, &raw const part as usize, 1, 0, 0];
        // SAFETY: the kernel reads one `iovec`; the buffer it names is never unmapped.
        unsafe { call(libc::SYS_io_uring_register, args) }.map(drop)
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        let word = self.rings.wrapping_add(offset as usize).cast::<AtomicU32>();
        // SAFETY: the kernel gave the offset of an aligned word in this mapping, and changes it atomically, too.
        unsafe { &*word }
    }
}

fn map(fd: &OwnedFd, offset: i64) -> io::Result<*mut u8> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    // SAFETY: a new mapping at a place the kernel chooses overlaps nothing.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), RINGS_BYTES, prot, flags, fd.as_raw_fd(), offset) };
    check(base as i64)?;
    Ok(base.cast())
}

/// Sets up ring and buffer. `use` reads into the buffer by frame, and says whether the bytes came.
pub(crate) fn run(mut control: Control) -> io::Result<()> {
    let buffer = Region::private("buffer", BUFFER_BYTES)?;
    let prepared = Ring::new().and_then(|mut ring| ring.register(&buffer).map(|()| ring));
    let mut ring = match prepared {
        Ok(ring) => ring,
        Err(why) => return control.unavailable(&why),
    };
    let (reader, writer) = pipe()?;
    let mut writer = File::from(writer);
    control.serve("uring", |verb, _| match verb {
        "use" => {
            writer.write_all(b"dormouse")?;
            ring.submit_read_fixed(&reader, &buffer, 8)?;
            let bytes = ring.wait_completion()?;
            let came = &buffer.bytes()[..8] == b"dormouse";
            Ok(format!("read={bytes} bytes={}", if came { "right" } else { "lost" }))
        }
        verb => Err(unknown(verb)),
    })
}
