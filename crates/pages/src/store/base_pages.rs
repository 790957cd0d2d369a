//! The pages of a base image, for whoever looks for the ones that his pages are like. They are decoded as they are
//! asked for: of a large image only a part is in memory at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::group::Group;
use super::{SlotId, Store};
use crate::codec::Scratch;
use crate::encoding::is_zero;
use crate::fingerprint::CHUNKS_DEFAULT;
use crate::page_id::Page;
use crate::{Arena, BaseContent, Domain, Fingerprinter, Manifest, PageAddr};

/// Decoded groups that one reader keeps: 16 MiB. Neighbours follow each other, so that most are decoded once.
const DECODED_GROUPS_MAX: usize = 512;

/// Where the pages of a base image lay, and where the store keeps them. Takes 24 bytes a page; it keeps the bytes
/// alive by itself.
pub struct BasePages<A: Arena> {
    addrs: Vec<PageAddr>,
    kept: Vec<Kept>,
    groups: Vec<Arc<Group<A>>>,
}

/// One of them.
#[derive(Clone, Copy)]
struct Kept {
    slot: SlotId,
    /// By its place in `groups`.
    group: u32,
    index: u8,
}

impl<A: Arena> Store<A> {
    /// The pages of `manifest` as base pages: those that are not zero, numbered by address. Those that the store does
    /// not have, as it is not a manifest of this store, are left out.
    pub fn base_pages(&self, manifest: &Manifest) -> BasePages<A> {
        let mut base = BasePages { addrs: Vec::new(), kept: Vec::new(), groups: Vec::new() };
        let mut place_of_group = HashMap::new();
        let tables = self.tables();
        for (addr, slot) in manifest.pages() {
            let Some((kept, group)) = tables.find(slot) else { continue };
            let group = *place_of_group.entry(kept.place.group()).or_insert_with(|| {
                base.groups.push(Arc::clone(group));
                base.groups.len() as u32 - 1
            });
            base.addrs.push(addr);
            base.kept.push(Kept { slot, group, index: kept.place.index() });
        }
        base
    }

    /// For each page, whether the store probably has it: by its hash alone. Zero pages count as kept.
    pub fn probably_has(&self, domain: &Domain, pages: &[Page]) -> Vec<bool> {
        let whose = (domain, self.shared.hasher.domain_tag(domain));
        let id = |page: &Page| (!is_zero(page)).then(|| self.shared.hasher.page_id(page));
        let ids: Vec<_> = pages.iter().map(id).collect();
        let tables = self.tables();
        ids.into_iter().map(|id| id.is_none_or(|id| tables.has(whose, id))).collect()
    }

    /// Takes fingerprints of pages of a domain, with the key of this store.
    pub fn fingerprinter(&self, domain: &Domain) -> Fingerprinter {
        Fingerprinter::with_tag(self.shared.hasher.domain_tag(domain), CHUNKS_DEFAULT)
    }
}

impl<A: Arena> BasePages<A> {
    /// Where they lay, upwards.
    pub fn addrs(&self) -> &[PageAddr] {
        &self.addrs
    }

    /// The slot of a page, by number.
    pub fn slot(&self, number: usize) -> Option<SlotId> {
        Some(self.kept.get(number)?.slot)
    }

    /// Pages with the same answer lie in the same group.
    pub fn group(&self, number: usize) -> Option<u32> {
        Some(self.kept.get(number)?.group)
    }

    /// Reads them. Each thread has its own.
    pub fn reader(&self) -> BaseReader<'_, A> {
        BaseReader {
            of: self,
            scratch: Scratch::new(),
            decoded: HashMap::new(),
            oldest_first: VecDeque::new(),
        }
    }
}

/// Reads pages of a base image. What it gives is not checked: it is for finding what is alike.
pub struct BaseReader<'a, A: Arena> {
    of: &'a BasePages<A>,
    scratch: Scratch,
    /// By the place of the group.
    decoded: HashMap<u32, Box<[Page]>>,
    oldest_first: VecDeque<u32>,
}

impl<A: Arena> BaseReader<'_, A> {
    /// Decodes a group, unless it is at hand.
    fn decode(&mut self, number: u32) {
        if self.decoded.contains_key(&number) {
            return;
        }
        let Some(group) = self.of.groups.get(number as usize) else { return };
        if self.oldest_first.len() >= DECODED_GROUPS_MAX {
            self.oldest_first.pop_front().map(|oldest| self.decoded.remove(&oldest));
        }
        // What cannot be decoded is like nothing; whoever wakes with it will find out.
        let content = group.decode(&mut self.scratch).map_or(&[][..], |(content, _)| content);
        self.decoded.insert(number, content.into());
        self.oldest_first.push_back(number);
    }
}

impl<A: Arena> BaseContent for BaseReader<'_, A> {
    fn page(&mut self, number: usize) -> Option<&Page> {
        let Kept { group, index, .. } = *self.of.kept.get(number)?;
        self.decode(group);
        self.decoded.get(&group)?.get(usize::from(index))
    }
}
