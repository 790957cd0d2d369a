//! Who pays for what the store holds. A page that several manifests refer to is paid by each in proportion to
//! its references, so that the shares of all manifests add up to what there is.

use std::collections::HashMap;

use super::Store;
use crate::codec::Codec;
use crate::{Arena, Manifest};

/// The part of a store that one manifest pays for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreShare {
    /// Its part of pages that other manifests have too.
    pub identical_bytes: u64,
    /// Pages of its own, compressed.
    pub packed_bytes: u64,
    /// Pages of its own, kept whole.
    pub whole_bytes: u64,
    /// Its part of the store's tables.
    pub table_bytes: u64,
}

impl<A: Arena> Store<A> {
    /// What `manifest` pays for now. It changes whenever another manifest comes or goes.
    pub fn share(&self, manifest: &Manifest) -> StoreShare {
        let (mut identical, mut packed, mut whole, mut pages) = (0.0, 0.0, 0.0, 0.0);
        let tables = self.tables();
        let mut several = HashMap::new();
        for slot in manifest.slots() {
            let Some((kept, group)) = tables.find(slot) else { continue };
            if kept.refs.get() > 1 {
                *several.entry(slot).or_insert(0u32) += 1;
                continue;
            }
            pages += 1.0;
            let own = if group.codec == Codec::Whole { &mut whole } else { &mut packed };
            *own += tables.page_bytes(kept);
        }
        for (slot, refs) in several {
            let Some((kept, group)) = tables.find(slot) else { continue };
            let part = f64::from(refs) / f64::from(kept.refs.get());
            pages += part;
            // References from the same manifest alone make a page its own, however many they are.
            let whose = match group.codec {
                _ if refs < kept.refs.get() => &mut identical,
                Codec::Whole => &mut whole,
                Codec::Lz4 | Codec::Zstd => &mut packed,
            };
            *whose += tables.page_bytes(kept) * part;
        }
        let table_bytes = tables.heap_bytes() as f64 * pages / (tables.pages().max(1) as f64);
        let [identical_bytes, packed_bytes, whole_bytes, table_bytes] =
            [identical, packed, whole, table_bytes].map(|bytes| bytes.round() as u64);
        StoreShare { identical_bytes, packed_bytes, whole_bytes, table_bytes }
    }
}
