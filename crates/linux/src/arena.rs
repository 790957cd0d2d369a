//! The store's memory: one memory file, mapped once for reading. Bytes are written through the file, so that a
//! machine without memory gives an error and not a signal; what is freed goes back to the kernel page by page.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pages::{Arena, ArenaError, Extents, PAGE_SIZE};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

use crate::sys;

/// An arena in a memory file.
#[derive(Debug)]
pub struct MemfdArena {
    file: File,
    mapping: Mapping,
    extents: Mutex<Extents>,
}

/// A place in the file that was written once and is read-only from then on. Cannot be copied: whoever gives it
/// back cannot read it any more.
#[derive(Debug)]
pub struct Place {
    start: u64,
    len: u64,
}

/// The whole file, mapped for reading.
#[derive(Debug)]
struct Mapping {
    at: *const u8,
    len: usize,
}

// SAFETY: the mapping is only read, from any thread, and only where nothing is written any more (see `get`).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl MemfdArena {
    /// An empty arena that may grow to the size of the machine's memory. Takes address space, but no memory.
    pub fn create() -> io::Result<MemfdArena> {
        let memory = rustix::system::sysinfo();
        let capacity = (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit.max(1)));
        MemfdArena::with_capacity(capacity.next_multiple_of(PAGE_SIZE as u64))
    }

    /// An empty arena that never holds more than `capacity_bytes`, a multiple of the page size.
    pub fn with_capacity(capacity_bytes: u64) -> io::Result<MemfdArena> {
        let file = File::from(memfd_create(c"dormouse-store", MemfdFlags::CLOEXEC)?);
        file.set_len(capacity_bytes)?;
        let mapping = Mapping::of(&file, capacity_bytes as usize)?;
        Ok(MemfdArena { file, mapping, extents: Mutex::new(Extents::new(capacity_bytes)) })
    }

    fn extents(&self) -> MutexGuard<'_, Extents> {
        self.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives memory back to the kernel.
    fn punch(&self, start: u64, len: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = fallocate(&self.file, flags, start, len) {
            tracing::warn!(%error, "cannot give store memory back to the kernel");
        }
    }
}

impl Arena for MemfdArena {
    type Blob = Place;

    fn put(&self, bytes: &[u8], align: usize) -> Result<Place, ArenaError> {
        let wanted_bytes = bytes.len() as u64;
        let mut extents = self.extents();
        let Some(start) = extents.allocate(wanted_bytes, align as u64) else {
            return Err(ArenaError::Full { wanted_bytes, capacity_bytes: extents.capacity_bytes() });
        };
        drop(extents);
        let place = Place { start, len: wanted_bytes };
        if let Err(source) = self.file.write_all_at(bytes, start) {
            self.remove(place);
            return Err(ArenaError::Memory { wanted_bytes, source });
        }
        Ok(place)
    }

    fn get<'a>(&'a self, place: &'a Place) -> &'a [u8] {
        // SAFETY: `allocate` keeps places inside the capacity, which is the mapping's length.
        let at = unsafe { self.mapping.at.add(place.start as usize) };
        // SAFETY: a place comes into being after its bytes were written, belongs to one owner, and goes back to
        // `extents` only by value, so for the life of this borrow nobody writes there. The file never shrinks.
        unsafe { std::slice::from_raw_parts(at, place.len as usize) }
    }

    fn remove(&self, place: Place) {
        let mut extents = self.extents();
        let unused = extents.free(place.start, place.len);
        if !unused.is_empty() {
            // Under the lock: else somebody could be given these pages, write, and lose them to the punch.
            self.punch(unused.start, unused.end - unused.start);
        }
    }

    fn used_bytes(&self) -> u64 {
        self.extents().used_bytes()
    }

    fn held_bytes(&self) -> u64 {
        self.extents().held_bytes()
    }
}

impl Mapping {
    fn of(file: &File, len: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at no address of our choice.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, flags, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Mapping { at: at.cast(), len };
        // SAFETY: the range is our mapping. Children get none of it: forking stays cheap, the store private.
        sys::check(i64::from(unsafe { libc::madvise(at, len, libc::MADV_DONTFORK) }))?;
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and every slice of it borrowed the arena.
        unsafe { libc::munmap(self.at.cast_mut().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[track_caller]
    fn check(arena: &MemfdArena, held_pages: u64) {
        assert_eq!(arena.held_bytes(), held_pages * PAGE_SIZE as u64);
        // What the kernel says that the file takes, in blocks of 512 bytes.
        assert_eq!(arena.file.metadata().unwrap().blocks() * 512, arena.held_bytes());
    }

    #[test]
    fn what_is_put_is_got_and_what_is_removed_takes_no_memory() {
        let arena = MemfdArena::with_capacity(1 << 20).unwrap();
        let whole = arena.put(&[1; PAGE_SIZE], PAGE_SIZE).unwrap();
        let small: Vec<Place> = (0..64u8).map(|n| arena.put(&[n; 100], 1).unwrap()).collect();
        assert_eq!(arena.get(&whole), [1; PAGE_SIZE]);
        for (n, place) in (0..).zip(&small) {
            assert_eq!(arena.get(place), [n; 100]);
        }
        check(&arena, 3); // 64 times 128 bytes are two pages.
        small.into_iter().for_each(|place| arena.remove(place));
        check(&arena, 1);
        arena.remove(whole);
        check(&arena, 0);
    }

    #[test]
    fn a_full_arena_says_so_and_goes_on() {
        let arena = MemfdArena::with_capacity(2 * PAGE_SIZE as u64).unwrap();
        let first = arena.put(&[1; PAGE_SIZE], 1).unwrap();
        assert!(matches!(arena.put(&[2; 2 * PAGE_SIZE], 1), Err(ArenaError::Full { .. })));
        assert!(arena.put(&[2; PAGE_SIZE], 1).is_ok());
        assert_eq!(arena.get(&first), [1; PAGE_SIZE]);
    }
}
