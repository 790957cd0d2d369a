//! Puts pages into the store. A page counts as put when it was decoded again and found the same.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError};

use super::patched::Held;
use super::regroup::Misplaced;
use super::slots::SlotId;
use super::tables::{Candidate, Fresh, FreshPage};
use super::{IDLE_ENCODERS_MAX, PAGES_PER_GROUP, Store};
use crate::codec::{Codec, Encoder, Scratch};
use crate::encoding::is_zero;
use crate::page_id::{Page, PageId};
use crate::{Arena, ArenaError, BASE_PAGES_PER_GROUP, Domain, Encoding, Heat, PackedRelocation};

/// Pages in one call: a megabyte. Enough to find neighbours, and soon done, so that a sleep can be broken off.
pub const PAGES_PER_PUT: usize = 256;

/// What is known of pages before they are put.
#[derive(Clone, Copy, Debug)]
pub enum Like<'a> {
    /// Nothing.
    Nothing,
    /// Others will be like them: they are to be base pages.
    BasePages,
    /// Each is probably like the page in this slot, with pointers relocated. A hint: wrong ones cost savings only.
    Slots(&'a [Option<SlotId>], &'a Arc<PackedRelocation>),
}

/// Pages could not be put. Nothing of the call is kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The caller gave half a page, or too many.
    #[error("put {len_bytes} bytes: not 1 to {PAGES_PER_PUT} whole pages")]
    NotPages {
        /// What was given.
        len_bytes: usize,
    },
    /// The arena did not take them.
    #[error("put {pages} pages into the arena")]
    Arena {
        /// Pages that were encoded together.
        pages: usize,
        /// Why.
        source: ArenaError,
    },
    /// There are more pages than numbers for them.
    #[error("the tables are full at {pages} pages")]
    Full {
        /// Pages kept.
        pages: usize,
    },
    /// What was put does not read back the same: the memory of this machine is not to be trusted.
    #[error("{pages} pages read back different from what was put")]
    Unfaithful {
        /// Pages that were encoded together.
        pages: usize,
    },
    /// No compressor could be made.
    #[error("make a compressor")]
    Encoder {
        /// What zstd said.
        source: io::Error,
    },
}

/// What is known of one page of a call.
#[derive(Clone, Copy)]
pub(super) enum Found {
    Zero,
    /// Equal to an earlier page of the same call.
    Twin {
        of: usize,
    },
    /// Not yet in the store, as far as we know; wanted so many times in this call.
    New {
        id: PageId,
        refs: NonZeroU32,
    },
    /// In the store, with a reference for each time it is wanted.
    Kept(Encoding),
}

impl Found {
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Found::New { .. })
    }
}

impl<A: Arena> Store<A> {
    /// Puts pages, at most [`PAGES_PER_PUT`], and says how each is kept now. Pages that are put together lie
    /// together.
    pub fn put(&self, domain: &Domain, pages: &[u8], heat: Heat) -> Result<Vec<Encoding>, StoreError> {
        self.put_like(domain, pages, heat, Like::Nothing)
    }

    /// The same for pages of which something is known.
    pub fn put_like(
        &self,
        domain: &Domain,
        pages: &[u8],
        heat: Heat,
        like: Like<'_>,
    ) -> Result<Vec<Encoding>, StoreError> {
        let pages = whole_pages(pages)?;
        let mut encoder = self.take_encoder()?;
        let domain = (domain, self.shared.hasher.domain_tag(domain));
        let mut found = self.look_at(pages);
        let codec = Codec::for_heat(heat);
        let misplaced = self.find_known(domain, pages, &mut found, codec, &mut encoder.scratch);
        let kept = self.keep_new(domain, pages, &mut found, (codec, like), &mut encoder);
        let kept = kept.and_then(|()| self.move_together(domain, pages, misplaced, like, &mut encoder));
        self.give_encoder(encoder);
        let encodings: Vec<Encoding> = (0..found.len()).filter_map(|nth| encoding(&found, nth)).collect();
        // A page without an encoding would shift all behind it to wrong addresses: rather no sleep than that.
        let is_complete = encodings.len() == pages.len();
        if let Err(error) =
            kept.and(is_complete.then_some(()).ok_or(StoreError::Unfaithful { pages: pages.len() }))
        {
            self.give_back(&encodings);
            return Err(error);
        }
        Ok(encodings)
    }

