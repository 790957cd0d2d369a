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
    seen: Option<Seen>,
}

/// What a process had in a range at one moment.
#[derive(Debug)]
struct Seen {
    start: u64,
    end: u64,
    /// By address; neighbours differ.
    regions: Vec<Region>,
}

impl PageMap {
    /// Opens the page map of `pid`.
    pub fn open(pid: i32) -> io::Result<PageMap> {
        let file = File::open(format!("/proc/{pid}/pagemap"))?;
        Ok(PageMap { file, by_scan: true, knows_guards: true, seen: None })
    }

    /// The same without `PAGEMAP_SCAN`, as on kernels before 6.7.
    pub fn open_without_scan(pid: i32) -> io::Result<PageMap> {
        Ok(PageMap { by_scan: false, ..PageMap::open(pid)? })
    }

    /// Looks at all `mappings`, which are in order, at once, and from then on answers from what it saw: for a process
    /// that is stopped. To look at each of a thousand mappings takes several times as long. An error if `give_up` says
    /// meanwhile that it is no longer wanted.
    pub fn look_over<'a>(
        &mut self,
        mappings: impl IntoIterator<Item = &'a Mapping>,
        give_up: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        self.seen = None;
        let mut mappings = mappings.into_iter().filter(|mapping| !mapping.is_kernels());
        let Some(first) = mappings.next() else { return Ok(()) };
        let (start, end) = (first.start, mappings.last().unwrap_or(first).end);
        let mut regions = Vec::new();
        if self.scan(start, end, &mut regions, give_up)? {
            self.seen = Some(Seen { start, end, regions });
        }
        Ok(())
    }

    /// Appends the runs of pages in `mapping` that are this process' own: anonymous, or private copies of file
    /// pages; present or swapped out. The shared zero page costs nothing and is not among them (without
    /// `PAGEMAP_SCAN` it is, and will be found to hold zeros).
    pub fn own_pages(&mut self, mapping: &Mapping, runs: &mut Vec<PageRange>) -> io::Result<()> {
        let of_file = if mapping.is_private_file() { PAGE_IS_FILE } else { 0 };
        let unwanted = PAGE_IS_PFNZERO | PAGE_IS_GUARD | of_file;
        if self.find(mapping.start, mapping.end, |page| page & unwanted == 0, runs)? {
            return Ok(());
        }
        let files_too = mapping.is_private_anonymous();
        self.read_entries(mapping.start, mapping.end, files_too, runs)
    }

    /// Appends the runs of pages in the range, of one mapping, to which no write was noted since they were filled or
    /// since `Userfault::note_writes`. Not one if this kernel notes none (before Linux 6.7).
    pub fn unwritten(&mut self, start: u64, end: u64, runs: &mut Vec<PageRange>) -> io::Result<()> {
        let is_clean = |page| page & (PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN) == PAGE_IS_WPALLOWED;
        self.find(start, end, is_clean, runs).map(|_| ())
    }

    /// Appends the runs of pages in the range, of one mapping, that are there, whatever they hold: the shared zero page
    /// is among them.
    pub fn present(&mut self, start: u64, end: u64, runs: &mut Vec<PageRange>) -> io::Result<()> {
        if self.find(start, end, |page| page & PAGE_IS_GUARD == 0, runs)? {
            return Ok(());
        }
        self.read_entries(start, end, true, runs)
    }

    /// Appends the runs of pages in the range, present or swapped out, whose categories are wanted. `false`: this kernel
    /// cannot tell.
    fn find(
        &mut self,
        start: u64,
        end: u64,
        is_wanted: impl Fn(u64) -> bool,
        runs: &mut Vec<PageRange>,
    ) -> io::Result<bool> {
        let mut found = Vec::new();
        let is_seen = self.seen.as_ref().is_some_and(|seen| seen.start <= start && end <= seen.end);
        if !is_seen && !self.scan(start, end, &mut found, &|| false)? {
            return Ok(false);
        }
        let regions = match &self.seen {
            Some(seen) if is_seen => {
                let first = seen.regions.partition_point(|region| region.end <= start);
                &seen.regions[first..]
            }
            _ => &found,
        };
        let mut open: Option<(u64, u64)> = None; // Regions that follow each other differ in what nobody asked for.
        for region in regions.iter().take_while(|region| region.start < end) {
            if !is_wanted(region.categories) {
                continue;
            }
            let (from, to) = (region.start.max(start), region.end.min(end));
            match &mut open {
                Some((_, end)) if *end == from => *end = to,
                _ => runs.extend(open.replace((from, to)).map(|(start, end)| range(start, end))),
            }
        }
        runs.extend(open.map(|(start, end)| range(start, end)));
        Ok(true)
    }

    /// Appends all regions of pages that are present or swapped out. `false`, and nothing, if this kernel cannot tell.
    fn scan(
        &mut self,
        start: u64,
        end: u64,
        found: &mut Vec<Region>,
        give_up: &dyn Fn() -> bool,
    ) -> io::Result<bool> {
        while self.by_scan {
            match self.try_scan(start, end, found, give_up) {
                // ENOTTY: this kernel does not know the call, and will not learn it.
                Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => self.by_scan = false,
                // EINVAL: it knows no guard pages, and so has none.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && self.knows_guards => {
                    self.knows_guards = false;
                }
                done => return done.map(|()| true),
            }
        }
        Ok(false)
    }

    fn try_scan(
        &self,
        mut start: u64,
        end: u64,
        found: &mut Vec<Region>,
        give_up: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        let guard = if self.knows_guards { PAGE_IS_GUARD } else { 0 };
        let mut regions = [Region::default(); RUNS_PER_CALL];
        while start < end {
            if give_up() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                start,
                end,
                vec: regions.as_mut_ptr() as u64,
                vec_len: RUNS_PER_CALL as u64,
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_FILE | PAGE_IS_PFNZERO | guard,
                ..ScanArg::default()
            };
            let filled = sys::ioctl(self.file.as_fd(), PAGEMAP_SCAN, &mut arg)?;
            found.extend(regions.get(..filled as usize).unwrap_or_default());
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
    fn check(mut page_map: PageMap, is_at_once: bool) {
        let mut memory = crate::sys::tests::anonymous(6);
        for page in [1, 2, 4] {
            memory.as_mut()[page * PAGE_SIZE] = 1;
        }
        memory.guard(5);
        let start = memory.as_mut().as_ptr() as u64;
        let mappings = maps::read(std::process::id() as i32).unwrap();
        let mapping = mappings.iter().find(|m| (m.start..m.end).contains(&start)).unwrap();
        let mut runs = Vec::new();
        if is_at_once {
            page_map.look_over(&mappings, &|| false).unwrap();
            if page_map.by_scan {
                memory.as_mut()[0] = 1; // Too late to be seen. Without a scan nothing is kept.
            }
        }
        let mapping = Mapping { start, end: start + 6 * PAGE_SIZE as u64, ..mapping.clone() };
        page_map.own_pages(&mapping, &mut runs).unwrap();
        let found: Vec<_> =
            runs.iter().map(|run| ((run.start().get() - start) / 4096, run.pages())).collect();
        assert_eq!(found, [(1, 2), (4, 1)]);
    }

    #[test]
    fn pages_that_were_written_are_found_by_scan() {
        check(PageMap::open(std::process::id() as i32).unwrap(), false);
        check(PageMap::open(std::process::id() as i32).unwrap(), true);
    }

    #[test]
    fn pages_that_were_written_are_found_without_scan() {
        check(PageMap::open_without_scan(std::process::id() as i32).unwrap(), false);
        check(PageMap::open_without_scan(std::process::id() as i32).unwrap(), true);
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
