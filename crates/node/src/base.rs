//! A base: the memory of a sandbox against which others of its lineage are kept as patches. All it gives is hints: a
//! wrong one makes a patch larger, and never wrong.

use std::sync::{Arc, PoisonError, RwLock};

use linux::maps::Mapping;
use pages::{
    BaseImage, BasePage, Content, Domain, Fingerprint, Manifest, MemoryRegistry, PageAddr, PageRange,
    Registry as _, SlotId,
};

use crate::PageStore;
use crate::ranges::joined;

/// Chunks of the base pages of all lineages, a table for each sharing domain.
#[derive(Default)]
pub(crate) struct BaseRegistry(RwLock<MemoryRegistry>);

impl BaseRegistry {
    pub(crate) fn heap_bytes(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).heap_bytes() as u64
    }

    pub(crate) fn chunks(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).chunk_count() as u64
    }
}

/// What must be known of a process, beside its pages, so that others can be patches against it.
#[derive(Default)]
pub(crate) struct Portrait {
    /// Everything that is mapped; pointers point there.
    pub(crate) mapped: Vec<PageRange>,
    /// Of its pages that are not zero. In any order.
    pub(crate) prints: Vec<(PageAddr, Fingerprint)>,
}

impl Portrait {
    /// Takes over all but the fingerprints, which go into a registry.
    pub(crate) fn process(&mut self, manifest: &Arc<Manifest>, image: BaseImage) -> BaseProcess {
        BaseProcess { manifest: Arc::clone(manifest), mapped: std::mem::take(&mut self.mapped), image }
    }
}

/// Everything that is mapped in a process.
pub(crate) fn mapped(mappings: &[Mapping]) -> Vec<PageRange> {
    joined(mappings.iter().map(Mapping::range))
}

/// One process of a base.
pub(crate) struct BaseProcess {
    manifest: Arc<Manifest>,
    mapped: Vec<PageRange>,
    image: BaseImage,
}

impl BaseProcess {
    pub(crate) fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    pub(crate) fn mapped(&self) -> &[PageRange] {
        &self.mapped
    }
}

/// The last who drops it gives its pages back to the store, unless its own sandbox still sleeps.
pub(crate) struct Base {
    store: Arc<PageStore>,
    registry: Arc<BaseRegistry>,
    domain: Domain,
    /// In the order of the tree.
    processes: Vec<BaseProcess>,
}

impl Base {
    pub(crate) fn new(
        store: Arc<PageStore>,
        registry: Arc<BaseRegistry>,
        domain: Domain,
        processes: Vec<BaseProcess>,
    ) -> Base {
        Base { store, registry, domain, processes }
    }

    /// Makes its pages known by their fingerprints.
    pub(crate) fn announce(&self, portraits: Vec<Portrait>) {
        for (process, mut portrait) in self.processes.iter().zip(portraits) {
            portrait.prints.sort_unstable_by_key(|(addr, _)| *addr);
            let print = |((addr, _), page)| {
                let found = portrait.prints.binary_search_by_key(&addr, |(addr, _)| *addr).ok()?;
                Some((BasePage { image: process.image, page }, portrait.prints[found].1))
            };
            let pages: Vec<_> = process.manifest.pages().zip(0..).filter_map(print).collect();
            if !pages.is_empty() {
                let mut registry = self.registry.0.write().unwrap_or_else(PoisonError::into_inner);
                registry.announce(&self.domain, &pages);
            }
        }
    }

    /// The process at `place` of the tree.
    pub(crate) fn process(&self, place: usize) -> Option<&BaseProcess> {
        self.processes.get(place)
    }

    /// For each fingerprint, the page of the process at `place` that has most of its chunks, by number, and how many.
    pub(crate) fn lookup(&self, place: usize, wanted: &[Fingerprint]) -> Vec<Option<(u32, u8)>> {
        let Some(process) = self.process(place) else { return vec![None; wanted.len()] };
        let registry = self.registry.0.read().unwrap_or_else(PoisonError::into_inner);
        let hits = registry.lookup(&self.domain, wanted, Some(process.image));
        // Pages of other bases are no use here: a process is encoded against one.
        let ours = |hit: pages::Hit| (hit.base.image == process.image).then_some((hit.base.page, hit.chunks));
        hits.into_iter().map(|hit| hit.and_then(ours)).collect()
    }

    /// What stands at the addresses of `ranges`, in the process at `place` of the tree.
    pub(crate) fn slots_at(&self, place: usize, ranges: &[PageRange]) -> Vec<Option<SlotId>> {
        let slot = |addr| match self.process(place)?.manifest.get(addr)? {
            Content::Slots(slot) => Some(slot),
            Content::Zero => None,
        };
        ranges.iter().flat_map(|range| range.addrs()).map(slot).collect()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        for process in std::mem::take(&mut self.processes) {
            let mut registry = self.registry.0.write().unwrap_or_else(PoisonError::into_inner);
            registry.forget(&self.domain, process.image);
            drop(registry);
            if let Some(manifest) = Arc::into_inner(process.manifest) {
                self.store.release(manifest);
            }
        }
    }
}
