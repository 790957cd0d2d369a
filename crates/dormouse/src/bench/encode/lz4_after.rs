//! A rival: LZ4 with the relocated base pages before the pages. It finds the same copies as zstd and writes them out
//! plainly: larger, and quicker to decode.

use pages::{Form, Page, Piece};

use super::encoder::{Encoder, Group, Scope, whole_piece};

/// LZ4 after relocated base pages.
pub(super) struct Lz4After;

impl Encoder for Lz4After {
    fn scope(&self) -> Scope {
        Scope::Patch
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        let base = group.relocated();
        let bytes = lz4_flex::block::compress_with_dict(group.pages.as_flattened(), base.as_flattened());
        Some(whole_piece(group.pages.len(), Form::Patch, bytes))
    }

    fn decode(&mut self, pieces: &[Piece], group: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        let (base, bytes) = (group.relocated(), &pieces.first()?.bytes);
        let decoded =
            lz4_flex::block::decompress_into_with_dict(bytes, pages.as_flattened_mut(), base.as_flattened());
        decoded.ok().map(drop)
    }
}
