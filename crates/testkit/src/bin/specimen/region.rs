//! A mapping of our own, with a name by which its checksum is reported.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::content;
use crate::raw::{check, check_int};

/// Pages at one place of our address space, seen as bytes.
pub(crate) struct Region {
    name: &'static str,
    base: *mut u8,
    len_bytes: usize,
    prot: libc::c_int,
}

const READ_WRITE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

impl Region {
    /// Private memory of nobody else.
    pub(crate) fn private(name: &'static str, len_bytes: usize) -> io::Result<Region> {
        Self::map(name, len_bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// Anonymous memory with these further `MAP_…` flags.
    pub(crate) fn anonymous(name: &'static str, len_bytes: usize, flags: libc::c_int) -> io::Result<Region> {
        Self::map(name, len_bytes, flags | libc::MAP_ANONYMOUS, -1)
    }

    /// The start of a file, `MAP_SHARED` or `MAP_PRIVATE`.
    pub(crate) fn of_file(
        name: &'static str,
        len_bytes: usize,
        sharing: libc::c_int,
        file: BorrowedFd<'_>,
    ) -> io::Result<Region> {
        Self::map(name, len_bytes, sharing, file.as_raw_fd())
    }

    fn map(name: &'static str, len_bytes: usize, flags: libc::c_int, fd: i32) -> io::Result<Region> {
        // SAFETY: a new mapping at a place the kernel chooses overlaps nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len_bytes, READ_WRITE, flags, fd, 0) };
        check(base as i64)?;
        Ok(Region { name, base: base.cast(), len_bytes, prot: READ_WRITE })
    }

    /// The same region once more, for a child that gets its own copy of it by fork.
    pub(crate) fn again(&self) -> Region {
        Region { ..*self }
    }

    /// By what name it is reported.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it starts.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// How long it is.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Its content; only while it is readable.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is ours, as long as this; processes that share it write only while we wait for them.
        unsafe { std::slice::from_raw_parts(self.base, self.len_bytes) }
    }

    /// Its content, to be changed; only while it is writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len_bytes) }
    }

    /// Hash of its content, whatever its protection.
    pub(crate) fn sum(&mut self) -> io::Result<u64> {
        self.with(libc::PROT_READ, |bytes| content::sum(bytes))
    }

    /// Changes some of its pages, whatever its protection.
    pub(crate) fn mutate(&mut self, seed: u64) -> io::Result<()> {
        self.with(READ_WRITE, |bytes| content::mutate(bytes, seed))
    }

    /// Runs `act` while the protection allows `needed`, and restores the protection.
    fn with<T>(&mut self, needed: libc::c_int, act: impl FnOnce(&mut [u8]) -> T) -> io::Result<T> {
        let usual = self.prot;
        if usual & needed != needed {
            self.protect(usual | needed)?;
        }
        let result = act(self.bytes_mut());
        if usual & needed != needed {
            self.protect(usual)?;
        }
        Ok(result)
    }

    /// Sets the protection of the whole region.
    pub(crate) fn protect(&mut self, prot: libc::c_int) -> io::Result<()> {
        // SAFETY: the range is our own mapping, and no reference into it lives across this call.
        check_int(unsafe { libc::mprotect(self.base.cast(), self.len_bytes, prot) })?;
        self.prot = prot;
        Ok(())
    }

    /// Gives advice on the first `len_bytes`.
    pub(crate) fn advise(&mut self, len_bytes: usize, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: as in `protect`; what the advice does to the content, its giver wants.
        check_int(unsafe { libc::madvise(self.base.cast(), len_bytes.min(self.len_bytes), advice) })?;
        Ok(())
    }

    /// Locks it in memory.
    pub(crate) fn lock(&mut self) -> io::Result<()> {
        // SAFETY: locking changes no content.
        check_int(unsafe { libc::mlock(self.base.cast(), self.len_bytes) })?;
        Ok(())
    }

    /// Gives up all but the first `keep_bytes`.
    pub(crate) fn truncate(&mut self, keep_bytes: usize) -> io::Result<()> {
        let rest = self.len_bytes.saturating_sub(keep_bytes);
        // SAFETY: `rest` bytes from there on are the end of our own mapping, and `len_bytes` forgets them below.
        let end = unsafe { self.base.add(keep_bytes) };
        // SAFETY: as above.
        check_int(unsafe { libc::munmap(end.cast(), rest) })?;
        self.len_bytes = keep_bytes;
        Ok(())
    }

    /// Makes it `len_bytes` long, moving it if need be.
    pub(crate) fn grow(&mut self, len_bytes: usize) -> io::Result<()> {
        // SAFETY: the old range is our own mapping; `base` follows to wherever the kernel puts it.
        let base = unsafe { libc::mremap(self.base.cast(), self.len_bytes, len_bytes, libc::MREMAP_MAYMOVE) };
        check(base as i64)?;
        (self.base, self.len_bytes) = (base.cast(), len_bytes);
        Ok(())
    }

    /// Moves it to another place.
    pub(crate) fn relocate(&mut self) -> io::Result<()> {
        let place = Region::private("place", self.len_bytes)?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: `place` is a mapping of this length that nobody else knows; ours replaces it.
        let base =
            unsafe { libc::mremap(self.base.cast(), self.len_bytes, self.len_bytes, flags, place.base) };
        check(base as i64)?;
        self.base = base.cast();
        Ok(())
    }
}

/// Whether no mapping lies at `base`. `mincore` reports exactly that by `ENOMEM`.
pub(crate) fn is_unmapped(base: *mut u8) -> bool {
    let mut resident = 0u8;
    // SAFETY: one page is asked about and one byte is given for the answer.
    let result = unsafe { libc::mincore(base.cast(), content::PAGE_BYTES, &raw mut resident) };
    check_int(result).is_err_and(|error| error.raw_os_error() == Some(libc::ENOMEM))
}
