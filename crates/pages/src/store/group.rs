//! A group: pages that were put one after the other and lie in the arena as one blob.

use std::sync::Arc;

use super::slots::Place;
use crate::arena::Arena;
use crate::codec::{Codec, Scratch, Undecodable};
use crate::page_id::{Page, PageHasher};
use crate::{ArenaError, Domain};

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
}

impl<A: Arena> Group<A> {
    /// Puts `bytes`, which `codec` made of `pages` pages, into the arena.
    pub(super) fn put(
        shared: &Arc<Shared<A>>,
        (domain, domain_tag): (&Domain, u64),
        (codec, pages): (Codec, u8),
        bytes: &[u8],
    ) -> Result<Self, ArenaError> {
        // Whole pages are aligned like pages, so that they could be mapped instead of copied.
        let align = if codec == Codec::Whole { crate::PAGE_SIZE } else { 1 };
        let blob = Some(shared.arena.put(bytes, align)?);
        let (shared, domain) = (Arc::clone(shared), domain.clone());
        Ok(Self { shared, blob, len_bytes: bytes.len() as u32, codec, pages, domain, domain_tag })
    }

    /// All its pages, and room to reorder them.
    pub(super) fn decode<'a>(
        &'a self,
        scratch: &'a mut Scratch,
    ) -> Result<(&'a [Page], &'a mut [u8]), Undecodable> {
        let bytes = self.blob.as_ref().map_or(&[][..], |blob| self.shared.arena.get(blob));
        scratch.decode(self.codec, bytes, usize::from(self.pages))
    }
}

impl<A: Arena> Drop for Group<A> {
    fn drop(&mut self) {
        if let Some(blob) = self.blob.take() {
            self.shared.arena.remove(blob);
        }
    }
}

/// A group in the table of groups, with the number of its pages that are still wanted.
struct Entry<A: Arena> {
    group: Arc<Group<A>>,
    live: u32,
}

/// All groups, numbered.
pub(super) struct GroupTable<A: Arena> {
    entries: Vec<Option<Entry<A>>>,
    free: Vec<u32>,
}

impl<A: Arena> GroupTable<A> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// Adds a group of which `live` pages are wanted. `None` if there are too many.
    pub(super) fn insert(&mut self, group: Arc<Group<A>>, live: u32) -> Option<u32> {
        let entry = Some(Entry { group, live });
        if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            return Some(number);
        }
        let number = u32::try_from(self.entries.len()).ok().filter(|&n| n <= Place::GROUP_MAX)?;
        self.entries.push(entry);
        Some(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Arc<Group<A>>> {
        self.entries.get(number as usize)?.as_ref().map(|entry| &entry.group)
    }

    /// How many pages of the group are wanted.
    pub(super) fn live(&self, number: u32) -> u32 {
        self.entries.get(number as usize).and_then(Option::as_ref).map_or(0, |entry| entry.live)
    }

    /// What one wanted page of the group costs in the arena.
    pub(super) fn page_bytes(&self, number: u32) -> f64 {
        let entry = self.entries.get(number as usize).and_then(Option::as_ref);
        entry.map_or(0.0, |entry| f64::from(entry.group.len_bytes) / f64::from(entry.live))
    }

    /// One page is no longer wanted. Returns the group if it was the last one.
    pub(super) fn forget_page(&mut self, number: u32) -> Option<Arc<Group<A>>> {
        let place = self.entries.get_mut(number as usize)?;
        let entry = place.as_mut()?;
        entry.live -= 1;
        if entry.live > 0 {
            return None;
        }
        self.free.push(number);
        place.take().map(|entry| entry.group)
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
            + self.len() * arc
    }
}
