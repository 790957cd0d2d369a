//! The end of a keeper's active life: it waits, and costs little.

use std::arch::asm;
use std::io;

use crate::maps;

/// Mappings of a program of ours: a few dozen.
const MAPPINGS_MAX: usize = 256;

/// Waits until it is killed. Unmaps all but what waiting needs: each sandbox has a keeper, and that would keep a copy of
/// all that we have ever written to.
pub(super) fn rest() -> io::Result<std::convert::Infallible> {
    let mappings = maps::read(std::process::id() as i32)?;
    let needed = [wait_for_ever as *const () as u64, thread_pointer(), (&raw const mappings) as u64];
    let is_needed = |start: u64, end: u64| needed.iter().any(|address| (start..end).contains(address));
    let mut gone = [(0, 0); MAPPINGS_MAX]; // On the stack, which stays.
    let others = mappings.iter().filter(|m| !is_needed(m.start, m.end) && !m.name.starts_with("[v"));
    for (slot, mapping) in gone.iter_mut().zip(others) {
        *slot = (mapping.start, mapping.end - mapping.start);
    }
    wait_for_ever(&gone)
}

/// Where the kernel and the C library keep what belongs to this thread: the kernel writes there whenever it runs again.
fn thread_pointer() -> u64 {
    let pointer;
    // SAFETY: x86-64 has the thread's own address at its beginning; nothing is written.
    unsafe { asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly)) };
    pointer
}

/// Unmaps these ranges (address and length), up to the first of length 0, and waits. Calls nothing: what it would call
/// is no longer there.
#[inline(never)]
fn wait_for_ever(gone: &[(u64, u64); MAPPINGS_MAX]) -> ! {
    // SAFETY: from the first `munmap` on only this code, the stack and the registers are used: `r12` walks over the array
    // on the stack; system calls change no memory but what they unmap, and only `rax`, `rcx` and `r11`. It never returns.
    unsafe {
        asm!(
            "2:",
            "mov rdi, [r12]",
            "mov rsi, [r12 + 8]",
            "test rsi, rsi",
            "jz 3f",
            "mov eax, {munmap}",
            "syscall",
            "add r12, 16",
            "cmp r12, r13",
            "jb 2b",
            "3:",
            "mov eax, {pause}",
            "syscall",
            "jmp 3b",
            in("r12") gone.as_ptr(),
            in("r13") gone.as_ptr_range().end,
            munmap = const libc::SYS_munmap,
            pause = const libc::SYS_pause,
            options(noreturn),
        )
    }
}
