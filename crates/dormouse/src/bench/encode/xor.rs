//! A rival: a page xor its base page is mostly zeros, and those compress.

use pages::{Form, Page, Piece};

use super::encoder::{Encoder, Group, Scope, whole_piece};
use super::packer::Packer;

/// Xor, then LZ4 or zstd over the group.
pub(super) struct Xor {
    packer: Option<Packer>,
}

impl Xor {
    /// With zstd.
    pub(super) fn zstd() -> Option<Xor> {
        Some(Xor { packer: Some(Packer::new()?) })
    }

    /// With LZ4.
    pub(super) fn lz4() -> Option<Xor> {
        Some(Xor { packer: None })
    }
}

impl Encoder for Xor {
    fn scope(&self) -> Scope {
        Scope::Patch
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        let mut pages = group.pages.to_vec();
        fold(&mut pages, group);
        let bytes = match &mut self.packer {
            Some(packer) => packer.pack(pages.as_flattened())?,
            None => lz4_flex::block::compress(pages.as_flattened()),
        };
        Some(whole_piece(pages.len(), Form::Patch, bytes))
    }

    fn decode(&mut self, pieces: &[Piece], group: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        let bytes = &pieces.first()?.bytes;
        match &mut self.packer {
            Some(packer) => packer.unpack_into(bytes, pages.as_flattened_mut())?,
            None => {
                lz4_flex::block::decompress_into(bytes, pages.as_flattened_mut()).ok()?;
            }
        }
        fold(pages, group);
        Some(())
    }
}

/// Each page xor its base page; doing it twice changes nothing.
fn fold(pages: &mut [Page], group: &Group<'_>) {
    for (page, place) in pages.iter_mut().zip(group.places) {
        if let Some(place) = place {
            page.iter_mut().zip(&group.base[*place]).for_each(|(byte, base)| *byte ^= base);
        }
    }
}
