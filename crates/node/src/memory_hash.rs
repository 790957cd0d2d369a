//! A hash of all private memory of a stopped tree: the proof that a wake brought back what went to sleep.

use std::io;

use linux::maps;
use linux::memory::Memory;
use linux::pagemap::PageMap;
use linux::trace::RseqArea;
use pages::PAGE_SIZE;
use xxhash_rust::xxh3::Xxh3;

/// Read at once.
const CHUNK_PAGES: u64 = 64;

/// Content and address of every private page that is not all zeros. A page that is absent, a zero page, and a
/// page full of zeros are the same memory to the process, and the same here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryHash {
    pub(crate) hash: u128,
    pub(crate) pages: u64,
}

/// Hashes the memory of `pids`, in this order. Bytes in `rseq` are left out: the kernel writes the number of the
/// processor there whenever it likes.
pub(crate) fn of(pids: &[i32], rseq: &[RseqArea]) -> io::Result<MemoryHash> {
    let mut hash = Xxh3::new();
    let mut pages = 0;
    for (at, pid) in pids.iter().enumerate() {
        hash.update(&(at as u64).to_le_bytes());
        pages += process(*pid, rseq, &mut hash)?;
    }
    Ok(MemoryHash { hash: hash.digest128(), pages })
}

fn process(pid: i32, rseq: &[RseqArea], hash: &mut Xxh3) -> io::Result<u64> {
    let memory = Memory::open(pid)?;
    let mut page_map = PageMap::open(pid)?;
    let mut buffer = vec![0; CHUNK_PAGES as usize * PAGE_SIZE];
    let mut pages = 0;
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
            let (mut at, end) = (run.start().get(), run.end().get());
            while at < end {
                let len_bytes = (end - at).min(CHUNK_PAGES * PAGE_SIZE as u64);
                let bytes = &mut buffer[..len_bytes as usize];
                memory.read(at, bytes)?;
                mask(at, bytes, rseq);
                pages += update(hash, at, bytes);
                at += len_bytes;
            }
        }
    }
    Ok(pages)
}

/// Zeroes the bytes that lie in `rseq`.
fn mask(start: u64, bytes: &mut [u8], rseq: &[RseqArea]) {
    for area in rseq {
        let from = area.address.saturating_sub(start).min(bytes.len() as u64);
        let to = (area.address + area.len_bytes).saturating_sub(start).min(bytes.len() as u64);
        bytes[from as usize..to as usize].fill(0);
    }
}

fn update(hash: &mut Xxh3, start: u64, bytes: &[u8]) -> u64 {
    let mut pages = 0;
    for (at, page) in bytes.chunks_exact(PAGE_SIZE).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            hash.update(&(start + (at * PAGE_SIZE) as u64).to_le_bytes());
            hash.update(page);
            pages += 1;
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
        assert_eq!(update(&mut with, 0, &page), 1);
        assert_eq!(update(&mut without, PAGE_SIZE as u64, &page[PAGE_SIZE..]), 1);
        assert_eq!(with.digest128(), without.digest128());
    }
}
