//! Who pays for what the store holds. A page that several manifests refer to is paid by each in proportion to
//! its references, so that the shares of all manifests add up to what there is.

use super::Store;
use crate::codec::Codec;
use crate::{Arena, Manifest};

/// The part of a store that one manifest pays for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreShare {
    /// Its part of pages that other manifests have too.
    pub identical_bytes: u64,
    /// Patches of its own, and their part of the base pages.
    pub patched_bytes: u64,
    /// Pages of its own, compressed.
    pub packed_bytes: u64,
    /// Pages of its own, kept whole.
    pub whole_bytes: u64,
    /// Its part of the store's tables, and of the relocations of its patches.
    pub table_bytes: u64,
}

impl<A: Arena> Store<A> {
    /// What `manifest` pays for now. It changes whenever another manifest comes or goes.
    pub fn share(&self, manifest: &Manifest) -> StoreShare {
        let mut slots: Vec<_> = manifest.slots().collect();
        slots.sort_unstable();
        let (mut identical, mut patched, mut packed, mut whole) = (0.0, 0.0, 0.0, 0.0);
        let (mut pages, mut relocations) = (0.0, 0.0);
        let tables = self.tables();
        for same in slots.chunk_by(|a, b| a == b) {
            let Some((kept, group)) = tables.find(same[0]) else { continue };
            let (own_refs, refs) = (same.len() as u32, kept.refs.get());
            let part = f64::from(own_refs) / f64::from(refs);
            pages += part;
            // References of one manifest alone make a page its own, however many they are.
            let whose = match group.codec {
                _ if own_refs < refs => &mut identical,
                Codec::Patch => &mut patched,
                Codec::Whole => &mut whole,
                Codec::Lz4 | Codec::Zstd => &mut packed,
            };
            *whose += tables.page_bytes(kept) * part;
            relocations += tables.relocation_bytes(kept) * part;
        }
        let common = tables.common_bytes() as f64 * pages / (tables.pages().max(1) as f64);
        let [identical_bytes, patched_bytes, packed_bytes, whole_bytes, table_bytes] =
            [identical, patched, packed, whole, common + relocations].map(|bytes| bytes.round() as u64);
        StoreShare { identical_bytes, patched_bytes, packed_bytes, whole_bytes, table_bytes }
    }
}
