//! A hash table from chunks to base pages: twelve bytes an entry, many entries for a chunk, and nothing beside.

use super::{BaseImage, BasePage};
use crate::fingerprint::ChunkHash;

/// Base pages that are kept for one chunk: one that more pages have tells them no better apart.
pub(super) const SAME_CHUNK_MAX: usize = 8;

/// The table grows when more than this share of it is taken, 3/4: probes stay short.
const LOAD_MAX: (usize, usize) = (3, 4);

/// It grows by a third, not to twice its size, so that at least 9/16 are taken: 21.3 bytes a chunk.
const GROWTH: (usize, usize) = (4, 3);

/// It shrinks when less than this share is taken: 24 bytes a chunk.
const LOAD_MIN: (usize, usize) = (1, 2);

/// No more are taken in: some 27 million base pages, 100 GiB. Far beyond, hashes of 32 bits would mean nothing.
const LEN_MAX: usize = 1 << 27;

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
        if entry.is_free() || self.len >= LEN_MAX {
            return; // The number is reserved: an image that has it is never found.
        }
        if self.len * LOAD_MAX.1 >= self.entries.len() * LOAD_MAX.0 {
            let capacity = self.entries.len() * GROWTH.0 / GROWTH.1;
            self.rebuild(capacity.max(CAPACITY_MIN));
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
        for place in 0..self.entries.len() {
            // What moves into the place may be of the image as well.
            while self.entries[place].image == image.0 && image.0 != FREE.image {
                self.remove_at(place);
            }
        }
        if self.len * LOAD_MIN.1 < self.entries.len() * LOAD_MIN.0 {
            let capacity = (self.len * LOAD_MAX.1).div_ceil(LOAD_MAX.0) + 1;
            self.rebuild(if self.len == 0 { 0 } else { capacity.max(CAPACITY_MIN) });
        }
    }

    /// Frees a place, and moves what stands behind it so that every entry can still be probed from its home (Knuth,
    /// volume 3, algorithm 6.4 R).
    fn remove_at(&mut self, mut hole: usize) {
        let capacity = self.entries.len();
        let behind = |place: usize, from: usize| (place + capacity - from) % capacity;
        let mut place = hole;
        loop {
            place = (place + 1) % capacity;
            let entry = self.entries[place];
            if entry.is_free() || place == hole {
                break;
            }
            if behind(place, self.home(entry.chunk)) >= behind(place, hole) {
                self.entries[hole] = entry;
                hole = place;
            }
        }
        self.entries[hole] = FREE;
        self.len -= 1;
    }

    /// Moves all entries to a table of another size.
    fn rebuild(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.entries, vec![FREE; capacity].into());
        for entry in old.into_iter().filter(|entry| !entry.is_free()) {
            if let Some(place) = self.probe(entry.chunk).find(|&place| self.entries[place].is_free()) {
                self.entries[place] = entry;
            }
        }
    }

    /// Reads the place where a chunk belongs, so that it is at hand when it is looked up: reads that do not wait for
    /// each other take a quarter of the time.
    pub(super) fn touch(&self, chunk: ChunkHash) -> u32 {
        self.entries.get(self.home(chunk)).map_or(0, |entry| entry.chunk.0)
    }

    /// The place where a chunk belongs (Lemire's reduction: no division, and any capacity will do).
    fn home(&self, chunk: ChunkHash) -> usize {
        ((u64::from(chunk.0) * self.entries.len() as u64) >> 32) as usize
    }

    /// All places, from the one where the chunk belongs.
    fn probe(&self, chunk: ChunkHash) -> impl Iterator<Item = usize> + use<> {
        let home = self.home(chunk);
        (home..self.entries.len()).chain(0..home)
    }
}
