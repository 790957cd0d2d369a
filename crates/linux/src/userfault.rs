//! A userfaultfd over another process' memory: fill pages, poison the places of pages that are out, and serve the
//! faults and events of a process that runs while its memory comes back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use pages::{PAGE_SIZE, PageAddr};

use crate::sys;

const KIND: u64 = 0xaa;
const UFFDIO_API: u64 = sys::ioc(sys::IOC_READ_WRITE, KIND, 0x3f, size_of::<[u64; 3]>());
const UFFDIO_REGISTER: u64 = sys::ioc(sys::IOC_READ_WRITE, KIND, 0x00, size_of::<[u64; 4]>());
const UFFDIO_UNREGISTER: u64 = sys::ioc(sys::IOC_READ, KIND, 0x01, size_of::<[u64; 2]>());
const UFFDIO_WAKE: u64 = sys::ioc(sys::IOC_READ, KIND, 0x02, size_of::<[u64; 2]>());
const UFFDIO_COPY: u64 = sys::ioc(sys::IOC_READ_WRITE, KIND, 0x03, size_of::<[u64; 5]>());
const UFFDIO_ZEROPAGE: u64 = sys::ioc(sys::IOC_READ_WRITE, KIND, 0x04, size_of::<[u64; 4]>());
const UFFDIO_WRITEPROTECT: u64 = sys::ioc(sys::IOC_READ_WRITE, KIND, 0x06, size_of::<[u64; 3]>());
const UFFDIO_POISON: u64 = sys::ioc(sys::IOC_READ_WRITE, KIND, 0x08, size_of::<[u64; 4]>());

const UFFD_API: u64 = 0xaa;
const FEATURE_EVENT_FORK: u64 = 1 << 1;
const FEATURE_EVENT_REMAP: u64 = 1 << 2;
const FEATURE_EVENT_REMOVE: u64 = 1 << 3;
const FEATURE_EVENT_UNMAP: u64 = 1 << 6;
const FEATURE_WRITE_FAULTS: u64 = 1 << 0;
const FEATURE_POISON: u64 = 1 << 14;
/// Linux 6.7: the kernel notes the first write to a protected page by itself, and nobody waits.
const FEATURE_ASYNC_WRITE_FAULTS: u64 = 1 << 15;
const WRITE_FAULTS: u64 = FEATURE_WRITE_FAULTS | FEATURE_ASYNC_WRITE_FAULTS;
const EVENTS: u64 = FEATURE_EVENT_FORK | FEATURE_EVENT_REMAP | FEATURE_EVENT_REMOVE | FEATURE_EVENT_UNMAP;
const REGISTER_MODE_MISSING: u64 = 1;
const REGISTER_MODE_WRITES: u64 = 1 << 1;
const COPY_MODE_DONTWAKE: u64 = 1;
const COPY_MODE_PROTECT: u64 = 1 << 1;
const PROTECT: u64 = 1;

/// A kernel that says "again" means it for microseconds.
const AGAIN_MAX: u32 = 1000;

/// Events fetched by one read.
const EVENTS_PER_READ: usize = 16;

/// Which events the process tells us about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Only missing pages: for a process that stands still until all its memory is back.
    Faults,
    /// Also forks, unmapping and moving: for a process that runs meanwhile. From now on each of its `munmap`,
    /// `mremap`, `madvise` and `fork` waits until the event is read.
    AllEvents,
    /// Only which pages are written, which nobody is told: `PageMap::unwritten` finds those that were not.
    Writes,
}

/// Whether the first write to a page that is filled is to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// It counts as written from now on. A write costs nothing.
    Nothing,
    /// Until it is written it is known not to be (where the kernel notes writes, else as above).
    Write,
}

/// What the process did.
#[derive(Debug)]
pub enum Event {
    /// It touches a page that is not there, and waits.
    Fault(PageAddr),
    /// It forked: faults of the child come here.
    Fork(Userfault),
    /// Memory moved from the first address to the second.
    Remap {
        /// Where it was.
        from: u64,
        /// Where it is.
        to: u64,
        /// How much.
        len_bytes: u64,
    },
    /// The range reads as zeros from now on.
    Remove {
        /// First address.
        start: u64,
        /// First address after it.
        end: u64,
    },
    /// The range is unmapped.
    Unmap {
        /// First address.
        start: u64,
        /// First address after it.
        end: u64,
    },
}

/// What became of a page that was to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// All of it is there now.
    Done,
    /// So many bytes are there; the next page was present already.
    Occupied(usize),
    /// So many bytes are there; the process is changing its mappings: read its events and try again.
    Changing(usize),
    /// No one mapping that is watched covers all of it.
    Unmapped,
    /// The process is gone.
    Dead,
}

/// A userfaultfd of a process.
#[derive(Debug)]
pub struct Userfault {
    fd: OwnedFd,
    can_poison: bool,
    notes_writes: bool,
}

