//! A hash table from chunks to base pages: twelve bytes an entry, many entries for a chunk, and nothing beside.

use super::{BaseImage, BasePage};
use crate::fingerprint::ChunkHash;

/// Base pages that are kept for one chunk: one that more pages have tells them no better apart.
pub(super) const SAME_CHUNK_MAX: usize = 8;

/// The table grows when more than this share of it is taken, 3/4: probes stay short.
const LOAD_MAX: (usize, usize) = (3, 4);

/// It grows by a third, not to twice its size, so that at least 9/16 are taken: 21.3 bytes a chunk.
const GROWTH: (usize, usize) = (4, 3);

const CAPACITY_MIN: usize = 64;

/// One chunk of one base page. The hash is uniform and wide enough to be its own place (see `Table::home`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    chunk: ChunkHash,
    image: u32,
    page: u32,
}

/// No image has this number.
const FREE: Entry = Entry { chunk: ChunkHash(0), image: u32::MAX, page: 0 };

impl Entry {
    pub(super) fn new(chunk: ChunkHash, base: BasePage) -> Self {
        Self { chunk, image: base.image.0, page: base.page }
    }

    fn base(self) -> BasePage {
        BasePage { image: BaseImage(self.image), page: self.page }
    }

    fn is_free(self) -> bool {
        self.image == FREE.image
    }
}

/// Open addressing with linear probing.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Box<[Entry]>,
    len: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }

    /// The base pages that have `chunk`.
    pub(super) fn get(&self, chunk: ChunkHash) -> impl Iterator<Item = BasePage> {
        let from_home = self.probe(chunk).map(|place| self.entries[place]);
        let taken = from_home.take_while(|entry| !entry.is_free());
        taken.filter(move |entry| entry.chunk == chunk).map(Entry::base)
    }

    /// Adds an entry, unless it is there or its chunk has enough of them.
    pub(super) fn insert(&mut self, entry: Entry) {
        if entry.is_free() {
            return; // The number is reserved; an image that has it is never found.
        }
        if self.len * LOAD_MAX.1 >= self.entries.len() * LOAD_MAX.0 {
            let capacity = self.entries.len() * GROWTH.0 / GROWTH.1;
            self.rebuild(capacity.max(CAPACITY_MIN), |_| true);
        }
        let mut same_chunk = 0;
        for place in self.probe(entry.chunk) {
            let there = self.entries[place];
            same_chunk += usize::from(there.chunk == entry.chunk && !there.is_free());
            if there == entry || same_chunk == SAME_CHUNK_MAX {
                return;
            }
            if there.is_free() {
                self.entries[place] = entry;
                self.len += 1;
                return;
            }
        }
    }

    /// Removes every entry of an image, and the room they took.
    pub(super) fn remove_image(&mut self, image: BaseImage) {
        let left = self.entries.iter().filter(|entry| !entry.is_free() && entry.image != image.0).count();
        let capacity = (left * LOAD_MAX.1).div_ceil(LOAD_MAX.0) + 1;
        self.rebuild(if left == 0 { 0 } else { capacity.max(CAPACITY_MIN) }, |entry| entry.image != image.0);
    }

    /// Moves the entries that are wanted to a table of another size.
    fn rebuild(&mut self, capacity: usize, is_wanted: impl Fn(&Entry) -> bool) {
        let old = std::mem::replace(&mut self.entries, vec![FREE; capacity].into());
        self.len = 0;
        for entry in old.into_iter().filter(|entry| !entry.is_free() && is_wanted(entry)) {
            if let Some(place) = self.probe(entry.chunk).find(|&place| self.entries[place].is_free()) {
                self.entries[place] = entry;
                self.len += 1;
            }
        }
    }

    /// All places, from the one where the chunk belongs.
    fn probe(&self, chunk: ChunkHash) -> impl Iterator<Item = usize> + use<> {
        let capacity = self.entries.len();
        let home = ((u64::from(chunk.0) * capacity as u64) >> 32) as usize; // Lemire: no division, any capacity.
        (home..capacity).chain(0..home)
    }
}
