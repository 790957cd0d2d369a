//! The registry of one node, in memory.

use std::collections::HashMap;

use super::table::{Entry, SAME_CHUNK_MAX, Table};
use super::{BaseImage, BasePage, Hit, Registry};
use crate::fingerprint::CHUNKS_MAX;
use crate::{Domain, Fingerprint};

/// Fingerprints whose places are read before the first is looked up: some hundred lines of the nearest cache.
const TOUCHED_AHEAD: usize = 32;

/// Chunks to base pages, a table for each sharing domain: what is not in the table cannot be found by accident.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    domains: HashMap<Domain, Table>,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Chunks that it knows, over all domains.
    pub fn chunk_count(&self) -> usize {
        self.domains.values().map(Table::len).sum()
    }

    /// Memory of its tables, as allocated.
    pub fn heap_bytes(&self) -> usize {
        self.domains.values().map(Table::heap_bytes).sum()
    }
}

impl Registry for MemoryRegistry {
    fn announce(&mut self, domain: &Domain, pages: &[(BasePage, Fingerprint)]) {
        let table = self.domains.entry(domain.clone()).or_default();
        for (base, fingerprint) in pages {
            for chunk in fingerprint.chunks() {
                table.insert(Entry::new(*chunk, *base));
            }
        }
    }

    fn lookup(
        &self,
        domain: &Domain,
        wanted: &[Fingerprint],
        preferred: Option<BaseImage>,
    ) -> Vec<Option<Hit>> {
        match self.domains.get(domain) {
            Some(table) => wanted
                .chunks(TOUCHED_AHEAD)
                .flat_map(|wanted| best_of_each(table, wanted, preferred))
                .collect(),
            None => vec![None; wanted.len()],
        }
    }

    fn forget(&mut self, domain: &Domain, image: BaseImage) {
        let Some(table) = self.domains.get_mut(domain) else { return };
        table.remove_image(image);
        if table.len() == 0 {
            self.domains.remove(domain);
            self.domains.shrink_to_fit();
        }
    }
}

/// The best base page of each fingerprint. A large table does not fit into a cache: all places are read first, and
/// the processor has many of these reads under way at once.
fn best_of_each<'a>(
    table: &'a Table,
    wanted: &'a [Fingerprint],
    preferred: Option<BaseImage>,
) -> impl Iterator<Item = Option<Hit>> + 'a {
    let chunks = wanted.iter().flat_map(|fingerprint| fingerprint.chunks());
    std::hint::black_box(chunks.fold(0, |sum, chunk| sum ^ table.touch(*chunk)));
    wanted.iter().map(move |fingerprint| best(table, fingerprint, preferred))
}

