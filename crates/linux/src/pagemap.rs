//! Which pages of a process are its own and present: `PAGEMAP_SCAN` (Linux 6.7), or the older page map file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use pages::{PAGE_SIZE, PageAddr, PageRange};

use crate::maps::Mapping;
use crate::sys;

const PAGEMAP_SCAN: u64 = sys::ioc(sys::IOC_READ_WRITE, b'f' as u64, 16, size_of::<ScanArg>());
const PAGE_IS_WPALLOWED: u64 = 1 << 0; // In a mapping where a userfaultfd notes writes.
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PAGE_IS_GUARD: u64 = 1 << 8; // Linux 6.15. Looks swapped out, holds nothing, and may not be read.

/// Runs fetched by one call; more need another call. Linux collects 512 at a time, and a call with room for more
/// that ends in its second round or later says that it ended where the first did (`walk_end`, seen on 6.18): runs would
/// come twice.
const RUNS_PER_CALL: usize = 512;

/// Page map entries read at once where `PAGEMAP_SCAN` is missing.
const ENTRIES_PER_READ: usize = 4096;

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// The page map of one process.
#[derive(Debug)]
pub struct PageMap {
    file: File,
    by_scan: bool,
    knows_guards: bool,
}

impl PageMap {
    /// Opens the page map of `pid`.
    pub fn open(pid: i32) -> io::Result<PageMap> {
        let file = File::open(format!("/proc/{pid}/pagemap"))?;
        Ok(PageMap { file, by_scan: true, knows_guards: true })
    }

    /// The same without `PAGEMAP_SCAN`, as on kernels before 6.7.
    pub fn open_without_scan(pid: i32) -> io::Result<PageMap> {
        Ok(PageMap { by_scan: false, ..PageMap::open(pid)? })
    }

    /// Appends the runs of pages in `mapping` that are this process' own: anonymous, or private copies of file
    /// pages; present or swapped out. The shared zero page costs nothing and is not among them (without
    /// `PAGEMAP_SCAN` it is, and will be found to hold zeros).
    pub fn own_pages(&mut self, mapping: &Mapping, runs: &mut Vec<PageRange>) -> io::Result<()> {
        if self.by_scan {
            match self.scan(mapping, runs) {
                // ENOTTY: this kernel does not know the call, and will not learn it.
                Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => self.by_scan = false,
                // EINVAL: it knows no guard pages, and so has none.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && self.knows_guards => {
                    self.knows_guards = false;
                    return self.own_pages(mapping, runs);
                }
                done => return done,
            }
        }
        let files_too = mapping.is_private_anonymous();
        self.read_entries(mapping.start, mapping.end, files_too, runs)
    }

    /// Appends the runs of pages in the range, of one mapping, to which no write was noted since they were filled or
    /// since `Userfault::note_writes`. Not one if this kernel notes none (before Linux 6.7).
    pub fn unwritten(&mut self, start: u64, end: u64, runs: &mut Vec<PageRange>) -> io::Result<()> {
        let wanted = ScanArg {
            category_inverted: PAGE_IS_WRITTEN,
            category_mask: PAGE_IS_WRITTEN | PAGE_IS_WPALLOWED,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ..ScanArg::default()
        };
        match self.scan_for(wanted, start, end, runs) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(()),
            done => done,
        }
    }

    /// Appends the runs of pages in the range, of one mapping, that are there, whatever they hold: the shared zero page
    /// is among them.
    pub fn present(&mut self, start: u64, end: u64, runs: &mut Vec<PageRange>) -> io::Result<()> {
        let guard = if self.knows_guards { PAGE_IS_GUARD } else { 0 };
        let wanted = ScanArg {
            category_inverted: guard,
            category_mask: guard,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ..ScanArg::default()
        };
        match self.scan_for(wanted, start, end, runs) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                self.read_entries(start, end, true, runs)
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && self.knows_guards => {
                self.knows_guards = false;
                self.present(start, end, runs)
            }
            done => done,
        }
    }

    fn scan(&mut self, mapping: &Mapping, runs: &mut Vec<PageRange>) -> io::Result<()> {
        let mut unwanted = PAGE_IS_PFNZERO;
        if mapping.is_private_file() {
            unwanted |= PAGE_IS_FILE;
        }
        if self.knows_guards {
            unwanted |= PAGE_IS_GUARD;
        }
        let wanted = ScanArg {
            category_inverted: unwanted,
            category_mask: unwanted,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ..ScanArg::default()
        };
        self.scan_for(wanted, mapping.start, mapping.end, runs)
    }

    fn scan_for(
        &self,
        wanted: ScanArg,
        mut start: u64,
        end: u64,
        runs: &mut Vec<PageRange>,
    ) -> io::Result<()> {
        let mut regions = [Region::default(); RUNS_PER_CALL];
        while start < end {
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                start,
                end,
                vec: regions.as_mut_ptr() as u64,
                vec_len: RUNS_PER_CALL as u64,
                ..wanted
            };
            let found = sys::ioctl(self.file.as_fd(), PAGEMAP_SCAN, &mut arg)?;
            let found = regions.get(..found as usize).unwrap_or_default();
            runs.extend(found.iter().map(|region| range(region.start, region.end)));
            if arg.walk_end <= start {
                break;
            }
            start = arg.walk_end;
        }
        Ok(())
    }

    fn read_entries(
        &self,
        start: u64,
        end: u64,
        files_too: bool,
        runs: &mut Vec<PageRange>,
    ) -> io::Result<()> {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FILE_OR_SHARED: u64 = 1 << 61;
        const GUARD: u64 = 1 << 58;
        let mut buffer = vec![0u8; ENTRIES_PER_READ * 8];
        let mut open: Option<u64> = None; // Where the run that is being read begins.
        let mut address = start;
        while address < end {
            let pages = ((end - address) / PAGE_SIZE as u64).min(ENTRIES_PER_READ as u64);
            let bytes = &mut buffer[..pages as usize * 8];
            self.file.read_exact_at(bytes, address / PAGE_SIZE as u64 * 8)?;
            for entry in bytes.chunks_exact(8) {
                let entry = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| entry[at]));
                let own = entry & (PRESENT | SWAPPED) != 0
                    && entry & GUARD == 0
                    && (files_too || entry & FILE_OR_SHARED == 0);
                if own && open.is_none() {
                    open = Some(address);
                } else if !own && let Some(start) = open.take() {
                    runs.push(range(start, address));
                }
                address += PAGE_SIZE as u64;
            }
        }
        runs.extend(open.map(|start| range(start, end)));
        Ok(())
    }
}

