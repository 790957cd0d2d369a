//! For programs that know `madvise` and not us: preloaded, this library is asked before the C library is.

use std::ffi::{c_int, c_void};

use advice::{Range, Wish};

use crate::agent::Untold;
use crate::send::Sender;

/// `madvise(2)`, but that advice on merging goes to the agent. Where there is none, and with all other advice, it is the
/// kernel's own, by a raw system call: what the kernel does, returns and says in `errno` is what the caller gets.
///
/// # Safety
///
/// As of `madvise(2)`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    let wish = match advice {
        libc::MADV_MERGEABLE => Some(Wish::Merge),
        libc::MADV_UNMERGEABLE => Some(Wish::Leave),
        _ => None,
    };
    if wish.is_some_and(|wish| is_with_the_agent(wish, addr as u64, len as u64)) {
        return 0;
    }
    // SAFETY: this is the call that the caller wanted to make, with his arguments.
    unsafe { libc::syscall(libc::SYS_madvise, addr, len, advice) as c_int }
}

/// Whether an agent listens. If it has no room now the advice is lost, as advice may be. What cannot be memory is left to
/// the kernel, which has an error for it.
fn is_with_the_agent(wish: Wish, start: u64, bytes: u64) -> bool {
    let Ok(range) = Range::around(start, bytes) else { return false };
    let mut sender = Sender::new(wish);
    sender.add(range);
    matches!(sender.finish().1, None | Some(Untold::Busy))
}
