//! The store: the content of all sleeping sandboxes of a node, each page once in a sharing domain.
//!
//! Many threads use it at once. Its one lock guards tables only: pages are hashed, compared, compressed and
//! decoded outside of it.

mod base_pages;
mod draft;
mod fill;
mod group;
mod patched;
mod put;
mod regroup;
mod relocations;
mod share;
mod slots;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use base_pages::{BasePages, BaseReader};
pub(crate) use fill::damaged_group_is_noticed;
pub use fill::{Fill, FillError, FillJob, FillPlan, JobIndex, PlanError};
pub use put::{Like, PAGES_PER_PUT, StoreError};
pub use share::StoreShare;
pub use slots::SlotId;

use crate::codec::Encoder;
use crate::manifest::Manifest;
use crate::page_id::PageHasher;
use crate::{Arena, Content, Encoding, PageRange};
use group::Shared;
use tables::Tables;

/// Most pages that are encoded together: what compresses them well, and no more than 64 KiB to decode to read one.
pub const PAGES_PER_GROUP: usize = 16;

/// Encoders that wait for the next call. More threads than that put at once only while much falls asleep, and
/// each encoder holds half a megabyte, and another one once it has made patches.
const IDLE_ENCODERS_MAX: usize = 2;

/// Keeps pages by content, in an arena.
pub struct Store<A: Arena> {
    shared: Arc<Shared<A>>,
    tables: Mutex<Tables<A>>,
    encoders: Mutex<Vec<Encoder>>,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Distinct pages.
    pub pages: u64,
    /// Groups they lie in.
    pub groups: u64,
    /// Bytes of all encodings.
    pub used_bytes: u64,
    /// Memory of the arena: encodings and fragmentation.
    pub held_bytes: u64,
    /// Memory of the tables, as allocated.
    pub table_bytes: u64,
    /// References given back that nobody had been given. Anything but 0 is a bug of a caller.
    pub strays: u64,
}

impl<A: Arena> Store<A> {
    /// An empty store. `key` is random and secret: it keeps anyone from aiming at the hashes of the store.
    pub fn new(arena: A, key: [u8; 32]) -> Self {
        Self::with_hasher(arena, PageHasher::new(&key))
    }

    fn with_hasher(arena: A, hasher: PageHasher) -> Self {
        let shared = Arc::new(Shared { arena, hasher });
        Self { shared, tables: Mutex::new(Tables::new()), encoders: Mutex::default() }
    }

    /// Where the bytes lie.
    pub fn arena(&self) -> &A {
        &self.shared.arena
    }

    /// Gives back everything that a manifest refers to. Plans made from it can still be filled from.
    pub fn release(&self, manifest: Manifest) {
        self.unpin(manifest.slots().map(|slot| (slot, 1)));
    }

    /// Gives back pages that were put, but never came into a manifest.
    pub fn give_back(&self, encodings: &[Encoding]) {
        self.unpin(encodings.iter().filter_map(|encoding| encoding.slot()).map(|slot| (slot, 1)));
    }

    /// Takes another reference to each page of `manifest` in a range, and says how they are kept: for a process in
    /// which they still stand. The manifest must be one that is not released. `None`: it does not hold all of them.
    pub fn keep_again(&self, manifest: &Manifest, range: PageRange) -> Option<Vec<Encoding>> {
        let mut tables = self.tables();
        let mut kept = Vec::with_capacity(range.pages() as usize);
        for addr in range.addrs() {
            let again = match manifest.get(addr) {
                Some(Content::Zero) => Some(Encoding::Zero),
                Some(Content::Slots(slot)) => tables.pin_slot(slot).then_some(Encoding::Same(slot)),
                None => None,
            };
            let Some(again) = again else {
                drop(tables);
                self.give_back(&kept);
                return None;
            };
            kept.push(again);
        }
        Some(kept)
    }

    /// What it holds now.
    pub fn stats(&self) -> StoreStats {
        let tables = self.tables();
        StoreStats {
            pages: tables.pages() as u64,
            groups: tables.groups() as u64,
            used_bytes: self.shared.arena.used_bytes(),
            held_bytes: self.shared.arena.held_bytes(),
            table_bytes: tables.heap_bytes() as u64,
            strays: tables.strays(),
        }
    }

    fn unpin(&self, references: impl Iterator<Item = (SlotId, u32)>) {
        let mut tables = self.tables();
        let mut unwanted = Vec::new();
        references.for_each(|(slot, refs)| tables.unpin(slot, refs, &mut unwanted));
        tables.shrink();
        drop(tables);
        drop(unwanted); // Freeing may call the kernel, so not under the lock.
    }

    /// A thread that panicked under the lock would leave tables that are wrong at worst about what is free;
    /// content is compared and checked wherever it is used.
    fn tables(&self) -> MutexGuard<'_, Tables<A>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
