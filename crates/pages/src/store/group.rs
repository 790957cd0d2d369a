//! A group: pages that were put one after the other and lie in the arena as one blob.

use std::sync::Arc;

use super::relocations::Relocations;
use super::slots::Place;
use crate::arena::Arena;
use crate::codec::{Codec, Scratch, Undecodable};
use crate::page_id::{Page, PageHasher};
use crate::{ArenaError, BASE_PAGES_PER_GROUP, Domain, PackedRelocation};

/// What all groups of a store need as long as any of them lives.
pub(super) struct Shared<A> {
    pub(super) arena: A,
    pub(super) hasher: PageHasher,
}

/// Up to 16 pages, encoded together. Whoever holds it can read it; the last who drops it frees its bytes.
pub(super) struct Group<A: Arena> {
    pub(super) shared: Arc<Shared<A>>,
    blob: Option<A::Blob>, // `None` only while it is being dropped.
    pub(super) len_bytes: u32,
    pub(super) codec: Codec,
    pub(super) pages: u8,
    pub(super) domain: Domain,
    pub(super) domain_tag: u64,
    /// What the pages of a patch group were compared with.
    pub(super) base: Option<Base<A>>,
}

/// The base of a patch group.
pub(super) struct Base<A: Arena> {
    /// Its pages. No patches themselves: reading one page decodes two groups at most.
    pub(super) group: Arc<Group<A>>,
    /// Its number in the table, where it stays as long as there are groups with it as base.
    pub(super) number: u32,
    /// Where its pointers point to in the process of the patch group.
    pub(super) relocation: Arc<PackedRelocation>,
}

impl<A: Arena> Clone for Base<A> {
    fn clone(&self) -> Self {
        let Self { group, number, relocation } = self;
        Self { group: Arc::clone(group), number: *number, relocation: Arc::clone(relocation) }
    }
}

impl<A: Arena> Group<A> {
    /// Puts `bytes`, which `codec` made of `pages` pages, into the arena.
    pub(super) fn put(
        shared: &Arc<Shared<A>>,
        (domain, domain_tag): (&Domain, u64),
        (codec, pages): (Codec, u8),
        base: Option<Base<A>>,
        bytes: &[u8],
    ) -> Result<Self, ArenaError> {
        // Whole pages are aligned like pages, so that they could be mapped instead of copied.
        let align = if codec == Codec::Whole { crate::PAGE_SIZE } else { 1 };
        let blob = Some(shared.arena.put(bytes, align)?);
        let (shared, domain) = (Arc::clone(shared), domain.clone());
        Ok(Self { shared, blob, len_bytes: bytes.len() as u32, codec, pages, domain, domain_tag, base })
    }

    /// Whether others may be patches against it.
    pub(super) fn can_be_base(&self) -> bool {
        self.base.is_none() && usize::from(self.pages) <= BASE_PAGES_PER_GROUP
    }

    /// Whether hot pages may lie in it.
    pub(super) fn is_quick(&self) -> bool {
        match self.codec {
            Codec::Whole | Codec::Lz4 => true,
            Codec::Zstd => false,
            Codec::Patch => self.base.as_ref().is_some_and(|base| base.group.is_quick()),
        }
    }

    /// All its pages, and room to reorder them.
    pub(super) fn decode<'a>(
        &'a self,
        scratch: &'a mut Scratch,
    ) -> Result<(&'a [Page], &'a mut [u8]), Undecodable> {
        let bytes = self.blob.as_ref().map_or(&[][..], |blob| self.shared.arena.get(blob));
        let pages = usize::from(self.pages);
        let Some(base) = &self.base else { return scratch.decode(self.codec, bytes, pages) };
        base.group.decode_base(scratch, &base.relocation)?;
        scratch.decode_patch(bytes, usize::from(base.group.pages), pages)
    }

    /// What it is decoded together with, where that saves time: its base group, or itself if it may be one. Only if
    /// it is quick, so that a fault does not wait for more than one cold group; and if the base pages are taken as they
    /// are.
    pub(super) fn common_base(&self) -> Option<*const Self> {
        match &self.base {
            Some(base) => {
                (base.group.is_quick() && base.relocation.is_none()).then_some(Arc::as_ptr(&base.group))
            }
            None => (self.is_quick() && self.can_be_base()).then_some(std::ptr::from_ref(self)),
        }
    }

    /// Has the scratch keep its pages, as a base of groups that take it as it is.
    pub(super) fn decode_as_base(&self, scratch: &mut Scratch) -> Result<(), Undecodable> {
        let bytes = self.blob.as_ref().map_or(&[][..], |blob| self.shared.arena.get(blob));
        scratch.decode_raw_base(self.codec, bytes, usize::from(self.pages))
    }

    /// All its pages and room to gather them, if the scratch keeps its base, or itself as one.
    pub(super) fn decode_at_hand<'a>(
        &'a self,
        scratch: &'a mut Scratch,
    ) -> Result<(&'a [Page], &'a mut [u8]), Undecodable> {
        let Some(base) = &self.base else { return scratch.base(usize::from(self.pages)) };
        let bytes = self.blob.as_ref().map_or(&[][..], |blob| self.shared.arena.get(blob));
        scratch.decode_patch(bytes, usize::from(base.group.pages), usize::from(self.pages))
    }

    /// Has the scratch keep its pages, relocated.
    pub(super) fn decode_base(
        &self,
        scratch: &mut Scratch,
        relocation: &Arc<PackedRelocation>,
    ) -> Result<(), Undecodable> {
        let bytes = self.blob.as_ref().map_or(&[][..], |blob| self.shared.arena.get(blob));
        scratch.decode_base(self.codec, bytes, usize::from(self.pages), relocation)
    }
}

