//! A rival: a zstd dictionary that was trained on the base process. Small, always at hand, and nothing of the base is
//! decoded; but it holds what is frequent, not what is equal.

use pages::{Form, Page, Piece};
use zstd::bulk::{Compressor, Decompressor};

use super::encoder::{Encoder, Group, Scope, whole_piece};

/// What zstd's own tool makes.
const DICTIONARY_BYTES: usize = 110 << 10;
/// Training takes long, so it gets a part of the pages, evenly drawn.
const SAMPLES_MAX: usize = 4000;
const ZSTD_LEVEL: i32 = 3;

/// zstd with a trained dictionary, 16 pages together.
pub(super) struct Dictionary {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

impl Dictionary {
    /// Trains on the pages of a base process.
    pub(super) fn train(base: &[Page]) -> Option<Dictionary> {
        let step = base.len().div_ceil(SAMPLES_MAX).max(1);
        let samples: Vec<&Page> = base.iter().step_by(step).collect();
        let dictionary = zstd::dict::from_samples(&samples, DICTIONARY_BYTES).ok()?;
        let compressor = Compressor::with_dictionary(ZSTD_LEVEL, &dictionary).ok()?;
        Some(Dictionary { compressor, decompressor: Decompressor::with_dictionary(&dictionary).ok()? })
    }
}

impl Encoder for Dictionary {
    fn scope(&self) -> Scope {
        Scope::Rest(16)
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        let bytes = self.compressor.compress(group.pages.as_flattened()).ok()?;
        Some(whole_piece(group.pages.len(), Form::Alone, bytes))
    }

    fn decode(&mut self, pieces: &[Piece], _: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        let into = pages.as_flattened_mut();
        self.decompressor.decompress_to_buffer(&pieces.first()?.bytes, into).ok().map(drop)
    }
}
