//! Groups of pages to bytes and back. Which pages go together is decided by the store.

use std::sync::Arc;

use crate::page_id::Page;
use crate::patch::{PatchDecoder, PatchEncoder};
use crate::store::PAGES_PER_GROUP;
use crate::{BASE_PAGES_PER_GROUP, Form, Heat, PAGE_SIZE, PackedRelocation, Relocation};

/// Bytes in the largest group: what is decoded to read one page, at most.
pub(crate) const GROUP_BYTES_MAX: usize = PAGES_PER_GROUP * PAGE_SIZE;

/// The level where zstd is still quicker than a core reads a sleeping process, and near its best for 64 KiB.
const ZSTD_LEVEL: i32 = 3;

/// How the bytes of a group were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Codec {
    /// The pages themselves, one behind the other.
    Whole,
    /// One LZ4 block.
    Lz4,
    /// One zstd frame.
    Zstd,
    /// One zstd frame that begins where the pages of a base group end.
    Patch,
}

impl Codec {
    pub(crate) fn for_heat(heat: Heat) -> Self {
        match heat {
            Heat::Hot => Self::Lz4,
            Heat::Cold => Self::Zstd,
        }
    }
}

/// The bytes are not what the codec made of that many pages.
#[derive(Debug)]
pub(crate) struct Undecodable;

/// Room to decode in. A thread that fills keeps one and decodes every job in it.
pub struct Scratch {
    decoded: Box<[u8]>,
    /// For pages that go out in another order than they lie in their group.
    pub(crate) gathered: Box<[u8]>,
    /// Base pages of a patch.
    base: Box<[u8]>,
    /// The relocation that was used last, ready for use: all patches of a process have the same, and to expand it
    /// takes as long as to decode some groups.
    relocation: Option<(Arc<PackedRelocation>, Relocation)>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    patches: Option<PatchDecoder>,
}

impl Scratch {
    /// Room for one group.
    pub fn new() -> Self {
        let room = || vec![0; GROUP_BYTES_MAX].into_boxed_slice();
        let base = vec![0; BASE_PAGES_PER_GROUP * PAGE_SIZE].into_boxed_slice();
        Self { decoded: room(), gathered: room(), base, relocation: None, zstd: None, patches: None }
    }

    /// Decodes a base group of `pages` pages for `decode_patch`, with its pointers where they point to in the process
    /// of the patch.
    pub(crate) fn decode_base(
        &mut self,
        codec: Codec,
        blob: &[u8],
        pages: usize,
        relocation: &Arc<PackedRelocation>,
    ) -> Result<(), Undecodable> {
        self.expand(relocation)?;
        self.decode_raw_base(codec, blob, pages)?;
        if let (Some((_, relocation)), Some(room)) =
            (&self.relocation, self.base.get_mut(..pages * PAGE_SIZE))
        {
            relocation.apply(room);
        }
        Ok(())
    }

    /// The same, with its pointers as they are.
    pub(crate) fn decode_raw_base(
        &mut self,
        codec: Codec,
        blob: &[u8],
        pages: usize,
    ) -> Result<(), Undecodable> {
        let room = self.base.get_mut(..pages * PAGE_SIZE).ok_or(Undecodable)?;
        match codec {
            Codec::Whole if blob.len() == room.len() => room.copy_from_slice(blob),
            Codec::Whole | Codec::Patch => return Err(Undecodable),
            Codec::Lz4 | Codec::Zstd => {
                if decode_into(&mut self.zstd, codec, blob, room)? != room.len() {
                    return Err(Undecodable);
                }
            }
        }
        Ok(())
    }

    /// The pages of the base group that was decoded last, and room to gather pages.
    pub(crate) fn base(&mut self, pages: usize) -> Result<(&[Page], &mut [u8]), Undecodable> {
        let base = self.base.get(..pages * PAGE_SIZE).ok_or(Undecodable)?;
        Ok((base.as_chunks().0, &mut self.gathered))
    }

