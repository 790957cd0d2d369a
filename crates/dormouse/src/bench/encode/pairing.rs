//! What a process has in common with a base process, found the way a node would: identical pages first, then base
//! pages by fingerprint and place, then the relocation, then the groups.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pages::{
    BaseFinder, BaseImage, BasePage, CHUNKS_DEFAULT, Domain, Fingerprint, Fingerprinter, MemoryRegistry,
    PAGES_PER_PUT, Page, PatchGroup, Registry as _, Relocation, RelocationBuilder, group_by_base,
};

use super::memory::Image;

const IMAGE: BaseImage = BaseImage(0);

/// The pages of one process, and what stands for each in the base process.
pub(super) struct Pairing {
    /// Pages that are not identical to any page of the base process, by number.
    pub(super) rest: Vec<usize>,
    /// For each page of the process, its base page; identical ones have none.
    pub(super) bases: Vec<Option<BasePage>>,
    /// The rest, in groups of one base group each. Pages are numbered as in the process.
    pub(super) groups: Vec<PatchGroup>,
    /// From the base process to this one.
    pub(super) relocation: Relocation,
    /// How long all of that took: fingerprints, lookups, comparing, learning.
    pub(super) took: Duration,
}

impl Pairing {
    /// Looks for everything that `target` has in common with `base`.
    pub(super) fn find(target: &Image, base: &Image) -> Pairing {
        let rest = without_identical(target, base);
        let domain = Domain::named("bench");
        let fingerprinter = Fingerprinter::new(&[7; 32], &domain, CHUNKS_DEFAULT);
        let registry = announce(&fingerprinter, &domain, base);
        let started = Instant::now();
        let wanted: Vec<Fingerprint> =
            rest.iter().map(|&page| fingerprinter.fingerprint(&target.pages[page])).collect();
        let hits = registry.lookup(&domain, &wanted, Some(IMAGE));
        let mut finder = BaseFinder::new(&base.addrs);
        let mut learned = RelocationBuilder::new(base.mapped.iter().copied());
        let mut bases = vec![None; target.pages.len()];
        for (&page, hit) in rest.iter().zip(hits) {
            let content = &target.pages[page];
            let found =
                finder.find(&mut &base.pages[..], target.addrs[page], content, hit.map(|hit| hit.base.page));
            if let Some(number) = found {
                learned.learn(&base.pages[number as usize], content);
                bases[page] = Some(BasePage { image: IMAGE, page: number });
            }
        }
        let relocation = learned.build();
        let groups = groups(&rest, &bases);
        Pairing { rest, bases, groups, relocation, took: started.elapsed() }
    }
}

fn without_identical(target: &Image, base: &Image) -> Vec<usize> {
    let known: HashMap<&Page, ()> = base.pages.iter().map(|page| (page, ())).collect();
    (0..target.pages.len()).filter(|&page| !known.contains_key(&target.pages[page])).collect()
}

fn announce(fingerprinter: &Fingerprinter, domain: &Domain, base: &Image) -> MemoryRegistry {
    let mut registry = MemoryRegistry::new();
    let fingerprint = |(page, content)| (BasePage { image: IMAGE, page }, fingerprinter.fingerprint(content));
    let pages: Vec<_> = (0..).zip(&base.pages).map(fingerprint).collect();
    registry.announce(domain, &pages);
    registry
}

/// A megabyte at a time, as pages are put.
fn groups(rest: &[usize], bases: &[Option<BasePage>]) -> Vec<PatchGroup> {
    let groups = rest.chunks(PAGES_PER_PUT).flat_map(|put| {
        let bases: Vec<_> = put.iter().map(|&page| bases[page]).collect();
        group_by_base(&bases).into_iter().map(|mut group| {
            group.pages.iter_mut().for_each(|page| *page = put[*page]);
            group
        })
    });
    groups.collect()
}
