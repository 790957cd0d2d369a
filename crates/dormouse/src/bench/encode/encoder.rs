//! What is compared: ways to make bytes of a group of pages, with or without base pages.

use pages::{Form, PAGE_SIZE, Page, PatchDecoder, PatchEncoder, Piece, Relocation};

/// Which pages an encoder gets, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every page, so many in a group: nothing is shared with the base process.
    All(usize),
    /// Those that are not identical to a page of the base process.
    Rest(usize),
    /// The same, with a group of base pages.
    Patch,
}

/// One group.
pub(super) struct Group<'a> {
    /// The pages.
    pub(super) pages: &'a [Page],
    /// The base group, as it is in the base process; empty where there is none.
    pub(super) base: &'a [Page],
    /// For each page, its base page in the group.
    pub(super) places: &'a [Option<usize>],
    /// From the base process to this one.
    pub(super) relocation: &'a Relocation,
}

impl Group<'_> {
    /// The base pages with their pointers relocated.
    pub(super) fn relocated(&self) -> Vec<Page> {
        let mut base = self.base.to_vec();
        self.relocation.apply(base.as_flattened_mut());
        base
    }
}

/// A way to keep pages.
pub(super) trait Encoder {
    /// Which pages it gets.
    fn scope(&self) -> Scope;

    /// The group as bytes, each vector to be kept by itself.
    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>>;

    /// The pages again; `group` has none.
    fn decode(&mut self, pieces: &[Piece], group: &Group<'_>, pages: &mut [Page]) -> Option<()>;
}

/// A piece of all pages of a group.
pub(super) fn whole_piece(pages: usize, form: Form, bytes: Vec<u8>) -> Vec<Piece> {
    vec![Piece { pages: 0..pages, form, bytes: bytes.into() }]
}

/// Pages as they are.
pub(super) struct Nothing;

impl Encoder for Nothing {
    fn scope(&self) -> Scope {
        Scope::Rest(1)
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        Some(whole_piece(group.pages.len(), Form::Whole, group.pages.as_flattened().to_vec()))
    }

    fn decode(&mut self, pieces: &[Piece], _: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        let (bytes, pages) = (&pieces.first()?.bytes, pages.as_flattened_mut());
        (bytes.len() == pages.len()).then(|| pages.copy_from_slice(bytes))
    }
}

/// LZ4, without base pages.
pub(super) struct Lz4(pub(super) Scope);

impl Encoder for Lz4 {
    fn scope(&self) -> Scope {
        self.0
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        let bytes = lz4_flex::block::compress(group.pages.as_flattened());
        Some(whole_piece(group.pages.len(), Form::Alone, bytes))
    }

    fn decode(&mut self, pieces: &[Piece], _: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        lz4_flex::block::decompress_into(&pieces.first()?.bytes, pages.as_flattened_mut()).ok()?;
        Some(())
    }
}

/// zstd, without base pages.
pub(super) struct Zstd {
    scope: Scope,
    packer: super::packer::Packer,
}

impl Zstd {
    pub(super) fn new(scope: Scope) -> Option<Zstd> {
        Some(Zstd { scope, packer: super::packer::Packer::new()? })
    }
}

impl Encoder for Zstd {
    fn scope(&self) -> Scope {
        self.scope
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        let bytes = self.packer.pack(group.pages.as_flattened())?;
        Some(whole_piece(group.pages.len(), Form::Alone, bytes))
    }

    fn decode(&mut self, pieces: &[Piece], _: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        self.packer.unpack_into(&pieces.first()?.bytes, pages.as_flattened_mut())
    }
}

/// What dormouse ships, with or without its relocation.
pub(super) struct Patch {
    encoder: PatchEncoder,
    decoder: PatchDecoder,
    relocates: bool,
}

impl Patch {
    pub(super) fn new(relocates: bool) -> Option<Patch> {
        Some(Patch { encoder: PatchEncoder::new()?, decoder: PatchDecoder::new()?, relocates })
    }

    fn base(&self, group: &Group<'_>) -> Vec<Page> {
        if self.relocates { group.relocated() } else { group.base.to_vec() }
    }
}

impl Encoder for Patch {
    fn scope(&self) -> Scope {
        Scope::Patch
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        if group.base.is_empty() {
            return self.encoder.encode_alone(group.pages.as_flattened()).ok();
        }
        let base = self.base(group);
        self.encoder.encode(base.as_flattened(), group.pages.as_flattened()).ok()
    }

    fn decode(&mut self, pieces: &[Piece], group: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        let base = self.base(group);
        let pages = pages.as_flattened_mut();
        for piece in pieces {
            let into = pages.get_mut(piece.pages.start * PAGE_SIZE..piece.pages.end * PAGE_SIZE)?;
            self.decoder.decode(piece.form, &piece.bytes, base.as_flattened(), into).ok()?;
        }
        Some(())
    }
}
