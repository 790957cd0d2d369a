//! Pages that the store has move to where they are read more quickly. Slots stay, so manifests do not change.

use std::num::NonZeroU32;

use super::Store;
use super::fill::PAGES_PER_LOCK;
use super::patched::Held;
use super::put::{Like, StoreError, pages_per_group};
use super::slots::SlotId;
use super::tables::{Fresh, FreshPage};
use crate::codec::{Codec, Encoder, Scratch};
use crate::page_id::{Page, PageId};
use crate::{Arena, Domain, Heat, Manifest, PAGE_SIZE, PageAddr, PageRange};

/// A page that the store has, in a group where it should not be.
pub(super) struct Misplaced {
    pub(super) nth: usize,
    /// How it should be kept.
    pub(super) codec: Codec,
    pub(super) id: PageId,
    pub(super) slot: SlotId,
}

impl Misplaced {
    fn member(&self) -> FreshPage {
        FreshPage { nth: self.nth, index: 0, id: self.id, refs: NonZeroU32::MIN }
    }
}

impl<A: Arena> Store<A> {
    /// The pages of `manifest` in `ranges`, which are sorted and do not overlap, that lie among cold ones.
    pub fn cold_among(&self, manifest: &Manifest, ranges: &[PageRange]) -> Vec<PageRange> {
        let mut cold: Vec<PageRange> = Vec::new();
        let mut pages = manifest.pages_in(ranges).peekable();
        while pages.peek().is_some() {
            let tables = self.tables();
            for (addr, slot) in pages.by_ref().take(PAGES_PER_LOCK) {
                if tables.find(slot).is_none_or(|(_, group)| group.is_quick()) {
                    continue;
                }
                match cold.last_mut() {
                    Some(last) if last.end() == addr => {
                        *last = PageRange::new(last.start(), last.pages() + 1)
                    }
                    _ => cold.push(PageRange::new(addr, 1)),
                }
            }
        }
        cold
    }

    /// Moves pages of `manifest`, at most [`PAGES_PER_PUT`](super::PAGES_PER_PUT) in `ranges`, to where hot ones lie: as
    /// if they were put again. The manifest, which must not be released meanwhile, stays as it is. Pages that cannot be
    /// read, or for which there is no room, stay where they are.
    pub fn make_hot(
        &self,
        domain: &Domain,
        manifest: &Manifest,
        ranges: &[PageRange],
        like: Like<'_>,
    ) -> Result<(), StoreError> {
        let Some(pages) = self.read_pages(manifest, ranges) else { return Ok(()) };
        match self.put_like(domain, pages.as_flattened(), Heat::Hot, like) {
            Ok(again) => self.give_back(&again),
            Err(StoreError::Arena { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The pages of `ranges`, one behind the other. `None`: one is damaged, or there are none.
    fn read_pages(&self, manifest: &Manifest, ranges: &[PageRange]) -> Option<Vec<Page>> {
        let plan = self.plan(manifest, ranges).ok()?;
        let addrs: Vec<PageAddr> = ranges.iter().flat_map(|range| range.addrs()).collect();
        let mut pages = vec![[0; PAGE_SIZE]; addrs.len()];
        let mut scratch = Scratch::new();
        for job in plan.jobs() {
            let mut copy = |start: PageAddr, bytes: &[u8]| {
                let at = addrs.binary_search(&start).ok()?;
                pages[at..].as_flattened_mut()[..bytes.len()].copy_from_slice(bytes);
                Some(())
            };
            job.decode(&mut scratch, &mut |start, bytes| copy(start, bytes).ok_or(())).ok()?;
        }
        (!pages.is_empty()).then_some(pages)
    }

    /// Moves pages into groups of their own: hot ones out of cold groups, so that a wake decodes quickly and only
    /// what it needs; those that many want, so that it need not decode; and what is left of a group that has lost most
    /// of its pages, so that its bytes go.
    pub(super) fn move_together(
        &self,
        domain: (&Domain, u64),
        pages: &[Page],
        mut misplaced: Vec<Misplaced>,
        like: Like<'_>,
        encoder: &mut Encoder,
    ) -> Result<(), StoreError> {
        self.move_to_bases(domain, pages, &mut misplaced, like, encoder)?;
        misplaced.sort_unstable_by_key(|page| (page.codec, page.nth)); // Neighbours stay neighbours.
        for misplaced in misplaced.chunk_by(|a, b| a.codec == b.codec) {
            let codec = misplaced[0].codec;
            for misplaced in misplaced.chunks(pages_per_group(codec, Like::Nothing)) {
                let members = misplaced.iter().map(Misplaced::member).collect();
                let fresh = self.encode_group(domain, pages, members, codec, encoder);
                self.move_group(fresh, misplaced)?;
            }
        }
        Ok(())
    }

    /// Makes hot pages patches against hot base pages, and takes those that became some out of `misplaced`.
    fn move_to_bases(
        &self,
        domain: (&Domain, u64),
        pages: &[Page],
        misplaced: &mut Vec<Misplaced>,
        like: Like<'_>,
        encoder: &mut Encoder,
    ) -> Result<(), StoreError> {
        let Like::Slots(slots, _) = like else { return Ok(()) };
        // A page that is the base page itself is no patch against it.
        let may_be_patch = |page: &&Misplaced| {
            page.codec == Codec::Lz4 && slots.get(page.nth).is_some_and(|slot| *slot != Some(page.slot))
        };
        let nths: Vec<usize> = misplaced.iter().filter(may_be_patch).map(|page| page.nth).collect();
        let held: Held<'_, A> = self.hold_bases(domain.0, nths.into_iter(), (Codec::Lz4, like));
        for (base, nths) in held.clusters() {
            let (cluster, rest) =
                std::mem::take(misplaced).into_iter().partition(|page| nths.contains(&page.nth));
            *misplaced = rest;
            let mut cluster: Vec<Misplaced> = cluster;
            let members = cluster.iter().map(Misplaced::member).collect();
            match self.encode_patch(domain, pages, members, base, encoder).transpose() {
                Some(fresh) => self.move_group(fresh, &cluster)?,
                None => misplaced.append(&mut cluster),
            }
        }
        Ok(())
    }

    /// Moves pages into one new group. Where there is no room for it they stay.
    fn move_group(
        &self,
        fresh: Result<Fresh<A>, StoreError>,
        misplaced: &[Misplaced],
    ) -> Result<(), StoreError> {
        let fresh = match fresh {
            Err(StoreError::Arena { .. }) => return Ok(()),
            fresh => fresh?,
        };
        let slots: Vec<_> = misplaced.iter().map(|page| page.slot).collect();
        let unwanted = self.tables().rehouse(&fresh, &slots);
        drop(unwanted); // Freeing may call the kernel, so not under the lock.
        Ok(())
    }
}