fn range(start: u64, end: u64) -> PageRange {
    PageRange::from_bounds(PageAddr::containing(start), PageAddr::containing(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps;

    /// Pages 1, 2 and 4 of 6 in a fresh mapping are written, and page 5 is a guard page where the kernel has them;
    /// each way of looking must find just the written ones.
    #[track_caller]
    fn check(mut page_map: PageMap) {
        let mut memory = crate::sys::tests::anonymous(6);
        for page in [1, 2, 4] {
            memory.as_mut()[page * PAGE_SIZE] = 1;
        }
        memory.guard(5);
        let start = memory.as_mut().as_ptr() as u64;
        let mappings = maps::read(std::process::id() as i32).unwrap();
        let mapping = mappings.iter().find(|m| (m.start..m.end).contains(&start)).unwrap();
        let mut runs = Vec::new();
        let mapping = Mapping { start, end: start + 6 * PAGE_SIZE as u64, ..mapping.clone() };
        page_map.own_pages(&mapping, &mut runs).unwrap();
        let found: Vec<_> =
            runs.iter().map(|run| ((run.start().get() - start) / 4096, run.pages())).collect();
        assert_eq!(found, [(1, 2), (4, 1)]);
    }

    #[test]
    fn pages_that_were_written_are_found_by_scan() {
        check(PageMap::open(std::process::id() as i32).unwrap());
    }

    #[test]
    fn pages_that_were_written_are_found_without_scan() {
        check(PageMap::open_without_scan(std::process::id() as i32).unwrap());
    }

    #[test]
    fn more_runs_than_one_call_finds_come_once_each() {
        // The last call finds more than half of what it has room for.
        const PAGES: usize = 2 * (2 * RUNS_PER_CALL + RUNS_PER_CALL * 3 / 5);
        let mut memory = crate::sys::tests::anonymous(PAGES);
        (0..PAGES).step_by(2).for_each(|page| memory.as_mut()[page * PAGE_SIZE] = 1);
        let start = memory.as_mut().as_ptr() as u64;
        let mut runs = Vec::new();
        let mut page_map = PageMap::open(std::process::id() as i32).unwrap();
        page_map.present(start, start + (PAGES * PAGE_SIZE) as u64, &mut runs).unwrap();
        let expected = (0..PAGES as u64).step_by(2).map(|page| range(start, start + 4096).start() + page);
        assert_eq!(runs, expected.map(|addr| PageRange::new(addr, 1)).collect::<Vec<_>>());
    }
}
