//! The hashes of a few neighbouring pages: pages that are there come in runs, and eight bytes each are little beside what
//! an entry of a map costs.

use pages::{PageAddr, PageRange};

use crate::PageHash;

/// Pages of a block, one for each bit of `present`.
const PAGES: u64 = 16;

/// Neighbouring pages of one process. Which ones is said by the block's number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    present: u16,
    hashes: [u64; PAGES as usize],
}

/// The block that a page belongs to, and its place there.
pub(crate) fn place(page: PageAddr) -> (u64, usize) {
    let page = page.pages_since(PageAddr::default());
    (page / PAGES, (page % PAGES) as usize)
}

/// The numbers of the blocks that have pages in `range`, which is not empty: the first and the last one.
pub(crate) fn numbers(range: PageRange) -> (u64, u64) {
    let last = PageAddr::containing(range.end().get() - 1);
    (place(range.start()).0, place(last).0)
}

impl Block {
    /// Notes a page.
    pub(crate) fn set(&mut self, at: usize, hash: PageHash) {
        self.present |= 1 << at;
        self.hashes[at] = hash.0;
    }

    /// Forgets a page.
    pub(crate) fn clear(&mut self, at: usize) {
        self.present &= !(1 << at);
    }

    /// Whether no page is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// The pages that are known, upwards. `number` is the block's.
    pub(crate) fn pages(&self, number: u64) -> impl Iterator<Item = (PageAddr, PageHash)> {
        let first = PageAddr::default() + number * PAGES;
        (0..PAGES as usize).filter_map(move |at| Some((first + at as u64, self.get(at)?)))
    }

    /// What is known of a page.
    pub(crate) fn get(&self, at: usize) -> Option<PageHash> {
        (self.present >> at & 1 == 1).then(|| PageHash(self.hashes[at]))
    }
}
