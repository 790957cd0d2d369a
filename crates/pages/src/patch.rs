//! Patches: pages kept as what tells them apart from base pages.
//!
//! Pages of one process are encoded against a group of base pages of another process of the same program, up to
//! eight against up to eight. The base pages are first relocated ([`Relocation`](crate::Relocation)), so that
//! pointers point to where they would in the process that sleeps; then they serve zstd as the text before the
//! pages. It finds what is equal at any offset, and keeps the rest well. `docs/decisions/0007-patches.md` has the
//! rivals and the figures.
//!
//! To read one page, its patch group (32 KiB) and one base group (32 KiB) are decoded, never more.
//!
//! Patches carry no checksum and know no pages: whoever keeps them checks each page that comes out. The bytes of a
//! patch, or the base pages, may be anything; decoding then gives an error or other pages, within the same bounds.

mod encode;
mod group;
#[cfg(test)]
mod tests;

pub use encode::{PatchEncoder, Piece};
pub use group::{PatchGroup, group_by_base};

use zstd::zstd_safe::{self, DCtx};

use crate::PAGE_SIZE;

/// Base pages that are compressed together.
pub const BASE_PAGES_PER_GROUP: usize = 8;

/// Pages that are encoded together against one group of base pages.
pub const PATCH_PAGES_PER_GROUP: usize = 8;

/// What is decoded to read one page, at most.
const DECODED_BYTES_MAX: usize = 64 << 10;

const _: () = assert!((BASE_PAGES_PER_GROUP + PATCH_PAGES_PER_GROUP) * PAGE_SIZE <= DECODED_BYTES_MAX);

/// How the bytes of a piece were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Against base pages.
    Patch,
    /// With zstd, without base pages.
    Alone,
    /// The pages themselves.
    Whole,
}

/// Pages could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The caller gave half a page, or too many.
    #[error("{len_bytes} bytes are not 1 to {pages_max} whole pages")]
    NotPages {
        /// What was given.
        len_bytes: usize,
        /// How many pages were allowed.
        pages_max: usize,
    },
    /// The bytes do not decode to as many pages as there should be.
    #[error("the patch does not decode to {pages} pages")]
    Undecodable {
        /// How many there should be.
        pages: usize,
    },
}

/// Decodes patches. Costly to make, about 150 KiB; a thread keeps one.
pub struct PatchDecoder {
    zstd: DCtx<'static>,
}

impl PatchDecoder {
    /// A decoder. `None` if there is no memory for it.
    pub fn new() -> Option<Self> {
        Some(Self { zstd: DCtx::try_create()? })
    }

    /// Decodes `bytes` into `pages`, which is as long as all of the piece's pages. `base` is the same relocated base
    /// group as when they were encoded; it matters for [`Form::Patch`] only.
    pub fn decode(
        &mut self,
        form: Form,
        bytes: &[u8],
        base: &[u8],
        pages: &mut [u8],
    ) -> Result<(), PatchError> {
        let undecodable = PatchError::Undecodable { pages: pages.len() / PAGE_SIZE };
        if form == Form::Whole {
            if bytes.len() != pages.len() {
                return Err(undecodable);
            }
            pages.copy_from_slice(bytes);
            return Ok(());
        }
        let base = if form == Form::Patch { base } else { &[] };
        match self.zstd.decompress_using_dict(pages, bytes, base) {
            Ok(len) if len == pages.len() => Ok(()),
            _ => Err(undecodable),
        }
    }
}

/// Whether `content` is 1 to `pages_max` whole pages.
fn check_pages(content: &[u8], pages_max: usize) -> Result<(), PatchError> {
    let pages = content.len() / PAGE_SIZE;
    match content.len().is_multiple_of(PAGE_SIZE) && (1..=pages_max).contains(&pages) {
        true => Ok(()),
        false => Err(PatchError::NotPages { len_bytes: content.len(), pages_max }),
    }
}

/// The most that zstd makes of a group.
fn packed_bytes_max() -> usize {
    zstd_safe::compress_bound(PATCH_PAGES_PER_GROUP.max(crate::PAGES_PER_GROUP) * PAGE_SIZE)
}
