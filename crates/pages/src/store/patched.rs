//! New pages that are kept as patches: what tells them apart from pages that the store has.

use std::borrow::Cow;
use std::sync::Arc;

use super::Store;
use super::group::{Base, Group};
use super::put::{Found, Like, StoreError, gather};
use super::tables::{Fresh, FreshPage};
use crate::codec::{Codec, Encoder};
use crate::page_id::Page;
use crate::{Arena, Domain, PATCH_PAGES_PER_GROUP};

/// Base groups that stay in the store until this is dropped, by the number of the page that they were found for.
pub(super) struct Held<'a, A: Arena> {
    store: &'a Store<A>,
    bases: Vec<(usize, Base<A>)>,
}

impl<A: Arena> Drop for Held<'_, A> {
    fn drop(&mut self) {
        let mut tables = self.store.tables();
        let unwanted: Vec<_> = self.bases.iter().filter_map(|(_, base)| tables.let_go(base.number)).collect();
        drop(tables); // Freeing may call the kernel, so not under the lock.
        drop(unwanted);
    }
}

impl<A: Arena> Held<'_, A> {
    /// Pages that have the same base group, so many that reading one of them decodes no more than 64 KiB.
    pub(super) fn clusters(&self) -> impl Iterator<Item = (&Base<A>, Vec<usize>)> {
        let mut by_base: Vec<_> = self.bases.iter().map(|(nth, base)| (base.number, *nth, base)).collect();
        by_base.sort_unstable_by_key(|(number, nth, _)| (*number, *nth));
        let mut clusters: Vec<(&Base<A>, Vec<usize>)> = Vec::new();
        for (number, nth, base) in by_base {
            match clusters.last_mut() {
                Some((last, nths)) if last.number == number && nths.len() < PATCH_PAGES_PER_GROUP => {
                    nths.push(nth);
                }
                _ => clusters.push((base, vec![nth])),
            }
        }
        clusters.into_iter()
    }
}

impl<A: Arena> Store<A> {
    /// Finds base groups for pages of a call, by number, and holds them.
    pub(super) fn hold_bases(
        &self,
        domain: &Domain,
        nths: impl Iterator<Item = usize>,
        (codec, like): (Codec, Like<'_>),
    ) -> Held<'_, A> {
        let mut held = Held { store: self, bases: Vec::new() };
        if let Like::Slots(slots, relocation) = like {
            let mut tables = self.tables();
            for (nth, slot) in nths.filter_map(|nth| Some((nth, (*slots.get(nth)?)?))) {
                let base = tables.hold_base(domain, slot, relocation, codec);
                held.bases.extend(base.map(|base| (nth, base)));
            }
        }
        held
    }

    /// Encodes as patches what becomes small that way.
    pub(super) fn encode_patches(
        &self,
        domain: (&Domain, u64),
        pages: &[Page],
        found: &[Found],
        held: &Held<'_, A>,
        encoder: &mut Encoder,
    ) -> Result<Vec<Fresh<A>>, StoreError> {
        let mut fresh = Vec::new();
        for (base, nths) in held.clusters() {
            let members: Vec<FreshPage> =
                nths.iter().filter_map(|&nth| FreshPage::of(nth, found.get(nth)?)).collect();
            fresh.extend(self.encode_patch(domain, pages, members, base, encoder)?);
        }
        Ok(fresh)
    }

    /// `None`: they are smaller some other way.
    pub(super) fn encode_patch(
        &self,
        domain: (&Domain, u64),
        pages: &[Page],
        members: Vec<FreshPage>,
        base: &Base<A>,
        encoder: &mut Encoder,
    ) -> Result<Option<Fresh<A>>, StoreError> {
        let content: Cow<'_, [Page]> = gather(pages, &members);
        if base.group.decode_base(&mut encoder.scratch, &base.relocation).is_err() {
            return Ok(None); // It is damaged: whoever wakes with it will find out.
        }
        let base_pages = usize::from(base.group.pages);
        let Some(bytes) = encoder.patch(base_pages, content.as_flattened()) else { return Ok(None) };
        self.put_group(domain, (Codec::Patch, Some(base.clone())), &content, members, &bytes, encoder)
            .map(Some)
    }

    /// Puts a group into the arena and reads it back.
    pub(super) fn put_group(
        &self,
        domain: (&Domain, u64),
        (codec, base): (Codec, Option<Base<A>>),
        content: &[Page],
        mut members: Vec<FreshPage>,
        bytes: &[u8],
        encoder: &mut Encoder,
    ) -> Result<Fresh<A>, StoreError> {
        let pages = content.len();
        (0..).zip(&mut members).for_each(|(index, page)| page.index = index);
        let put = Group::put(&self.shared, domain, (codec, pages as u8), base, bytes);
        let group = put.map_err(|source| StoreError::Arena { pages, source })?;
        match group.decode(&mut encoder.scratch) {
            Ok((again, _)) if again == content => Ok(Fresh { group: Arc::new(group), pages: members }),
            _ => Err(StoreError::Unfaithful { pages }),
        }
    }
}
