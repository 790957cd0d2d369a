//! Our own heap: memory that we keep for ourselves is memory that sleeping sandboxes did not save.

/// Threads share this many heaps. glibc would give each of a few dozen drivers and encoders its own, and keep what
/// they freed.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;

/// Blocks from this size on are mapped apart, and go back to the kernel when they are freed. Setting it keeps glibc
/// from raising it by itself.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD_BYTES: i32 = 256 << 10;

/// Keeps the allocator from holding on to memory. To be called before threads are started; where the C library has
/// no such knobs it does nothing.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes numbers, changes settings of the allocator under its own lock.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) };
    }
}

/// Gives freed memory of all heaps back to the kernel.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; works under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0)
    };
}
