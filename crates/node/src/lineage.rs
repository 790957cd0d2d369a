//! Lineage: sandboxes of one function version with one layout have the same pages at the same addresses, but for what
//! each changed. The first of them that sleeps is the base of the others: their changed pages are kept as patches
//! against its pages (base sandboxes: Medes, EuroSys '22; here found by place).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pages::{Content, Domain, Manifest, PageRange, SlotId};

/// Who is alike. Nothing is shared across sharing domains, whatever the layout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lineage {
    pub(crate) domain: Domain,
    pub(crate) layout: u64,
}

/// The bases of a node.
#[derive(Default)]
pub(crate) struct Lineages {
    bases: Mutex<HashMap<Lineage, Base>>,
}

/// The memory of the sandbox that slept first. It stays in the store while any of its lineage sleeps, also when that
/// sandbox is awake again or dead.
struct Base {
    /// One for each process, in the order of the tree.
    manifests: Vec<Arc<Manifest>>,
    /// Sandboxes of the lineage that sleep.
    sleepers: usize,
}

impl Lineages {
    /// Whether there is a base.
    pub(crate) fn has_base(&self, lineage: &Lineage) -> bool {
        self.lock().contains_key(lineage)
    }

    /// How many bases there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// What stands in the base at the addresses of `ranges`, in the process at `place` of the tree. Hints: the slots
    /// may be given to other pages at any moment.
    pub(crate) fn slots(&self, lineage: &Lineage, place: usize, ranges: &[PageRange]) -> Vec<Option<SlotId>> {
        let bases = self.lock();
        let manifest = bases.get(lineage).and_then(|base| base.manifests.get(place));
        let slot = |addr| match manifest?.get(addr)? {
            Content::Slots(slot) => Some(slot),
            Content::Zero => None,
        };
        ranges.iter().flat_map(|range| range.addrs()).map(slot).collect()
    }

    /// A sandbox of the lineage fell asleep. The first one becomes base.
    pub(crate) fn slept(&self, lineage: &Lineage, manifests: &[Arc<Manifest>]) {
        let mut bases = self.lock();
        let new = || Base { manifests: manifests.to_vec(), sleepers: 0 };
        bases.entry(lineage.clone()).or_insert_with(new).sleepers += 1;
    }

    /// It sleeps no more. With the last one goes the base: its manifests are returned.
    pub(crate) fn woke(&self, lineage: &Lineage) -> Vec<Arc<Manifest>> {
        match self.lock().entry(lineage.clone()) {
            Entry::Occupied(mut base) if base.get().sleepers > 1 => {
                base.get_mut().sleepers -= 1;
                Vec::new()
            }
            Entry::Occupied(base) => base.remove().manifests,
            Entry::Vacant(_) => Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lineage, Base>> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pages::{HeapArena, Heat, ManifestBuilder, PAGE_SIZE, PageAddr, Store};

    use super::*;

    #[test]
    fn the_first_sleeper_is_base_until_the_last_one_wakes() {
        let store = Store::new(HeapArena::new(u64::MAX), [1; 32]);
        let sleeper = |byte: u8| {
            let put = store.put(&Domain::named("d"), &[byte; PAGE_SIZE], Heat::Cold).unwrap();
            let mut builder = ManifestBuilder::new();
            builder.extend(PageAddr::containing(0x5000), &put);
            (vec![Arc::new(builder.build().unwrap())], put[0].slot())
        };
        let lineages = Lineages::default();
        let lineage = Lineage { domain: Domain::named("d"), layout: 7 };
        let other = Lineage { layout: 8, ..lineage.clone() };
        let ((first, slot), (second, _)) = (sleeper(1), sleeper(2));
        assert!(!lineages.has_base(&lineage));
        lineages.slept(&lineage, &first);
        lineages.slept(&lineage, &second);
        let range = [PageRange::new(PageAddr::containing(0x4000), 2)];
        assert_eq!(lineages.slots(&lineage, 0, &range), [None, slot]);
        assert_eq!(lineages.slots(&lineage, 1, &range), [None, None]);
        assert_eq!(lineages.slots(&other, 0, &range), [None, None]);
        assert_eq!(lineages.woke(&lineage), []);
        assert!(lineages.has_base(&lineage));
        assert_eq!(lineages.count(), 1);
        assert_eq!(lineages.woke(&lineage), first);
        assert!(!lineages.has_base(&lineage));
        assert_eq!(lineages.woke(&lineage), [], "nobody sleeps");
    }
}