impl<A: Arena> Drop for Group<A> {
    fn drop(&mut self) {
        if let Some(blob) = self.blob.take() {
            self.shared.arena.remove(blob);
        }
    }
}

/// A group in the table of groups.
struct Entry<A: Arena> {
    group: Arc<Group<A>>,
    /// Pages of it that are still wanted.
    live: u32,
    /// Groups that have it as base, and callers that are about to make one.
    dependants: u32,
}

/// All groups, numbered.
pub(super) struct GroupTable<A: Arena> {
    entries: Vec<Option<Entry<A>>>,
    free: Vec<u32>,
    relocations: Relocations,
}

impl<A: Arena> GroupTable<A> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), relocations: Relocations::default() }
    }

    /// Adds a group of which `live` pages are wanted. `None` if there are too many.
    pub(super) fn insert(&mut self, group: Arc<Group<A>>, live: u32) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = u32::try_from(self.entries.len()).ok().filter(|&n| n <= Place::GROUP_MAX)?;
                self.entries.push(None);
                number
            }
        };
        if let Some(base) = &group.base {
            self.hold(base.number);
            self.relocations.hold(&base.relocation);
        }
        self.entries[number as usize] = Some(Entry { group, live, dependants: 0 });
        Some(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Arc<Group<A>>> {
        self.entries.get(number as usize)?.as_ref().map(|entry| &entry.group)
    }

    /// How many pages of the group are wanted.
    pub(super) fn live(&self, number: u32) -> u32 {
        self.entries.get(number as usize).and_then(Option::as_ref).map_or(0, |entry| entry.live)
    }

    fn entry(&self, number: u32) -> Option<&Entry<A>> {
        self.entries.get(number as usize)?.as_ref()
    }

    /// What one wanted page of the group costs in the arena: its part of the group, and of the base. Those who share
    /// a base (its own pages that are wanted, and each group of patches) pay alike for it.
    pub(super) fn page_bytes(&self, number: u32) -> f64 {
        let Some(entry) = self.entry(number) else { return 0.0 };
        let of_base = entry.group.base.as_ref().map_or(0.0, |base| self.part_bytes(base.number));
        match &entry.group.base {
            Some(_) => (f64::from(entry.group.len_bytes) + of_base) / f64::from(entry.live),
            None => self.part_bytes(number),
        }
    }

    /// What each of those who use a group that is no patch pays for it.
    fn part_bytes(&self, number: u32) -> f64 {
        let bytes = |entry: &Entry<A>| {
            f64::from(entry.group.len_bytes) / f64::from((entry.live + entry.dependants).max(1))
        };
        self.entry(number).map_or(0.0, bytes)
    }

    /// What one wanted page of the group costs in relocations: each group of patches pays alike for its own.
    pub(super) fn relocation_bytes(&self, number: u32) -> f64 {
        let Some(entry) = self.entry(number) else { return 0.0 };
        let base = entry.group.base.as_ref();
        base.map_or(0.0, |base| self.relocations.part_bytes(&base.relocation) / f64::from(entry.live))
    }

    /// Memory of all relocations.
    pub(super) fn all_relocations_bytes(&self) -> usize {
        self.relocations.bytes()
    }

    /// Keeps a group in the table, whether or not its pages are wanted.
    pub(super) fn hold(&mut self, number: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(number as usize) {
            entry.dependants += 1;
        }
    }

    /// Ends one `hold`. Returns the group if nothing of it is needed any more.
    pub(super) fn let_go(&mut self, number: u32) -> Option<Arc<Group<A>>> {
        let entry = self.entries.get_mut(number as usize)?.as_mut()?;
        entry.dependants -= 1;
        self.remove_if_unused(number)
    }

    /// One page is no longer wanted. Adds the groups of which nothing is needed any more.
    pub(super) fn forget_page(&mut self, number: u32, unwanted: &mut Vec<Arc<Group<A>>>) {
        let Some(Some(entry)) = self.entries.get_mut(number as usize) else { return };
        entry.live -= 1;
        let Some(group) = self.remove_if_unused(number) else { return };
        unwanted.extend(group.base.as_ref().and_then(|base| self.let_go(base.number)));
        unwanted.push(group);
    }

    fn remove_if_unused(&mut self, number: u32) -> Option<Arc<Group<A>>> {
        let place = self.entries.get_mut(number as usize)?;
        if place.as_ref().is_some_and(|entry| entry.live > 0 || entry.dependants > 0) {
            return None;
        }
        let entry = place.take()?;
        self.free.push(number);
        if let Some(base) = &entry.group.base {
            self.relocations.let_go(&base.relocation);
        }
        Some(entry.group)
    }

    /// Gives memory back when nothing is left. Numbers in use pin the table, so there is no halfway.
    pub(super) fn shrink(&mut self) {
        if self.len() == 0 {
            *self = Self::new();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let arc = size_of::<Group<A>>() + 2 * size_of::<usize>();
        self.entries.capacity() * size_of::<Option<Entry<A>>>()
            + self.free.capacity() * size_of::<u32>()
            + self.relocations.heap_bytes()
            + self.len() * arc
    }
}
