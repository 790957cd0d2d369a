//! What C sees: `include/dormouse.h`, function by function.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use advice::{NoRange, Range, Wish};

use crate::agent::{self, Untold};
use crate::counters::COUNTERS;
use crate::send::Sender;

/// `struct dormouse_range`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    addr: *const c_void,
    len: usize,
}

/// `struct dormouse_stats`.
#[repr(C)]
pub(crate) struct Stats {
    messages: u64,
    ranges: u64,
    bytes: u64,
    refused: u64,
    lost: u64,
    unheard: u64,
    listening: u64,
}

/// The whole pages in these bytes may be merged.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn dormouse_advise(addr: *const c_void, len: usize) -> c_int {
    tell(Wish::Merge, &[Bytes { addr, len }]).1
}

/// The whole pages in these bytes are to be left alone again.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn dormouse_unadvise(addr: *const c_void, len: usize) -> c_int {
    tell(Wish::Leave, &[Bytes { addr, len }]).1
}

/// `dormouse_advise` of many ranges, in few datagrams.
///
/// # Safety
///
/// `ranges` must be `count` ranges, or null if `count` is 0; `told` a number to be written to, or null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dormouse_advise_ranges(
    ranges: *const Bytes,
    count: usize,
    told: *mut usize,
) -> c_int {
    // SAFETY: what the caller promises is what is asked for.
    unsafe { tell_all(Wish::Merge, ranges, count, told) }
}

/// `dormouse_unadvise` of many ranges, in few datagrams.
///
/// # Safety
///
/// As of `dormouse_advise_ranges`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dormouse_unadvise_ranges(
    ranges: *const Bytes,
    count: usize,
    told: *mut usize,
) -> c_int {
    // SAFETY: what the caller promises is what is asked for.
    unsafe { tell_all(Wish::Leave, ranges, count, told) }
}

/// Fills in what this process has told the agent so far, and whether one listens now.
///
/// # Safety
///
/// `stats` must be a `struct dormouse_stats` to be written to, or null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dormouse_stats(stats: *mut Stats) -> c_int {
    if stats.is_null() {
        return libc::EINVAL;
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let now = Stats {
        messages: count(&COUNTERS.messages),
        ranges: count(&COUNTERS.ranges),
        bytes: count(&COUNTERS.bytes),
        refused: count(&COUNTERS.refused),
        lost: count(&COUNTERS.lost),
        unheard: count(&COUNTERS.unheard),
        listening: u64::from(is_heard(agent::look())),
    };
    // SAFETY: not null, and the caller promises that it may be written to.
    unsafe { stats.write(now) };
    0
}

/// In words, whether advice leads to anything now.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn dormouse_status() -> *const c_char {
    let words = match agent::look() {
        Ok(()) | Err(Untold::Busy) => c"merging",
        Err(Untold::NoAgent) => c"no agent",
        Err(Untold::Off) => c"off",
    };
    words.as_ptr()
}

/// Busy: it is there, or we could not look.
fn is_heard(look: Result<(), Untold>) -> bool {
    matches!(look, Ok(()) | Err(Untold::Busy))
}

/// # Safety
///
/// `ranges` must be `count` ranges, or null if `count` is 0; `told` a number to be written to, or null.
unsafe fn tell_all(wish: Wish, ranges: *const Bytes, count: usize, told: *mut usize) -> c_int {
    let (bytes, code) = if count == 0 {
        (0, 0)
    } else if ranges.is_null() || count > isize::MAX as usize / size_of::<Bytes>() {
        COUNTERS.refused();
        (0, libc::EINVAL)
    } else {
        // SAFETY: not null, no more than memory can hold, and the caller promises that it is `count` ranges.
        tell(wish, unsafe { std::slice::from_raw_parts(ranges, count) })
    };
    if !told.is_null() {
        // SAFETY: not null, and the caller promises that it may be written to.
        unsafe { told.write(bytes as usize) };
    }
    code
}

/// How many bytes the agent was told of, and 0 or the first error number that the header names.
fn tell(wish: Wish, ranges: &[Bytes]) -> (u64, c_int) {
    let mut sender = Sender::new(wish);
    let mut is_odd = false;
    for bytes in ranges {
        match Range::inside(bytes.addr as u64, bytes.len as u64) {
            Ok(range) => sender.add(range),
            Err(NoRange::Empty) => {} // Small things hold no page. They are no mistake.
            Err(NoRange::Outside | NoRange::Unaligned) => {
                COUNTERS.refused();
                is_odd = true;
            }
        }
    }
    match sender.finish() {
        (told, _) if is_odd => (told, libc::EINVAL),
        (told, None) => (told, 0),
        (told, Some(Untold::Off | Untold::NoAgent)) => (told, libc::ENOTCONN),
        (told, Some(Untold::Busy)) => (told, libc::EAGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_agent_nothing_happens_and_that_is_said() {
        let page = 4096 as *const c_void;
        assert_eq!(dormouse_advise(page, 4096), libc::ENOTCONN);
        assert_eq!(dormouse_advise(page, 4095), 0, "no whole page: nothing to say");
        assert_eq!(dormouse_unadvise(page, usize::MAX), libc::EINVAL);
        // SAFETY: the text is static.
        let status = unsafe { std::ffi::CStr::from_ptr(dormouse_status()) };
        assert_eq!(status, c"off");
    }

    #[test]
    fn null_is_refused_and_no_ranges_are_fine() {
        let mut told = 7;
        let null = std::ptr::null();
        // SAFETY: null, and a number to be written to.
        assert_eq!(unsafe { dormouse_advise_ranges(null, 1, &raw mut told) }, libc::EINVAL);
        // SAFETY: no ranges.
        assert_eq!(unsafe { dormouse_unadvise_ranges(null, 0, std::ptr::null_mut()) }, 0);
        // SAFETY: null is refused.
        assert_eq!(unsafe { dormouse_stats(std::ptr::null_mut()) }, libc::EINVAL);
        assert_eq!(told, 0);
    }
}
