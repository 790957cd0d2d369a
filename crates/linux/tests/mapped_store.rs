//! Why store pages are copied into a process and not mapped: what a program may rely on of its anonymous memory does not
//! hold for a private mapping of a file. If one of these ever fails, the kernel has become kinder, and
//! `docs/decisions/0011-pages-are-copied.md` is to be read again.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::null_mut;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap, mremap};

const PAGE: usize = 4096;

/// The first page of a store of three, mapped as a wake would map it.
fn mapped() -> *mut u8 {
    let store = File::from(memfd_create(c"store", MemfdFlags::CLOEXEC).unwrap());
    for page in 0..3u8 {
        store.write_all_at(&[page + 1; PAGE], u64::from(page) * PAGE as u64).unwrap();
    }
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at no address that we chose.
    unsafe { mmap(null_mut(), PAGE, prot, MapFlags::PRIVATE, &store, 0) }.unwrap().cast()
}

fn read(at: *const u8) -> u8 {
    // SAFETY: each caller gives an address inside a mapping that it has just made, and nobody writes.
    unsafe { at.read_volatile() }
}

fn write(at: *mut u8, byte: u8) {
    // SAFETY: as for `read`.
    unsafe { at.write_volatile(byte) };
}

#[test]
fn memory_that_is_given_back_shows_the_store_and_not_zeros() {
    let at = mapped();
    write(at, 9);
    // SAFETY: our own mapping, without references into it.
    unsafe { madvise(at.cast(), PAGE, Advice::LinuxDontNeed) }.unwrap();
    assert_eq!(read(at), 1, "an allocator that gave this page back expects a zero");
}

#[test]
fn memory_that_grows_shows_the_next_page_of_the_store() {
    let at = mapped();
    // SAFETY: our own mapping, without references into it; the old address is not used again.
    let grown = unsafe { mremap(at.cast(), PAGE, 3 * PAGE, MremapFlags::MAYMOVE) }.unwrap();
    let next = grown.cast::<u8>().wrapping_add(PAGE);
    assert_eq!(read(next), 2, "another sandbox's page, where the program expects zeros");
}

#[test]
fn memory_cannot_be_given_back_lazily() {
    let at = mapped();
    // SAFETY: our own mapping, without references into it.
    let done = unsafe { madvise(at.cast(), PAGE, Advice::LinuxFree) };
    assert_eq!(done, Err(Errno::INVAL), "allowed for anonymous memory");
}