    /// Sorts out zero pages and twins, and hashes the rest.
    fn look_at(&self, pages: &[Page]) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::with_capacity(pages.len());
        let mut first_with = HashMap::with_capacity(pages.len());
        for (nth, page) in pages.iter().enumerate() {
            if is_zero(page) {
                found.push(Found::Zero);
                continue;
            }
            let id = self.shared.hasher.page_id(page);
            let of = *first_with.entry(id).or_insert(nth);
            if of == nth || pages[of] != *page {
                found.push(Found::New { id, refs: NonZeroU32::MIN });
                continue;
            }
            if let Found::New { refs, .. } = &mut found[of] {
                *refs = refs.saturating_add(1);
            }
            found.push(Found::Twin { of });
        }
        found
    }

    /// Finds and pins the pages that the store has already. Comparing happens without the lock, so a page may
    /// be gone when it is to be pinned; it is then new. Returns those that lie where they should not.
    fn find_known(
        &self,
        domain: (&Domain, u64),
        pages: &[Page],
        found: &mut [Found],
        codec: Codec,
        scratch: &mut Scratch,
    ) -> Vec<Misplaced> {
        let tables = self.tables();
        let candidates = found.iter().enumerate().flat_map(|(nth, page)| match page {
            Found::New { id, .. } => tables.candidates(domain, *id).into_iter().map(|c| (nth, c)).collect(),
            _ => Vec::new(),
        });
        let candidates: Vec<(usize, Candidate<A>)> = candidates.collect();
        drop(tables);
        let equal = only_equal(candidates, pages, scratch);
        let mut misplaced = Vec::new();
        let mut tables = self.tables();
        for (nth, candidate) in &equal {
            if let Found::New { id, refs } = found[*nth]
                && tables.pin(candidate, refs)
            {
                found[*nth] = Found::Kept(Encoding::Same(candidate.slot));
                let better = tables.better_codec(candidate, codec);
                misplaced.extend(better.map(|codec| Misplaced {
                    nth: *nth,
                    codec,
                    id,
                    slot: candidate.slot,
                }));
            }
        }
        drop(tables); // Before the candidates: the last reader of a group frees it, which may call the kernel.
        misplaced
    }

    /// Encodes and enters what is new. After success, nothing is new any more.
    fn keep_new(
        &self,
        domain: (&Domain, u64),
        pages: &[Page],
        found: &mut [Found],
        (codec, like): (Codec, Like<'_>),
        encoder: &mut Encoder,
    ) -> Result<(), StoreError> {
        let is_new = |nth: &usize| found[*nth].is_new();
        let held = self.hold_bases(domain.0, (0..found.len()).filter(is_new), (codec, like));
        let mut fresh = self.encode(domain, pages, found, (codec, like, &held), encoder)?;
        // Encoding took a while. Sandboxes of one function often fall asleep together, and then another thread
        // has just put the same pages; without this look, both copies would stay.
        self.find_known(domain, pages, found, codec, &mut encoder.scratch);
        fresh.retain_mut(|fresh| {
            fresh.pages.retain(|page| matches!(found[page.nth], Found::New { .. }));
            !fresh.pages.is_empty()
        });
        let mut tables = self.tables();
        let full = StoreError::Full { pages: tables.pages() };
        let slots = tables.insert(&fresh);
        drop(tables);
        drop(held); // Those that are bases now hold themselves.
        for (Fresh { group, pages }, slots) in fresh.iter().zip(slots.ok_or(full)?) {
            for (page, slot) in pages.iter().zip(slots) {
                found[page.nth] = Found::Kept(match group.codec {
                    Codec::Patch => Encoding::Patched(slot),
                    Codec::Whole => Encoding::Whole(slot),
                    Codec::Lz4 | Codec::Zstd => Encoding::Packed(slot),
                });
            }
        }
        Ok(())
    }

    /// Puts new pages into the arena: as patches where they have a base, else in groups of neighbours; those that do
    /// not compress apart from the rest.
    fn encode(
        &self,
        domain: (&Domain, u64),
        pages: &[Page],
        found: &[Found],
        (codec, like, held): (Codec, Like<'_>, &Held<'_, A>),
        encoder: &mut Encoder,
    ) -> Result<Vec<Fresh<A>>, StoreError> {
        let mut fresh = self.encode_patches(domain, pages, found, held, encoder)?;
        let mut is_patched = vec![false; pages.len()];
        fresh.iter().flat_map(|group| &group.pages).for_each(|page| is_patched[page.nth] = true);
        let (mut pack, mut whole) = (Vec::new(), Vec::new());
        for (nth, page) in found.iter().enumerate() {
            if let (false, Some(page)) = (is_patched[nth], FreshPage::of(nth, page)) {
                let kind = if encoder.is_incompressible(&pages[nth]) { &mut whole } else { &mut pack };
                kind.push(page);
            }
        }
        for (mut members, codec) in [(pack, codec), (whole, Codec::Whole)] {
            let most = pages_per_group(codec, like);
            while !members.is_empty() {
                let group: Vec<_> = members.drain(..members.len().min(most)).collect();
                fresh.push(self.encode_group(domain, pages, group, codec, encoder)?);
            }
        }
        Ok(fresh)
    }

    pub(super) fn encode_group(
        &self,
        domain: (&Domain, u64),
        pages: &[Page],
        members: Vec<FreshPage>,
        codec: Codec,
        encoder: &mut Encoder,
    ) -> Result<Fresh<A>, StoreError> {
        let content = gather(pages, &members);
        let packed = encoder.pack(codec, content.as_flattened()).map(Box::<[u8]>::from);
        match packed {
            Some(packed) => self.put_group(domain, (codec, None), &content, members, &packed, encoder),
            None => {
                let bytes = content.as_flattened();
                self.put_group(domain, (Codec::Whole, None), &content, members, bytes, encoder)
            }
        }
    }

    fn take_encoder(&self) -> Result<Encoder, StoreError> {
        let idle = self.encoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(Encoder::new, Ok).map_err(|source| StoreError::Encoder { source })
    }

    fn give_encoder(&self, mut encoder: Encoder) {
        encoder.scratch.forget_relocation();
        let mut idle = self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_ENCODERS_MAX {
            idle.push(encoder);
        }
    }
}