/// The base page that has most chunks of a fingerprint.
fn best(table: &Table, fingerprint: &Fingerprint, preferred: Option<BaseImage>) -> Option<Hit> {
    let mut hits =
        [Hit { base: BasePage { image: BaseImage(0), page: 0 }, chunks: 0 }; CHUNKS_MAX * SAME_CHUNK_MAX];
    let mut len = 0;
    for base in fingerprint.chunks().iter().flat_map(|chunk| table.get(*chunk)) {
        match hits[..len].iter_mut().find(|hit| hit.base == base) {
            Some(hit) => hit.chunks += 1,
            None => {
                hits[len] = Hit { base, chunks: 1 };
                len += 1;
            }
        }
    }
    let rank = |hit: &&Hit| (hit.chunks, Some(hit.base.image) == preferred, std::cmp::Reverse(hit.base));
    hits[..len].iter().max_by_key(rank).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::fingerprint::ChunkHash;

    fn base(image: u32, page: u32) -> BasePage {
        BasePage { image: BaseImage(image), page }
    }

    fn fingerprint(chunks: &[u32]) -> Fingerprint {
        chunks.iter().map(|&chunk| ChunkHash(chunk.wrapping_mul(0x9e37_79b9))).collect()
    }

    fn domain() -> Domain {
        Domain::named("a")
    }

    fn registry(pages: &[(BasePage, &[u32])]) -> MemoryRegistry {
        let mut registry = MemoryRegistry::new();
        let pages: Vec<_> = pages.iter().map(|(base, chunks)| (*base, fingerprint(chunks))).collect();
        registry.announce(&domain(), &pages);
        registry
    }

    /// What is found for `wanted` among three pages of two images.
    #[track_caller]
    fn check(wanted: &[u32], preferred: Option<u32>, expected: Option<(BasePage, u8)>) {
        let pages: [(BasePage, &[u32]); 3] =
            [(base(1, 10), &[1, 2, 3]), (base(1, 11), &[3, 4]), (base(2, 20), &[4, 3, 9])];
        let registry = registry(&pages);
        let hits = registry.lookup(&domain(), &[fingerprint(wanted)], preferred.map(BaseImage));
        assert_eq!(hits, [expected.map(|(base, chunks)| Hit { base, chunks })]);
    }

    #[test]
    fn most_chunks_in_common_win_and_ties_go_to_the_preferred_image() {
        check(&[1, 2, 3, 4], None, Some((base(1, 10), 3)));
        check(&[3, 4], None, Some((base(1, 11), 2)));
        check(&[3, 4], Some(2), Some((base(2, 20), 2)));
        check(&[1, 2, 4, 9], Some(7), Some((base(1, 10), 2)));
        check(&[5, 6], None, None);
        check(&[], None, None);
    }

    #[test]
    fn nothing_is_found_across_domains() {
        let registry = registry(&[(base(1, 1), &[1])]);
        assert_eq!(registry.lookup(&Domain::named("b"), &[fingerprint(&[1])], None), [None]);
    }

    #[test]
    fn a_chunk_that_is_everywhere_has_a_bounded_price() {
        let pages: Vec<_> = (0..1000).map(|page| (base(1, page), fingerprint(&[7]))).collect();
        let mut registry = MemoryRegistry::new();
        registry.announce(&domain(), &pages);
        assert_eq!(registry.chunk_count(), SAME_CHUNK_MAX);
    }

    #[test]
    fn a_chunk_takes_at_most_24_bytes() {
        let mut registry = MemoryRegistry::new();
        for page in 0..50_000 {
            registry.announce(&domain(), &[(base(1, page), fingerprint(&[page * 2, page * 2 + 1]))]);
            if page > 100 {
                let (bytes, chunks) = (registry.heap_bytes(), registry.chunk_count());
                assert!(bytes <= 24 * chunks, "{bytes} bytes for {chunks} chunks");
            }
        }
        registry.forget(&domain(), BaseImage(1));
        assert_eq!((registry.chunk_count(), registry.heap_bytes()), (0, 0));
    }

    #[test]
    fn what_is_forgotten_gives_its_memory_back() {
        let mut registry = MemoryRegistry::new();
        for image in 0..10 {
            let pages: Vec<_> =
                (0..2000).map(|n| (base(image, n), fingerprint(&[image * 2000 + n]))).collect();
            registry.announce(&domain(), &pages);
        }
        for image in 0..9 {
            registry.forget(&domain(), BaseImage(image));
            let (bytes, chunks) = (registry.heap_bytes(), registry.chunk_count());
            assert_eq!(chunks, (9 - image as usize) * 2000);
            assert!(bytes <= 24 * chunks, "{bytes} bytes for {chunks} chunks");
        }
        let left: Vec<_> = (18_000..20_000).map(|chunk| fingerprint(&[chunk])).collect();
        let hits = registry.lookup(&domain(), &left, None);
        assert!(hits.iter().all(|hit| hit.is_some_and(|hit| hit.base.image == BaseImage(9))));
    }

    proptest! {
        /// Against a plain map, with few distinct chunks so that many collide.
        #[test]
        fn images_come_and_go_and_leave_nothing(
            ops in prop::collection::vec((0u32..5, 0u32..40, prop::collection::vec(0u32..60, 0..6), any::<bool>()), 0..80)
        ) {
            let (mut registry, mut model) = (MemoryRegistry::new(), BTreeMap::new());
            for (image, page, chunks, is_forget) in ops {
                if is_forget {
                    registry.forget(&domain(), BaseImage(image));
                    model.retain(|base: &BasePage, _| base.image != BaseImage(image));
                } else {
                    model.entry(base(image, page)).or_insert_with(Vec::new).extend(&chunks);
                    registry.announce(&domain(), &[(base(image, page), fingerprint(&chunks))]);
                }
                prop_assert!(!model.is_empty() || registry.heap_bytes() == 0);
                let known: Vec<_> = (0..60).map(|chunk| fingerprint(&[chunk])).collect();
                for (chunk, hit) in (0..60).zip(registry.lookup(&domain(), &known, None)) {
                    let announced = |hit: &Hit| model.get(&hit.base).is_some_and(|chunks| chunks.contains(&chunk));
                    prop_assert!(hit.is_none_or(|hit| announced(&hit)), "chunk {} is on no such page", chunk);
                }
            }
        }
    }
}