    /// Makes a relocation the one that is ready for use.
    fn expand(&mut self, packed: &Arc<PackedRelocation>) -> Result<(), Undecodable> {
        if !self.relocation.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, packed)) {
            let expanded = packed.expand().map_err(|_| Undecodable)?;
            self.relocation = Some((Arc::clone(packed), expanded));
        }
        Ok(())
    }

    /// Drops the relocation that was used last: it may take megabytes.
    pub(crate) fn forget_relocation(&mut self) {
        self.relocation = None;
    }

    /// The content of a patch group of `pages` pages against the `base_pages` pages that were decoded last.
    pub(crate) fn decode_patch(
        &mut self,
        blob: &[u8],
        base_pages: usize,
        pages: usize,
    ) -> Result<(&[Page], &mut [u8]), Undecodable> {
        let patches = match &mut self.patches {
            Some(patches) => patches,
            none => none.insert(PatchDecoder::new().ok_or(Undecodable)?),
        };
        let base = self.base.get(..base_pages * PAGE_SIZE).ok_or(Undecodable)?;
        let into = self.decoded.get_mut(..pages * PAGE_SIZE).ok_or(Undecodable)?;
        patches.decode(Form::Patch, blob, base, into).map_err(|_| Undecodable)?;
        Ok((into.as_chunks().0, &mut self.gathered))
    }

    /// The content of a group of `pages` pages, and room to reorder it. Whole pages come without a copy.
    pub(crate) fn decode<'a>(
        &'a mut self,
        codec: Codec,
        blob: &'a [u8],
        pages: usize,
    ) -> Result<(&'a [Page], &'a mut [u8]), Undecodable> {
        let len = pages * PAGE_SIZE;
        let content = match codec {
            Codec::Whole => blob,
            Codec::Patch => return Err(Undecodable), // Its base is missing.
            Codec::Lz4 | Codec::Zstd => {
                let into = self.decoded.get_mut(..len).ok_or(Undecodable)?;
                if decode_into(&mut self.zstd, codec, blob, into)? != len {
                    return Err(Undecodable);
                }
                into
            }
        };
        match content.as_chunks() {
            (content, []) if content.len() == pages => Ok((content, &mut self.gathered)),
            _ => Err(Undecodable),
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

fn decode_into(
    zstd: &mut Option<zstd::bulk::Decompressor<'static>>,
    codec: Codec,
    blob: &[u8],
    into: &mut [u8],
) -> Result<usize, Undecodable> {
    if codec == Codec::Lz4 {
        return lz4_flex::block::decompress_into(blob, into).map_err(|_| Undecodable);
    }
    let zstd = match zstd {
        Some(zstd) => zstd,
        None => zstd.insert(zstd::bulk::Decompressor::new().map_err(|_| Undecodable)?),
    };
    zstd.decompress_to_buffer(blob, into).map_err(|_| Undecodable)
}

/// Room and contexts to compress with; costly to make, so a store keeps a few.
pub(crate) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    patches: Option<PatchEncoder>,
    packed: Box<[u8]>,
    /// To decode again what was compressed.
    pub(crate) scratch: Scratch,
}

impl Encoder {
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        // The group knows how long its content is: the frame need not say it.
        zstd.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(false))?;
        let room = lz4_flex::block::get_maximum_output_size(GROUP_BYTES_MAX);
        Ok(Self { zstd, patches: None, packed: vec![0; room].into_boxed_slice(), scratch: Scratch::new() })
    }

    /// `content` as a patch against the `base_pages` pages that the scratch decoded last; `None` where that is not the
    /// smallest way to keep it.
    pub(crate) fn patch(&mut self, base_pages: usize, content: &[u8]) -> Option<Box<[u8]>> {
        let patches = match &mut self.patches {
            Some(patches) => patches,
            none => none.insert(PatchEncoder::new()?),
        };
        let base = self.scratch.base.get(..base_pages * PAGE_SIZE)?;
        let mut pieces = patches.encode(base, content).ok()?;
        let piece = pieces.pop().filter(|piece| pieces.is_empty() && piece.form == Form::Patch)?;
        Some(piece.bytes)
    }

    /// `content` compressed, if that saves a sixteenth of it: less is not worth decoding at every wake.
    pub(crate) fn pack(&mut self, codec: Codec, content: &[u8]) -> Option<&[u8]> {
        let len = match codec {
            Codec::Whole | Codec::Patch => return None,
            Codec::Lz4 => lz4_flex::block::compress_into(content, &mut self.packed).ok()?,
            Codec::Zstd => self.zstd.compress_to_buffer(content, &mut *self.packed).ok()?,
        };
        (len <= content.len() / 16 * 15).then_some(&self.packed[..len])
    }

    /// Whether a page is as good as random, so that compressing it with others would only spoil their statistics.
    /// Counting bytes clears almost every page at once; for the rest, LZ4 has to find a repetition.
    pub(crate) fn is_incompressible(&mut self, page: &Page) -> bool {
        looks_random(page) && self.pack(Codec::Lz4, page).is_none()
    }
}

/// Whether all 256 byte values occur about equally often, judged by a quarter of the bytes. The sum of the squared
/// counts is 5 116 ± 90 in random pages, and far above wherever zeros, letters or pointers are common.
fn looks_random(page: &Page) -> bool {
    const SUM_OF_SQUARES_MAX: u32 = 6_000;
    let mut counts = [[0u16; 256]; 4]; // Four tables, so that equal neighbours do not wait for each other.
    for block in page.as_chunks::<16>().0 {
        for (count, at) in counts.iter_mut().zip([0, 5, 10, 15]) {
            count[usize::from(block[at])] += 1; // Every place of a word comes up, whatever is kept there.
        }
    }
    let square = |value: usize| counts.iter().map(|count| u32::from(count[value])).sum::<u32>().pow(2);
    (0..256).map(square).sum::<u32>() < SUM_OF_SQUARES_MAX
}
