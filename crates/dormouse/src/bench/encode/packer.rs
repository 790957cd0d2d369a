//! zstd with contexts that are made once, for the rivals.

use zstd::bulk::{Compressor, Decompressor};

/// The level of the store.
const ZSTD_LEVEL: i32 = 3;

/// More than any rival makes of a group.
const UNPACKED_BYTES_MAX: usize = 256 << 10;

/// Compresses and decompresses.
pub(super) struct Packer {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

impl Packer {
    pub(super) fn new() -> Option<Packer> {
        Some(Packer {
            compressor: Compressor::new(ZSTD_LEVEL).ok()?,
            decompressor: Decompressor::new().ok()?,
        })
    }

    pub(super) fn pack(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.compressor.compress(bytes).ok()
    }

    pub(super) fn unpack(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.decompressor.decompress(bytes, UNPACKED_BYTES_MAX).ok()
    }

    pub(super) fn unpack_into(&mut self, bytes: &[u8], into: &mut [u8]) -> Option<()> {
        let len = self.decompressor.decompress_to_buffer(bytes, into).ok()?;
        (len == into.len()).then_some(())
    }
}
