//! The few chunks that stand for a page: where two pages have chunks in common, one is likely a good base for the
//! other.
//!
//! The idea is that of Medes (Saxena et al., "Memory Deduplication for Serverless Computing with Medes", EuroSys
//! 2022): a window of 64 bytes is rolled over the page, some of its positions are chosen by their content, and the
//! chunks there are hashed. Two things differ. The whole page is looked at, and of all chunks those with the
//! smallest hashes are taken (Broder, "On the resemblance and containment of documents", 1997), so that every page
//! with enough content has the same number of chunks, evenly drawn. And pointers count as the same wherever they
//! point to, so that address randomisation does not hide what is alike; for this the window moves by words.

use crate::Domain;
use crate::page_id::{Page, PageHasher};
use crate::word::{WORDS, canonical, words};

/// Bytes in a chunk.
pub const CHUNK_BYTES: usize = 64;

/// Chunks of a page, unless somebody wants others: as many as in Medes. Eight find bases that keep 0.2 points less
/// of a process and cost 60 % more in the registry.
pub const CHUNKS_DEFAULT: usize = 5;

/// No page has more.
pub const CHUNKS_MAX: usize = 8;

const CHUNK_WORDS: usize = CHUNK_BYTES / size_of::<u64>();

/// A chunk with fewer words that are not zero says nothing: there are thousands like it in every process.
const CONTENT_WORDS_MIN: u32 = 4;

/// Hash of a chunk, keyed by the store and the sharing domain. It gives hints, so that 32 bits are enough: among a
/// million chunks one in four thousand lookups of an unknown chunk is answered wrong, and the wrong base page then
/// has to be better than the right one to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkHash(pub u32);

/// The chunks that stand for one page; none where the page has too little content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    chunks: [ChunkHash; CHUNKS_MAX],
    len: u8,
}

impl Fingerprint {
    /// The hashes, each once.
    pub fn chunks(&self) -> &[ChunkHash] {
        &self.chunks[..usize::from(self.len)]
    }
}

/// From any chunks, at most [`CHUNKS_MAX`]: what came over a network, or a test made up.
impl FromIterator<ChunkHash> for Fingerprint {
    fn from_iter<T: IntoIterator<Item = ChunkHash>>(chunks: T) -> Self {
        let mut fingerprint = Self::default();
        for (place, chunk) in fingerprint.chunks.iter_mut().zip(chunks) {
            *place = chunk;
            fingerprint.len += 1;
        }
        fingerprint
    }
}

/// Takes fingerprints of pages in one sharing domain.
#[derive(Clone, Debug)]
pub struct Fingerprinter {
    /// What the rolling hash is multiplied with at each word, and that to the power of the window's length.
    factor: u64,
    factor_to_the_window: u64,
    mask: u64,
    chunks: usize,
}

impl Fingerprinter {
    /// For pages of `domain`, `chunks` each (1 to [`CHUNKS_MAX`]). `key` is that of the store: without it nobody
    /// can aim at a hash, and fingerprints of different domains have nothing in common.
    pub fn new(key: &[u8; 32], domain: &Domain, chunks: usize) -> Self {
        Self::with_tag(PageHasher::new(key).domain_tag(domain), chunks)
    }

    /// `tag` follows from a secret key and a domain.
    pub(crate) fn with_tag(tag: u64, chunks: usize) -> Self {
        let factor = scramble(tag) | 1;
        Self {
            factor,
            factor_to_the_window: factor.wrapping_pow(CHUNK_WORDS as u32),
            mask: scramble(!tag),
            chunks: chunks.clamp(1, CHUNKS_MAX),
        }
    }

    /// The fingerprint of one page.
    pub fn fingerprint(&self, page: &Page) -> Fingerprint {
        let mut word = [0; WORDS];
        word.iter_mut()
            .zip(words(page))
            .for_each(|(canonical_word, bytes)| *canonical_word = canonical(*bytes));
        let mut smallest = Smallest::new(self.chunks);
        let (mut rolling, mut content_words) = (0u64, 0u32);
        for at in 0..WORDS {
            rolling = rolling.wrapping_mul(self.factor).wrapping_add(word[at]);
            content_words += u32::from(word[at] != 0);
            if at >= CHUNK_WORDS {
                let gone = word[at - CHUNK_WORDS];
                rolling = rolling.wrapping_sub(gone.wrapping_mul(self.factor_to_the_window));
                content_words -= u32::from(gone != 0);
            }
            if content_words >= CONTENT_WORDS_MIN && at + 1 >= CHUNK_WORDS {
                smallest.offer(scramble(rolling ^ self.mask));
            }
        }
        smallest.fingerprint()
    }
}

/// The smallest hashes that were offered, in order, each once.
struct Smallest {
    hashes: [u64; CHUNKS_MAX],
    wanted: usize,
}

impl Smallest {
    fn new(wanted: usize) -> Self {
        Self { hashes: [u64::MAX; CHUNKS_MAX], wanted }
    }

