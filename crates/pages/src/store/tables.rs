//! What the store knows, under its one lock: slots, groups, and the index that finds slots by content. Nothing
//! here compresses, hashes or compares pages; that happens outside the lock.

use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashTable;

use super::group::{Base, Group, GroupTable};
use super::put::Found;
use super::slots::{Place, Slot, SlotId, SlotTable};
use crate::arena::Arena;
use crate::codec::Codec;
use crate::page_id::PageId;
use crate::{Domain, PackedRelocation};

/// Slots with the same hash that are compared before a page counts as new. More than one is next to impossible
/// unless someone made his own pages collide, and then he should not get our time for it.
const CANDIDATES_MAX: usize = 4;

/// A hot page with so many references is kept whole: that costs each of them a thirtieth of a page at most, and each of
/// their wakes decodes one page less.
const WANTED_BY_MANY: u32 = 32;

pub(super) struct Tables<A: Arena> {
    slots: SlotTable,
    groups: GroupTable<A>,
    index: HashTable<SlotId>,
    strays: u64,
}

/// A slot that may hold a page's content. It keeps the bytes alive, not the slot.
pub(super) struct Candidate<A: Arena> {
    pub(super) slot: SlotId,
    pub(super) place: Place,
    pub(super) group: Arc<Group<A>>,
}

impl<A: Arena> Tables<A> {
    pub(super) fn new() -> Self {
        Self { slots: SlotTable::default(), groups: GroupTable::new(), index: HashTable::new(), strays: 0 }
    }

    /// Slots of the domain whose content has this hash.
    pub(super) fn candidates(&self, (domain, tag): (&Domain, u64), id: PageId) -> Vec<Candidate<A>> {
        let found = self.index.iter_hash(index_hash(id, tag)).filter_map(|&slot| {
            let kept = self.slots.get(slot).filter(|kept| kept.id == id)?;
            let group = self.groups.get(kept.place.group()).filter(|group| group.domain == *domain)?;
            Some(Candidate { slot, place: kept.place, group: Arc::clone(group) })
        });
        found.take(CANDIDATES_MAX).collect()
    }

    /// Adds `refs` references to a slot, if it still keeps the page it was found for.
    pub(super) fn pin(&mut self, candidate: &Candidate<A>, refs: NonZeroU32) -> bool {
        let group = self.groups.get(candidate.place.group());
        let is_same_group = group.is_some_and(|group| Arc::ptr_eq(group, &candidate.group));
        let slot = self.slots.get_mut(candidate.slot).filter(|slot| slot.place == candidate.place);
        let sum = slot.as_ref().and_then(|slot| slot.refs.checked_add(refs.get()));
        match (slot, sum) {
            (Some(slot), Some(sum)) if is_same_group => slot.refs = sum,
            _ => return false,
        }
        true
    }

    /// Adds a reference to a page. Refused if there is none, or no room to count it.
    pub(super) fn pin_slot(&mut self, slot: SlotId) -> bool {
        let kept = self.slots.get_mut(slot);
        let pinned = kept.and_then(|kept| kept.refs.checked_add(1).map(|refs| kept.refs = refs));
        pinned.is_some()
    }

    /// With which codec the page of a candidate should lie elsewhere, if it is put with `codec` now: a hot page in a cold
    /// group, or decoded for many again and again; any page in a group of which most is no longer wanted.
    pub(super) fn better_codec(&self, candidate: &Candidate<A>, codec: Codec) -> Option<Codec> {
        let group = &candidate.group;
        let is_sparse =
            || group.pages > 1 && self.groups.live(candidate.place.group()) * 2 <= u32::from(group.pages);
        let wanted = || self.slots.get(candidate.slot).map_or(0, |slot| slot.refs.get());
        let is_hot = codec == Codec::Lz4;
        match group.codec {
            // What few want now may be compressed again, if it can be.
            Codec::Whole => {
                is_sparse().then(|| if wanted() >= WANTED_BY_MANY { Codec::Whole } else { codec })
            }
            _ if is_hot && wanted() >= WANTED_BY_MANY => Some(Codec::Whole),
            // A cold patch is small wherever it lies. For a hot page, its base pages are to be hot as well.
            Codec::Patch => (is_hot && !group.is_quick()).then_some(codec),
            Codec::Lz4 => is_sparse().then_some(codec),
            Codec::Zstd => (is_hot || is_sparse()).then_some(codec),
        }
    }

