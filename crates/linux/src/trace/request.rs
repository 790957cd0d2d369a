//! The requests of ptrace.

use std::io;

use super::TraceError;
use crate::sys;

const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;

/// Where the kernel writes into a thread's memory by itself: its restartable-sequence area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RseqArea {
    /// First address.
    pub address: u64,
    /// Length.
    pub len_bytes: u64,
}

pub(super) fn seize(tid: i32, options: libc::c_int) -> io::Result<()> {
    // SAFETY: PTRACE_SEIZE takes no pointers.
    // TRACEE: only changes who is told of its signals.
    sys::check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0u64, options as u64) }).map(drop)
}

/// A ptrace request whose arguments are numbers, or pointers that the caller keeps alive.
pub(super) fn request(
    what: &'static str,
    op: libc::c_uint,
    tid: i32,
    addr: u64,
    data: u64,
) -> Result<(), TraceError> {
    // SAFETY: the callers, here and in `trace.rs`, pass as `addr` and `data` what `op` asks for; pointers among them
    // point to live locals of the right size.
    // TRACEE: the thread is ours (seized by this thread); what is set is put back before it runs its own code.
    let result = unsafe { libc::ptrace(op, tid, addr, data) };
    sys::check(result).map(drop).map_err(|source| TraceError::Request { what, tid, source })
}

/// Lets a stopped thread run until its next stop, giving it `signal` (0: none).
pub(crate) fn cont(tid: i32, signal: i32) -> Result<(), TraceError> {
    request("continue", libc::PTRACE_CONT, tid, 0, signal as u64)
}

/// Lets a stopped thread run until the entry or exit of a system call.
pub(crate) fn cont_to_system_call(tid: i32) -> Result<(), TraceError> {
    request("run to system call", libc::PTRACE_SYSCALL, tid, 0, 0)
}

/// Asks a running thread to stop.
pub(crate) fn interrupt(tid: i32) -> Result<(), TraceError> {
    request("interrupt", libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Reads the registers of a stopped thread.
pub(crate) fn registers(tid: i32) -> Result<libc::user_regs_struct, TraceError> {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
    request("read registers", libc::PTRACE_GETREGS, tid, 0, registers.as_mut_ptr() as u64)?;
    // SAFETY: all fields are integers: zeroed memory is a value, and the kernel has written it since.
    Ok(unsafe { registers.assume_init() })
}

/// Sets the registers of a stopped thread.
pub(crate) fn set_registers(tid: i32, registers: &libc::user_regs_struct) -> Result<(), TraceError> {
    request("set registers", libc::PTRACE_SETREGS, tid, 0, std::ptr::from_ref(registers) as u64)
}

/// Reads the signal mask of a stopped thread.
pub(crate) fn signal_mask(tid: i32) -> Result<u64, TraceError> {
    let mut mask = 0u64;
    request("read signal mask", PTRACE_GETSIGMASK, tid, 8, &raw mut mask as u64)?;
    Ok(mask)
}

/// Sets the signal mask of a stopped thread.
pub(crate) fn set_signal_mask(tid: i32, mask: u64) -> Result<(), TraceError> {
    request("set signal mask", PTRACE_SETSIGMASK, tid, 8, &raw const mask as u64)
}

/// The restartable-sequence area of a stopped thread; none where it has none, or the kernel cannot tell (5.13).
pub(super) fn rseq_area(tid: i32) -> Option<RseqArea> {
    /// `struct ptrace_rseq_configuration` of `linux/ptrace.h`.
    #[repr(C)]
    #[derive(Default)]
    struct Configuration {
        address: u64,
        size: u32,
        signature: u32,
        flags: u32,
        pad: u32,
    }
    let mut found = Configuration::default();
    let at = &raw mut found as u64;
    // SAFETY: the kernel writes at most the given size into the live local `found`.
    let written =
        unsafe { libc::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, size_of::<Configuration>() as u64, at) };
    (written > 0 && found.address != 0)
        .then_some(RseqArea { address: found.address, len_bytes: u64::from(found.size) })
}