impl Userfault {
    /// Takes over a descriptor that was just created in the process, and agrees with the kernel on what it tells.
    pub fn set_up(fd: OwnedFd, watch: Watch) -> io::Result<Userfault> {
        let (needed, wished): (u64, &[u64]) = match watch {
            Watch::Faults => (0, &[FEATURE_POISON, 0]),
            Watch::AllEvents => {
                (EVENTS, &[FEATURE_POISON | WRITE_FAULTS, FEATURE_POISON, 0]) // In the order in which kernels got them.
            }
            Watch::Writes => (WRITE_FAULTS, &[0]),
        };
        let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
        for more in wished {
            let features = needed | more;
            // A kernel that lacks one feature refuses the set.
            match sys::ioctl(fd.as_fd(), UFFDIO_API, &mut [UFFD_API, features, 0]) {
                Ok(_) => {
                    let can_poison = features & FEATURE_POISON != 0;
                    let notes_writes = features & FEATURE_ASYNC_WRITE_FAULTS != 0;
                    return Ok(Userfault { fd, can_poison, notes_writes });
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Whether this kernel can mark pages as deadly to touch (Linux 6.6).
    pub fn can_poison(&self) -> bool {
        self.can_poison
    }

    /// Watches a whole mapping for missing pages, and can note writes to those that are filled.
    pub fn register(&self, start: u64, end: u64) -> io::Result<()> {
        let writes = if self.notes_writes { REGISTER_MODE_WRITES } else { 0 };
        let mut arg = [start, end - start, REGISTER_MODE_MISSING | writes, 0];
        // TRACEE: missing pages of the range make it wait instead of reading zeros; nothing is lost by it.
        sys::ioctl(self.fd.as_fd(), UFFDIO_REGISTER, &mut arg).map(drop)
    }

    /// Makes a whole mapping one in which writes can be noted; nothing is waited for in it. To be called again for the
    /// same mapping: refused (`EBUSY`) if somebody else watches it.
    pub fn register_writes(&self, start: u64, end: u64) -> io::Result<()> {
        let mut arg = [start, end - start, REGISTER_MODE_WRITES, 0];
        // TRACEE: nothing waits, nothing is lost.
        sys::ioctl(self.fd.as_fd(), UFFDIO_REGISTER, &mut arg).map(drop)
    }

    /// From now on the first write to each page of the range is noted. All its pages must be there: a missing one would
    /// get a mark, and count as a page that is there and was not written.
    pub fn note_writes(&self, start: u64, end: u64) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let mut arg = [start, end - start, PROTECT];
            // TRACEE: a write to the page costs a fault more, which the kernel resolves by itself.
            match sys::ioctl(self.fd.as_fd(), UFFDIO_WRITEPROTECT, &mut arg) {
                // The process was just changing its mappings.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < AGAIN_MAX => tries += 1,
                done => return done.map(drop),
            }
        }
    }

    /// Stops watching: missing pages read as zeros again. All content must be back.
    pub fn unregister(&self, start: u64, end: u64) -> io::Result<()> {
        let mut arg = [start, end - start];
        // TRACEE: the caller has filled every page of the range that had content.
        sys::ioctl(self.fd.as_fd(), UFFDIO_UNREGISTER, &mut arg)?;
        // The kernel wakes who waits before it ends the watch; who comes in between would wait for ever.
        self.wake(PageAddr::containing(start), end - start)
    }

    /// Fills missing pages from `at` on, in one mapping. Wakes nobody: for a process that stands still.
    pub fn fill(&self, at: PageAddr, bytes: &[u8]) -> io::Result<Filled> {
        self.copy(at, bytes, COPY_MODE_DONTWAKE)
    }

    /// Fills missing pages from `at` on, and lets threads go that wait for them.
    pub fn fill_and_wake(&self, at: PageAddr, bytes: &[u8], note: Note) -> io::Result<Filled> {
        let mode = if note == Note::Write && self.notes_writes { COPY_MODE_PROTECT } else { 0 };
        let filled = self.copy(at, bytes, mode)?;
        if let Filled::Occupied(_) = filled {
            self.wake(at, bytes.len() as u64)?; // Another fill came first: its waiters may not know.
        }
        Ok(filled)
    }

    fn copy(&self, at: PageAddr, bytes: &[u8], mode: u64) -> io::Result<Filled> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let mut arg = [at.get() + done as u64, rest.as_ptr() as u64, rest.len() as u64, mode, 0];
            // TRACEE: only pages that are missing, with the bytes that were there (the store has checked them).
            match sys::ioctl(self.fd.as_fd(), UFFDIO_COPY, &mut arg) {
                Ok(_) => return Ok(Filled::Done),
                Err(error) => {
                    done += usize::try_from(arg[4] as i64).unwrap_or(0); // What was done; negative: nothing.
                    match error.raw_os_error() {
                        Some(libc::EEXIST) => return Ok(Filled::Occupied(done)),
                        Some(libc::EAGAIN) if arg[4] as i64 > 0 => {} // Stopped half-way: go on from there.
                        Some(libc::EAGAIN) => return Ok(Filled::Changing(done)),
                        Some(libc::ENOENT) => {
                            // Whoever waited for a page that is watched no more looks again.
                            self.wake(at, bytes.len() as u64)?;
                            return Ok(Filled::Unmapped);
                        }
                        Some(libc::ESRCH) => return Ok(Filled::Dead),
                        _ => return Err(error),
                    }
                }
            }
        }
        Ok(Filled::Done)
    }