    fn offer(&mut self, hash: u64) {
        if hash >= self.hashes[self.wanted - 1] {
            return; // Almost always.
        }
        let wanted = &mut self.hashes[..self.wanted];
        let place = wanted.partition_point(|known| *known < hash);
        if wanted[place] != hash {
            wanted[place..].rotate_right(1);
            wanted[place] = hash;
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        // Hashes were chosen for being small; the low half is as random as ever.
        let chosen = self.hashes[..self.wanted].iter().take_while(|hash| **hash != u64::MAX);
        chosen.map(|hash| ChunkHash(*hash as u32)).collect()
    }
}

/// Every bit of the result depends on every bit of the value (the finish of SplitMix64).
fn scramble(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::PAGE_SIZE;

    fn page(seed: u64) -> Page {
        let mut page = [0; PAGE_SIZE];
        for (nth, bytes) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *bytes = scramble((seed << 20) + nth as u64 + 1).to_le_bytes();
        }
        page
    }

    fn fingerprinter(domain: &str) -> Fingerprinter {
        Fingerprinter::new(&[7; 32], &Domain::named(domain), CHUNKS_DEFAULT)
    }

    /// How many chunks two pages have in common.
    fn common(a: &Page, b: &Page) -> usize {
        let fingerprinter = fingerprinter("a");
        let (a, b) = (fingerprinter.fingerprint(a), fingerprinter.fingerprint(b));
        a.chunks().iter().filter(|chunk| b.chunks().contains(chunk)).count()
    }

    #[test]
    fn a_page_without_content_has_no_chunks() {
        assert_eq!(fingerprinter("a").fingerprint(&[0; PAGE_SIZE]).chunks(), []);
        let mut nearly = [0; PAGE_SIZE];
        nearly[..24].fill(1);
        assert_eq!(fingerprinter("a").fingerprint(&nearly).chunks(), []);
        assert_eq!(
            fingerprinter("a").fingerprint(&[3; PAGE_SIZE]).chunks().len(),
            1,
            "all its chunks are equal"
        );
    }

    #[test]
    fn domains_have_nothing_in_common() {
        let [a, b] = ["a", "b"].map(|domain| fingerprinter(domain).fingerprint(&page(1)));
        assert_eq!(a.chunks().len(), CHUNKS_DEFAULT);
        assert!(a.chunks().iter().all(|chunk| !b.chunks().contains(chunk)));
    }

    #[test]
    fn pages_that_are_alike_have_chunks_in_common() {
        let three_quarters = |seed| {
            let (a, mut b) = (page(seed), page(seed));
            b[..1024].copy_from_slice(&page(seed + 100)[..1024]);
            common(&a, &b)
        };
        let found: usize = (0..20).map(three_quarters).sum();
        assert!(found >= 50, "{found} of 100");
        assert_eq!(common(&page(1), &page(2)), 0);
    }

    #[test]
    fn what_moved_by_words_is_found() {
        let moved = |seed| {
            let (a, mut b) = (page(seed), page(seed + 100));
            b[800..].copy_from_slice(&a[..PAGE_SIZE - 800]);
            common(&a, &b)
        };
        let found: usize = (0..20).map(moved).sum();
        assert!(found >= 50, "{found} of 100");
    }

    #[test]
    fn where_pointers_point_to_does_not_matter() {
        let mapped = |start: u64| {
            let mut page = page(1);
            for bytes in page.as_chunks_mut::<8>().0.iter_mut().step_by(2) {
                let low = u64::from_le_bytes(*bytes) & 0xf_fff0;
                *bytes = (start + low).to_le_bytes();
            }
            page
        };
        assert_eq!(common(&mapped(0x7f12_3456_7000), &mapped(0x7fab_cdef_0000)), CHUNKS_DEFAULT);
    }

    proptest! {
        #[test]
        fn rolling_is_hashing_each_window(bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], PAGE_SIZE)) {
            let page: Page = bytes.try_into().unwrap();
            let fingerprinter = fingerprinter("a");
            let fingerprint = fingerprinter.fingerprint(&page);
            prop_assert_eq!(fingerprint.chunks(), Smallest::of_windows(&fingerprinter, &page));
        }
    }

    impl Smallest {
        /// Hashes every window on its own: the slow way to do the same.
        fn of_windows(by: &Fingerprinter, page: &Page) -> Vec<ChunkHash> {
            let word: Vec<u64> = words(page).iter().map(|bytes| canonical(*bytes)).collect();
            let mut smallest = Self::new(by.chunks);
            for window in word.windows(CHUNK_WORDS) {
                if window.iter().filter(|word| **word != 0).count() >= CONTENT_WORDS_MIN as usize {
                    let hash = window
                        .iter()
                        .fold(0u64, |hash, word| hash.wrapping_mul(by.factor).wrapping_add(*word));
                    smallest.offer(scramble(hash ^ by.mask));
                }
            }
            smallest.fingerprint().chunks().to_vec()
        }
    }
}