    /// Gives slots, which somebody has pinned, another place: the pages of `fresh`, in its order, which are equal
    /// to theirs. Returns groups of which nothing is wanted any more, to be dropped outside the lock.
    pub(super) fn rehouse(&mut self, fresh: &Fresh<A>, slots: &[SlotId]) -> Vec<Arc<Group<A>>> {
        let Some(number) = self.groups.insert(Arc::clone(&fresh.group), fresh.pages.len() as u32) else {
            return Vec::new(); // The table is full: they stay where they are.
        };
        let mut left = Vec::new();
        for (page, slot) in fresh.pages.iter().zip(slots) {
            // The place that is left: the old one, or, if the slot went meanwhile, the new one.
            left.push(match self.slots.get_mut(*slot).filter(|kept| kept.id == page.id) {
                Some(kept) => std::mem::replace(&mut kept.place, Place::new(number, page.index)).group(),
                None => number,
            });
        }
        let mut unwanted = Vec::new();
        left.into_iter().for_each(|group| self.groups.forget_page(group, &mut unwanted));
        unwanted
    }

    /// Adds new groups with the pages of them that are wanted. Returns the slots of each group; `None`, and nothing is kept, if
    /// the tables are full.
    pub(super) fn insert(&mut self, fresh: &[Fresh<A>]) -> Option<Vec<Vec<SlotId>>> {
        let enter = |fresh: &Fresh<A>| self.groups.insert(Arc::clone(&fresh.group), fresh.pages.len() as u32);
        let numbers: Vec<u32> = fresh.iter().map_while(enter).collect();
        let slots =
            if numbers.len() == fresh.len() { self.slots.insert(&slots_of(fresh, &numbers)) } else { None };
        let Some(slots) = slots else {
            for (number, fresh) in numbers.into_iter().zip(fresh) {
                // The caller holds the groups: none is freed under the lock.
                fresh.pages.iter().for_each(|_| self.groups.forget_page(number, &mut Vec::new()));
            }
            return None;
        };
        for &slot in &slots {
            self.enter(slot);
        }
        let mut in_order: Vec<usize> =
            fresh.iter().flat_map(|fresh| &fresh.pages).map(|page| page.nth).collect();
        in_order.sort_unstable();
        let slot_of = |page: &FreshPage| Some(slots[in_order.binary_search(&page.nth).ok()?]);
        Some(fresh.iter().map(|fresh| fresh.pages.iter().filter_map(slot_of).collect()).collect())
    }

    /// Enters a slot into the index.
    fn enter(&mut self, slot: SlotId) {
        let Self { slots, groups, index, .. } = self;
        let hash = |&slot: &SlotId| slot_hash(slots, groups, slot);
        index.insert_unique(hash(&slot), slot, hash);
    }

    /// Gives back `refs` references to a slot. Adds the groups of which nothing is needed any more, to be dropped
    /// outside the lock. References that nobody gave are counted and otherwise ignored.
    pub(super) fn unpin(&mut self, slot: SlotId, refs: u32, unwanted: &mut Vec<Arc<Group<A>>>) {
        let Some(kept) = self.slots.get_mut(slot).filter(|kept| kept.refs.get() >= refs) else {
            self.strays += u64::from(refs);
            return;
        };
        if let Some(left) = NonZeroU32::new(kept.refs.get() - refs) {
            kept.refs = left;
            return;
        }
        let group = kept.place.group();
        let hash = slot_hash(&self.slots, &self.groups, slot);
        if let Ok(entry) = self.index.find_entry(hash, |&entry| entry == slot) {
            entry.remove();
        }
        self.slots.remove(slot);
        self.groups.forget_page(group, unwanted);
    }

    /// The group that a page like this one lies in, if it may be a base in this domain of pages that are otherwise kept
    /// with `codec`; it stays where it is until `let_go`. Whether the slot still keeps what the caller thinks makes no difference: what is compressed against
    /// the wrong base is larger, and nothing else.
    pub(super) fn hold_base(
        &mut self,
        domain: &Domain,
        slot: SlotId,
        relocation: &Arc<PackedRelocation>,
        codec: Codec,
    ) -> Option<Base<A>> {
        let number = self.slots.get(slot)?.place.group();
        let group = self.groups.get(number)?;
        // A request waits for hot pages, so it should not have to wait for cold base pages.
        let is_quick_enough = codec != Codec::Lz4 || group.is_quick();
        if group.domain != *domain || !group.can_be_base() || !is_quick_enough {
            return None;
        }
        let base = Base { group: Arc::clone(group), number, relocation: Arc::clone(relocation) };
        self.groups.hold(number);
        Some(base)
    }

