//! Pages to patches.

use std::ops::Range;

use zstd::zstd_safe::CCtx;

use super::{BASE_PAGES_PER_GROUP, Form, PATCH_PAGES_PER_GROUP, PatchError, check_pages, packed_bytes_max};
use crate::{PAGE_SIZE, PAGES_PER_GROUP};

/// As for pages without a base: decision 0007 has sizes and speeds of others.
const ZSTD_LEVEL: i32 = 3;

/// A patch that keeps more than a quarter of its pages is compared with other ways to keep them. Below that, none of
/// them is smaller but by chance and by some bytes, and trying them takes twice as long as the patch.
const DOUBTFUL_SHARE: usize = 4;

/// Bytes to keep for some of the pages that were encoded together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which of the pages, counted from 0.
    pub pages: Range<usize>,
    /// How the bytes were made.
    pub form: Form,
    /// The bytes.
    pub bytes: Box<[u8]>,
}

/// Encodes pages against base pages. Costly to make, about a megabyte; a thread keeps one.
pub struct PatchEncoder {
    zstd: CCtx<'static>,
    packed: Box<[u8]>,
}

impl PatchEncoder {
    /// An encoder. `None` if there is no memory for it.
    pub fn new() -> Option<Self> {
        Some(Self { zstd: CCtx::try_create()?, packed: vec![0; packed_bytes_max()].into() })
    }

    /// Encodes 1 to 8 pages against a group of 1 to 8 relocated base pages. Almost always that gives one piece; where
    /// the pages are smaller one by one, a piece for each. Never more bytes than the pages themselves, and where a
    /// piece keeps more than a quarter of its pages, never more than zstd page by page.
    pub fn encode(&mut self, base: &[u8], pages: &[u8]) -> Result<Vec<Piece>, PatchError> {
        check_pages(base, BASE_PAGES_PER_GROUP)?;
        check_pages(pages, PATCH_PAGES_PER_GROUP)?;
        let patch = self.pack(Form::Patch, base, pages, 0);
        if patch.bytes.len() <= pages.len() / DOUBTFUL_SHARE {
            return Ok(vec![patch]);
        }
        Ok(self.smaller(patch, pages))
    }

    /// Encodes 1 to 8 base pages, to be kept as one group: as the store keeps them.
    pub fn encode_base(&mut self, base: &[u8]) -> Result<Piece, PatchError> {
        check_pages(base, BASE_PAGES_PER_GROUP)?;
        Ok(self.pack(Form::Alone, &[], base, 0))
    }

    /// Encodes 1 to 16 pages that have no base: groups may be larger, as no base is decoded with them.
    pub fn encode_alone(&mut self, pages: &[u8]) -> Result<Vec<Piece>, PatchError> {
        check_pages(pages, PAGES_PER_GROUP)?;
        let together = self.pack(Form::Alone, &[], pages, 0);
        Ok(self.smaller(together, pages))
    }

    /// `together`, or what is smaller: the same pages without a base, or one by one.
    fn smaller(&mut self, together: Piece, pages: &[u8]) -> Vec<Piece> {
        let mut best = together;
        if best.form != Form::Alone {
            let alone = self.pack(Form::Alone, &[], pages, 0);
            if alone.bytes.len() < best.bytes.len() {
                best = alone;
            }
        }
        let single = |(nth, page)| self.pack(Form::Alone, &[], page, nth);
        let singles: Vec<Piece> = pages.chunks(PAGE_SIZE).enumerate().map(single).collect();
        let singles_bytes: usize = singles.iter().map(|piece| piece.bytes.len()).sum();
        if singles_bytes < best.bytes.len() { singles } else { vec![best] }
    }

    /// What zstd makes of `pages` with the text `before` them, or the pages themselves, whichever is smaller.
    fn pack(&mut self, form: Form, before: &[u8], pages: &[u8], first_page: usize) -> Piece {
        let range = first_page..first_page + pages.len() / PAGE_SIZE;
        // What zstd refuses (a base that happens to look like a trained dictionary) is kept another way.
        match self.zstd.compress_using_dict(&mut *self.packed, pages, before, ZSTD_LEVEL) {
            Ok(len) if len < pages.len() => Piece { pages: range, form, bytes: self.packed[..len].into() },
            _ => Piece { pages: range, form: Form::Whole, bytes: pages.into() },
        }
    }
}