/// How many pages are encoded together. Base pages share their 64 KiB with the patches against them, and hot pages
/// are often base pages; whole pages gain nothing by company.
pub(super) fn pages_per_group(codec: Codec, like: Like<'_>) -> usize {
    match (codec, like) {
        (Codec::Lz4 | Codec::Whole, _) | (_, Like::BasePages) => BASE_PAGES_PER_GROUP,
        _ => PAGES_PER_GROUP,
    }
}

/// The pages that belong to `members`, one behind the other; copied only where others lie between them.
pub(super) fn gather<'a>(pages: &'a [Page], members: &[FreshPage]) -> Cow<'a, [Page]> {
    match (members.first(), members.last()) {
        (Some(first), Some(last)) if last.nth - first.nth + 1 == members.len() => {
            Cow::Borrowed(&pages[first.nth..=last.nth])
        }
        _ => members.iter().map(|page| pages[page.nth]).collect(),
    }
}

fn whole_pages(bytes: &[u8]) -> Result<&[Page], StoreError> {
    match bytes.as_chunks() {
        (pages, []) if (1..=PAGES_PER_PUT).contains(&pages.len()) => Ok(pages),
        _ => Err(StoreError::NotPages { len_bytes: bytes.len() }),
    }
}

/// The candidates whose bytes are those of the page. Consecutive pages of one group cost one decoding. A group
/// that cannot be decoded holds nothing that is equal to anything.
fn only_equal<A: Arena>(
    candidates: Vec<(usize, Candidate<A>)>,
    pages: &[Page],
    scratch: &mut Scratch,
) -> Vec<(usize, Candidate<A>)> {
    let mut equal = Vec::with_capacity(candidates.len());
    let mut rest = candidates.into_iter().peekable();
    while let Some((_, first)) = rest.peek() {
        let group = Arc::clone(&first.group);
        let content = group.decode(scratch).map_or(&[][..], |(content, _)| content);
        while let Some((nth, candidate)) = rest.next_if(|(_, next)| Arc::ptr_eq(&next.group, &group)) {
            if content.get(usize::from(candidate.place.index())) == Some(&pages[nth]) {
                equal.push((nth, candidate));
            }
        }
    }
    equal
}

/// How the page is kept; `None` as long as it is not.
fn encoding(found: &[Found], nth: usize) -> Option<Encoding> {
    match found[nth] {
        Found::Zero => Some(Encoding::Zero),
        Found::Kept(encoding) => Some(encoding),
        Found::Twin { of } => encoding(found, of)?.slot().map(Encoding::Same),
        Found::New { .. } => None,
    }
}