    /// Ends a `hold_base`. Returns the group if nothing of it is needed any more.
    pub(super) fn let_go(&mut self, number: u32) -> Option<Arc<Group<A>>> {
        self.groups.let_go(number)
    }

    /// Gives memory back after much was released.
    pub(super) fn shrink(&mut self) {
        let Self { slots, groups, index, .. } = self;
        groups.shrink();
        if index.is_empty() {
            *index = HashTable::new(); // Its capacity may be 0 although it is not: what was removed can count as used.
        } else if index.len() * 4 < index.capacity() {
            index.shrink_to(index.len() * 2, |&slot| slot_hash(slots, groups, slot));
        }
    }

    /// The slot and its group, for reading.
    pub(super) fn find(&self, slot: SlotId) -> Option<(&Slot, &Arc<Group<A>>)> {
        let kept = self.slots.get(slot)?;
        Some((kept, self.groups.get(kept.place.group())?))
    }

    /// What a slot costs in the arena.
    pub(super) fn page_bytes(&self, slot: &Slot) -> f64 {
        self.groups.page_bytes(slot.place.group())
    }

    pub(super) fn pages(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn strays(&self) -> u64 {
        self.strays
    }

    /// What a slot costs in relocations.
    pub(super) fn relocation_bytes(&self, slot: &Slot) -> f64 {
        self.groups.relocation_bytes(slot.place.group())
    }

    /// Whether a page with this hash is kept in the domain.
    pub(super) fn has(&self, (domain, tag): (&Domain, u64), id: PageId) -> bool {
        self.index.iter_hash(index_hash(id, tag)).any(|&slot| {
            let kept = self.slots.get(slot).filter(|kept| kept.id == id);
            let group = kept.and_then(|kept| self.groups.get(kept.place.group()));
            group.is_some_and(|group| group.domain == *domain)
        })
    }

    /// Memory of the tables, as allocated, and of the relocations that groups need.
    pub(super) fn heap_bytes(&self) -> usize {
        self.common_bytes() + self.groups.all_relocations_bytes()
    }

    /// The part of it that all pages share alike.
    pub(super) fn common_bytes(&self) -> usize {
        self.slots.heap_bytes() + self.groups.heap_bytes() + self.index.allocation_size()
    }
}

/// A group that is in the arena, but not yet in the tables.
pub(super) struct Fresh<A: Arena> {
    pub(super) group: Arc<Group<A>>,
    pub(super) pages: Vec<FreshPage>,
}

/// One page of it.
pub(super) struct FreshPage {
    /// Its number among the pages of the call.
    pub(super) nth: usize,
    /// Its place in the group.
    pub(super) index: u8,
    pub(super) id: PageId,
    pub(super) refs: NonZeroU32,
}

impl FreshPage {
    /// The page with this number in a call, if it is new.
    pub(super) fn of(nth: usize, found: &Found) -> Option<FreshPage> {
        let Found::New { id, refs } = *found else { return None };
        Some(FreshPage { nth, index: 0, id, refs })
    }
}

/// The slots of all pages in the order of their addresses, whatever group each went to.
fn slots_of<A: Arena>(fresh: &[Fresh<A>], numbers: &[u32]) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (fresh, &number) in fresh.iter().zip(numbers) {
        slots.extend(fresh.pages.iter().map(|page| {
            (page.nth, Slot { id: page.id, place: Place::new(number, page.index), refs: page.refs })
        }));
    }
    slots.sort_unstable_by_key(|&(nth, _)| nth);
    slots.into_iter().map(|(_, slot)| slot).collect()
}

/// Where the index keeps a page: by content and domain.
fn index_hash(id: PageId, domain_tag: u64) -> u64 {
    id.get() ^ domain_tag
}

fn slot_hash<A: Arena>(slots: &SlotTable, groups: &GroupTable<A>, slot: SlotId) -> u64 {
    let Some(kept) = slots.get(slot) else { return 0 };
    groups.get(kept.place.group()).map_or(0, |group| index_hash(kept.id, group.domain_tag))
}
