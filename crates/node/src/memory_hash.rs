//! A hash of all private memory of a stopped tree: the proof that a wake brought back what went to sleep.

use std::io;

use linux::maps;
use linux::memory::Memory;
use linux::pagemap::PageMap;
use linux::trace::RseqArea;
use pages::{PAGE_SIZE, PageAddr, PageRange};
use xxhash_rust::xxh3::Xxh3;

/// Read at once.
const CHUNK_BYTES: usize = 64 * PAGE_SIZE;

/// Content and address of every private page that is not all zeros. A page that is absent, a zero page, and a
/// page full of zeros are the same memory to the process, and the same here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryHash {
    pub(crate) hash: u128,
    pub(crate) pages: u64,
    /// The exception: where an own page full of zeros covers a page of a file, by process. Were it gone, the file
    /// would show.
    covering: Vec<Vec<PageAddr>>,
}

/// Hashes the memory of `pids`, in this order. Bytes in `rseq` are left out: the kernel writes the number of the
/// processor there whenever it likes.
pub(crate) fn of(pids: &[i32], rseq: &[RseqArea]) -> io::Result<MemoryHash> {
    let mut hasher = Hasher { hash: Xxh3::new(), pages: 0, rseq, buffer: vec![0; CHUNK_BYTES] };
    let covering = pids.iter().enumerate().map(|(at, pid)| hasher.process(at, *pid, &[]));
    let covering = covering.collect::<Result<_, _>>()?;
    Ok(MemoryHash { hash: hasher.hash.digest128(), pages: hasher.pages, covering })
}

/// The same for memory that was `before`: what covered files then is looked at, whatever stands there now.
pub(crate) fn again(pids: &[i32], rseq: &[RseqArea], before: &MemoryHash) -> io::Result<MemoryHash> {
    let mut hasher = Hasher { hash: Xxh3::new(), pages: 0, rseq, buffer: vec![0; CHUNK_BYTES] };
    for (at, pid) in pids.iter().enumerate() {
        hasher.process(at, *pid, before.covering.get(at).map_or(&[], Vec::as_slice))?;
    }
    Ok(MemoryHash { hash: hasher.hash.digest128(), pages: hasher.pages, covering: before.covering.clone() })
}

struct Hasher<'a> {
    hash: Xxh3,
    pages: u64,
    rseq: &'a [RseqArea],
    buffer: Vec<u8>,
}

impl Hasher<'_> {
    /// Own pages, then `besides`. Returns own pages full of zeros that cover a file.
    fn process(&mut self, at: usize, pid: i32, besides: &[PageAddr]) -> io::Result<Vec<PageAddr>> {
        self.hash.update(&(at as u64).to_le_bytes());
        let memory = Memory::open(pid)?;
        let mut page_map = PageMap::open(pid)?;
        let mut covering = Vec::new();
        for mapping in maps::read(pid)? {
            if !mapping.is_private_anonymous() && !mapping.is_private_file() {
                continue;
            }
            let mut runs = Vec::new();
            // Device memory cannot be looked at this way, and is never taken.
            if page_map.own_pages(&mapping, &mut runs).is_err() {
                continue;
            }
            for run in runs {
                let zeros = self.run(&memory, run)?;
                covering.extend(zeros.into_iter().filter(|_| mapping.is_private_file()));
            }
        }
        for page in besides {
            self.run(&memory, PageRange::new(*page, 1))?; // Zeros count for nothing, as before.
        }
        Ok(covering)
    }

    /// Returns its pages full of zeros.
    fn run(&mut self, memory: &Memory, run: PageRange) -> io::Result<Vec<PageAddr>> {
        let mut zeros = Vec::new();
        let (mut at, end) = (run.start().get(), run.end().get());
        while at < end {
            let len_bytes = (end - at).min(CHUNK_BYTES as u64) as usize;
            memory.read(at, &mut self.buffer[..len_bytes])?;
            mask(at, &mut self.buffer[..len_bytes], self.rseq);
            self.pages += update(&mut self.hash, at, &self.buffer[..len_bytes], &mut zeros);
            at += len_bytes as u64;
        }
        Ok(zeros)
    }
}
/// Zeroes the bytes that lie in `rseq`.
fn mask(start: u64, bytes: &mut [u8], rseq: &[RseqArea]) {
    for area in rseq {
        let from = area.address.saturating_sub(start).min(bytes.len() as u64);
        let to = (area.address + area.len_bytes).saturating_sub(start).min(bytes.len() as u64);
        bytes[from as usize..to as usize].fill(0);
    }
}

/// Adds pages from `start` on; how many of them are not `zeros`.
fn update(hash: &mut Xxh3, start: u64, bytes: &[u8], zeros: &mut Vec<PageAddr>) -> u64 {
    let mut pages = 0;
    for (at, page) in bytes.chunks_exact(PAGE_SIZE).enumerate() {
        let address = start + (at * PAGE_SIZE) as u64;
        if page.iter().any(|byte| *byte != 0) {
            hash.update(&address.to_le_bytes());
            hash.update(page);
            pages += 1;
        } else {
            zeros.push(PageAddr::containing(address));
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_of_the_area_are_masked() {
        let area = RseqArea { address: 1004, len_bytes: 2 };
        let mut bytes = [1u8; 8];
        mask(1000, &mut bytes, &[area]);
        assert_eq!(bytes, [1, 1, 1, 1, 0, 0, 1, 1]);
        mask(5000, &mut bytes, &[area]);
        mask(0, &mut bytes, &[area]);
        assert_eq!(bytes, [1, 1, 1, 1, 0, 0, 1, 1]);
    }

    #[test]
    fn where_zeros_come_from_makes_no_difference() {
        let page = [[0u8; PAGE_SIZE], [5; PAGE_SIZE]].concat();
        let (mut with, mut without) = (Xxh3::new(), Xxh3::new());
        let mut zeros = Vec::new();
        assert_eq!(update(&mut with, 0, &page, &mut zeros), 1);
        assert_eq!(update(&mut without, PAGE_SIZE as u64, &page[PAGE_SIZE..], &mut zeros), 1);
        assert_eq!(with.digest128(), without.digest128());
        assert_eq!(zeros, [PageAddr::containing(0)]);
    }

    #[test]
    fn a_file_that_shows_where_zeros_covered_it_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pids = [child.id() as i32];
        let is_ready = || {
            let call = std::fs::read_to_string(format!("/proc/{}/wchan", pids[0])).unwrap();
            call.contains("nanosleep")
        };
        while !is_ready() {
            std::thread::yield_now();
        }
        let mut before = of(&pids, &[]).unwrap();
        assert_eq!(again(&pids, &[], &before).unwrap(), before);
        let code = maps::read(pids[0]).unwrap().into_iter().find(|m| m.execute && m.is_private_file());
        before.covering[0].push(PageAddr::containing(code.unwrap().start));
        assert_ne!(again(&pids, &[], &before).unwrap().hash, before.hash);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
