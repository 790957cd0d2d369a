//! Advice about another process' memory that the kernel takes from outside.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;

use crate::sys;

/// A vector of ranges may have this many (`UIO_MAXIOV`).
const RANGES_MAX: usize = 1024;

/// Asks the kernel to write the private memory of a process in these ranges to swap now. Needs the right to trace
/// the process, and CAP_SYS_NICE. Pages that cannot leave (no swap space, locked) stay, which is no error.
pub fn page_out(pid: i32, ranges: &[Range<u64>]) -> io::Result<()> {
    let process = sys::pidfd_open(pid)?;
    for some in ranges.chunks(RANGES_MAX) {
        let vectors: Vec<libc::iovec> = some
            .iter()
            .map(|range| libc::iovec {
                iov_base: std::ptr::without_provenance_mut(range.start as usize),
                iov_len: range.end.saturating_sub(range.start) as usize,
            })
            .collect();
        // TRACEE: content does not change: a page that is swapped out comes back at the first touch.
        // SAFETY: `vectors` is alive and as long as we say; the addresses in it mean memory of the other process,
        // the kernel never follows them in ours.
        let result = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                process.as_raw_fd(),
                vectors.as_ptr(),
                vectors.len(),
                libc::MADV_PAGEOUT,
                0,
            )
        };
        sys::check(result)?;
    }
    Ok(())
}
