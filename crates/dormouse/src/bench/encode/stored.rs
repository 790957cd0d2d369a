//! What the store makes of the pages of a process, group by group, beside what zstd would make of each page alone.

use std::collections::HashSet;

use pages::{BASE_PAGES_PER_GROUP, Domain, HeapArena, Heat, Like, PAGE_SIZE, PAGES_PER_GROUP, Page, Store};
use report::encode::StoredResult;

use super::memory::Image;
use super::packer::Packer;
use crate::bench::error::BenchError;

/// The groups that a store makes of pages that are no patches: their name, what is known of the pages, pages in each.
const GROUPS: [(&str, Heat, Like<'static>, usize); 3] = [
    ("cold", Heat::Cold, Like::Nothing, PAGES_PER_GROUP),
    ("base", Heat::Cold, Like::BasePages, BASE_PAGES_PER_GROUP),
    ("hot", Heat::Hot, Like::Nothing, BASE_PAGES_PER_GROUP),
];

/// All distinct pages of a process, put as each of the groups.
pub(super) fn stored(image: &Image) -> Result<Vec<StoredResult>, BenchError> {
    let mut known = HashSet::new();
    let distinct: Vec<Page> = image.pages.iter().filter(|page| known.insert(*page)).copied().collect();
    let singles = page_by_page(&distinct)?;
    GROUPS
        .iter()
        .map(|&(name, heat, like, most)| {
            let store = Store::new(HeapArena::new(u64::MAX), [7; 32]);
            let domain = Domain::named("bench");
            let mut result = StoredResult { groups: name.to_owned(), ..StoredResult::default() };
            for (group, singles) in distinct.chunks(most).zip(singles.chunks(most)) {
                let before = store.stats().used_bytes;
                let put = store.put_like(&domain, group.as_flattened(), heat, like);
                put.map_err(BenchError::ours("put pages into a store"))?;
                result.add(group.len() as u64, store.stats().used_bytes - before, singles.iter().sum());
            }
            Ok(result)
        })
        .collect()
}

/// Bytes of each page alone; none is larger than the page.
fn page_by_page(pages: &[Page]) -> Result<Vec<u64>, BenchError> {
    let refused = || BenchError::Ours { doing: "compress", said: "no memory for a compressor".to_owned() };
    let mut packer = Packer::new().ok_or_else(refused)?;
    let alone = |page: &Page| packer.pack(page).map(|bytes| bytes.len().min(PAGE_SIZE) as u64);
    pages.iter().map(alone).collect::<Option<_>>().ok_or_else(refused)
}