    /// Lets missing pages that never had content read as zeros, from `at` on, and their waiters go.
    pub fn fill_zero_and_wake(&self, at: PageAddr, pages: u64) -> io::Result<Filled> {
        let mut arg = [at.get(), pages * PAGE_SIZE as u64, 0, 0];
        // TRACEE: pages that are missing and not in the manifest: they were never written, or were given back.
        match sys::ioctl(self.fd.as_fd(), UFFDIO_ZEROPAGE, &mut arg) {
            Ok(_) => Ok(Filled::Done),
            Err(error) => match error.raw_os_error() {
                Some(libc::EEXIST) => {
                    self.wake(at, PAGE_SIZE as u64)?;
                    Ok(Filled::Occupied(usize::try_from(arg[3] as i64).unwrap_or(0)))
                }
                Some(libc::EAGAIN) if arg[3] as i64 > 0 => Ok(Filled::Done), // The first page is there.
                Some(libc::EAGAIN) => Ok(Filled::Changing(0)),
                Some(libc::ENOENT) => {
                    self.wake(at, PAGE_SIZE as u64)?;
                    Ok(Filled::Unmapped)
                }
                Some(libc::ESRCH) => Ok(Filled::Dead),
                _ => Err(error),
            },
        }
    }

    fn wake(&self, at: PageAddr, len_bytes: u64) -> io::Result<()> {
        let mut arg = [at.get(), len_bytes];
        // TRACEE: its threads look again whether the page is there.
        sys::ioctl(self.fd.as_fd(), UFFDIO_WAKE, &mut arg).map(drop)
    }

    /// Makes missing pages deadly to touch until they are filled: a process thawed by mistake gets `SIGBUS` instead
    /// of reading zeros. Does nothing where the kernel cannot (before Linux 6.6). Pages that are present stay as they are.
    pub fn poison(&self, start: u64, end: u64) -> io::Result<()> {
        if !self.can_poison {
            return Ok(()); // Linux before 6.6: the freezer alone keeps it from running.
        }
        let mut at = start;
        while at < end {
            let mut arg = [at, end - at, 0, 0];
            // TRACEE: only pages whose content the store holds; filling overwrites the mark.
            if let Err(error) = sys::ioctl(self.fd.as_fd(), UFFDIO_POISON, &mut arg) {
                at += u64::try_from(arg[3] as i64).unwrap_or(0);
                match error.raw_os_error() {
                    Some(libc::EEXIST) => at += PAGE_SIZE as u64,
                    Some(libc::EAGAIN) => {}
                    _ => return Err(error),
                }
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Whether its process is gone.
    pub fn is_orphaned(&self) -> bool {
        self.ask().is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
    }

    /// Whether a thread of the process waits for one of its events to be read, or has just been told that it was.
    pub fn is_waited_for(&self) -> bool {
        self.ask().is_err_and(|error| error.raw_os_error() == Some(libc::EAGAIN))
    }

    /// Has the kernel look whether it could fill a page.
    fn ask(&self) -> io::Result<()> {
        // No process has memory at this address, so nothing is filled; but the kernel looks at other things first.
        let mut arg = [PAGE_SIZE as u64, PAGE_SIZE as u64, 0, 0];
        // TRACEE: nothing is changed.
        sys::ioctl(self.fd.as_fd(), UFFDIO_ZEROPAGE, &mut arg).map(drop)
    }

    /// Fetches what has happened; nothing when nothing has.
    pub fn events(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut messages = [[0u64; 4]; EVENTS_PER_READ]; // `struct uffd_msg`: 32 bytes.
        let buffer = messages.as_flattened_mut();
        // SAFETY: eight-byte integers may be seen as bytes; the slice covers just the array and ends with this call.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<u8>(), size_of_val(buffer)) };
        let read = match rustix::io::read(&self.fd, bytes) {
            Ok(read) => read,
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        events.extend(messages.iter().take(read / size_of::<[u64; 4]>()).filter_map(Self::event));
        Ok(())
    }

    fn event(message: &[u64; 4]) -> Option<Event> {
        const FAULT: u64 = 0x12;
        const FORK: u64 = 0x13;
        const REMAP: u64 = 0x14;
        const REMOVE: u64 = 0x15;
        const UNMAP: u64 = 0x16;
        let [head, a, b, c] = *message;
        match head & 0xff {
            FAULT => Some(Event::Fault(PageAddr::containing(b))),
            FORK => {
                // SAFETY: the kernel has just made this descriptor in our table, for us.
                let fd = unsafe { OwnedFd::from_raw_fd(a as u32 as i32) };
                Some(Event::Fork(Userfault { fd, can_poison: false, notes_writes: false }))
            }
            REMAP => Some(Event::Remap { from: a, to: b, len_bytes: c }),
            REMOVE => Some(Event::Remove { start: a, end: b }),
            UNMAP => Some(Event::Unmap { start: a, end: b }),
            _ => None,
        }
    }
}

impl AsFd for Userfault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
