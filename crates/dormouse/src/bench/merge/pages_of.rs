//! The private pages of several processes, counted by what they hold and by the frames that they stand in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::thread::ScopedJoinHandle;

use linux::maps;
use linux::memory::Memory;
use linux::pagemap::PageMap;
use merge::PageHash;
use pages::{PAGE_SIZE, PageAddr, PageRange};

/// Pages that are read at once.
const PIECE_PAGES: u64 = 256;

/// Bits of an entry of the page map.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// So many pages, and so many that differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pages: u64,
    distinct: u64,
}

impl Count {
    fn of<T: Ord>(mut pages: Vec<T>) -> Count {
        let count = pages.len() as u64;
        pages.sort_unstable();
        pages.dedup();
        Count { pages: count, distinct: pages.len() as u64 }
    }

    /// What is there beyond the first of each.
    pub(super) fn repeated_bytes(self) -> u64 {
        (self.pages - self.distinct) * PAGE_SIZE as u64
    }

    /// The first of each.
    pub(super) fn distinct_bytes(self) -> u64 {
        self.distinct * PAGE_SIZE as u64
    }
}

/// By what they hold. The processes should stand still or wait: what they write meanwhile may be missed.
pub(super) fn by_content(pids: &[i32]) -> io::Result<Count> {
    of_all(pids, |pid, runs, hashes| {
        let memory = Memory::open(pid)?;
        let mut buffer = vec![0; PIECE_PAGES as usize * PAGE_SIZE];
        for piece in pieces(runs) {
            let bytes = buffer.get_mut(..piece.pages() as usize * PAGE_SIZE).unwrap_or_default();
            memory.read(piece.start().get(), bytes)?;
            hashes.extend(bytes.chunks_exact(PAGE_SIZE).map(PageHash::of));
        }
        Ok(())
    })
    .map(Count::of)
}

/// By the frames that they stand in, which only root may know.
pub(super) fn by_frame(pids: &[i32]) -> io::Result<Count> {
    of_all(pids, |pid, runs, frames| {
        let map = File::open(format!("/proc/{pid}/pagemap"))?;
        let mut buffer = [0; PIECE_PAGES as usize * 8];
        for piece in pieces(runs) {
            let bytes = buffer.get_mut(..piece.pages() as usize * 8).unwrap_or_default();
            map.read_exact_at(bytes, piece.start().get() / PAGE_SIZE as u64 * 8)?;
            let entries = bytes.as_chunks().0.iter().map(|entry| u64::from_le_bytes(*entry));
            frames.extend(entries.filter(|entry| entry & PRESENT != 0).map(|entry| entry & FRAME));
        }
        Ok(())
    })
    .map(Count::of)
}

/// What `look` finds in the private pages of each process, each on a thread of its own.
fn of_all<T: Send>(
    pids: &[i32],
    look: impl Fn(i32, &[PageRange], &mut Vec<T>) -> io::Result<()> + Sync,
) -> io::Result<Vec<T>> {
    let look = |pid| {
        let mut found = Vec::new();
        look(pid, &own_pages(pid)?, &mut found)?;
        Ok(found)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = pids.iter().map(|&pid| scope.spawn(move || look(pid))).collect();
        let join = |thread: ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        // All are joined, whatever the first of them found.
        let found: Vec<io::Result<Vec<T>>> = threads.into_iter().map(join).collect();
        found.into_iter().try_fold(Vec::new(), |mut all, found| {
            all.append(&mut found?);
            Ok(all)
        })
    })
}

fn own_pages(pid: i32) -> io::Result<Vec<PageRange>> {
    let (mappings, mut page_map) = (maps::read_without_flags(pid)?, PageMap::open(pid)?);
    let mut runs = Vec::new();
    for mapping in mappings.iter().filter(|m| m.is_private_anonymous() || m.is_private_file()) {
        page_map.own_pages(mapping, &mut runs)?;
    }
    Ok(runs)
}

fn pieces(runs: &[PageRange]) -> impl Iterator<Item = PageRange> {
    runs.iter().flat_map(|run| {
        (0..run.pages()).step_by(PIECE_PAGES as usize).map(|first| {
            let start: PageAddr = run.start() + first;
            PageRange::new(start, PIECE_PAGES.min(run.pages() - first))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_more_than_once_is_counted_beyond_the_first() {
        let count = Count::of(vec![7, 5, 7, 7]);
        assert_eq!((count.repeated_bytes(), count.distinct_bytes()), (2 * 4096, 2 * 4096));
        assert_eq!(Count::of(Vec::<u64>::new()), Count::default());
    }

    #[test]
    fn equal_pages_of_one_process_are_found() {
        let me = [std::process::id() as i32];
        let memory = vec![0xA5u8; 300 * PAGE_SIZE];
        let count = by_content(&me).unwrap();
        assert!(count.repeated_bytes() >= 298 * PAGE_SIZE as u64, "{count:?}");
        drop(memory);
    }

    #[test]
    fn runs_are_cut_into_pieces_that_fit() {
        let run = PageRange::new(PageAddr::containing(1 << 20), 600);
        let cut: Vec<u64> = pieces(&[run]).map(|piece| piece.pages()).collect();
        assert_eq!(cut, [256, 256, 88]);
    }
}
