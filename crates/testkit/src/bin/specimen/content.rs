//! What the specimens keep in their memory: bytes that follow from a seed, so that a twin that never slept can
//! say what they must be.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 4096;

/// The next number after `x`; neighbours have nothing in common (splitmix64).
pub(crate) fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Fills `bytes` page by page, with pages of four sorts in turn: incompressible, text, the same everywhere, and
/// nearly empty. So each way to keep a page gets its share.
pub(crate) fn fill(bytes: &mut [u8], seed: u64) {
    for (page, index) in bytes.chunks_mut(PAGE_BYTES).zip(0u64..) {
        match index % 4 {
            0 => noise(page, mix(seed ^ index)),
            1 => text(page, seed, index),
            2 => noise(page, 0x5eed),
            _ => few(page, mix(seed ^ index)),
        }
    }
}

/// Changes some pages: one byte here, the whole page there, some to zeros. Most stay.
pub(crate) fn mutate(bytes: &mut [u8], seed: u64) {
    for (page, index) in bytes.chunks_mut(PAGE_BYTES).zip(0u64..) {
        let draw = mix(seed ^ index.rotate_left(32));
        match draw % 8 {
            0 => page[(draw >> 8) as usize % page.len()] ^= 0xff,
            1 => noise(page, draw),
            2 => page.fill(0),
            _ => {}
        }
    }
}

/// A hash of `bytes`.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// One hash from several, order included.
pub(crate) fn combine(sums: impl IntoIterator<Item = u64>) -> u64 {
    sums.into_iter().fold(0, |all, sum| mix(all ^ sum))
}

/// Whether every byte is zero.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn noise(page: &mut [u8], seed: u64) {
    let mut draw = seed;
    for word in page.chunks_mut(8) {
        draw = mix(draw);
        word.copy_from_slice(&draw.to_le_bytes()[..word.len()]);
    }
}

fn text(page: &mut [u8], seed: u64, index: u64) {
    let line = format!("page {index} of seed {seed}: the quick brown fox jumps over the lazy dormouse\n");
    for (byte, letter) in page.iter_mut().zip(line.bytes().cycle()) {
        *byte = letter;
    }
}

fn few(page: &mut [u8], draw: u64) {
    page.fill(0);
    page[draw as usize % page.len()] = 1 + (draw >> 32) as u8 % 255;
}
