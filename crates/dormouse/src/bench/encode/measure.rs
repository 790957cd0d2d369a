//! Runs one encoder over a process: bytes, times, and whether every page comes back.

use std::time::{Duration, Instant};

use pages::{
    BASE_PAGES_PER_GROUP, PAGE_SIZE, Page, PatchDecoder, PatchEncoder, PatchGroup, Piece, Relocation,
};
use report::encode::EncodeResult;

use super::encoder::{Encoder, Group, Scope, Zstd};
use super::memory::Image;
use super::pairing::Pairing;
use crate::bench::error::BenchError;

/// What a store keeps to find a piece again: where it lies, how long it is, which base group it needs.
pub(super) const PIECE_BYTES: u64 = 16;

/// The process, its base, and the base as a store would keep it.
pub(super) struct Measuring<'a> {
    target: &'a Image,
    base: &'a Image,
    pairing: &'a Pairing,
    base_groups: Vec<Piece>,
    unmoved: Relocation,
}

/// Sums over all groups.
#[derive(Default)]
struct Sums {
    kept_bytes: u64,
    pages: u64,
    encode: Duration,
    decode: Duration,
}

impl<'a> Measuring<'a> {
    /// Compresses the base.
    pub(super) fn new(target: &'a Image, base: &'a Image, pairing: &'a Pairing) -> Option<Measuring<'a>> {
        let mut encoder = PatchEncoder::new()?;
        let groups = base
            .pages
            .chunks(BASE_PAGES_PER_GROUP)
            .map(|group| encoder.encode_base(group.as_flattened()).ok());
        let base_groups = groups.collect::<Option<_>>()?;
        Some(Measuring { target, base, pairing, base_groups, unmoved: Relocation::none() })
    }

    /// What the base process costs, kept as base pages.
    pub(super) fn base_bytes(&self) -> u64 {
        bytes_of(&self.base_groups)
    }

    /// One encoder over everything in its scope, as often as asked; the shortest times count.
    pub(super) fn measure(
        &self,
        name: &str,
        encoder: &mut dyn Encoder,
        rounds: u64,
    ) -> Result<EncodeResult, BenchError> {
        let groups = self.groups(encoder.scope());
        let wrong =
            || BenchError::Ours { doing: "decode what was encoded", said: format!("{name} is wrong") };
        let mut best = Sums { encode: Duration::MAX, decode: Duration::MAX, ..Sums::default() };
        for _ in 0..rounds {
            let sums = self.round(encoder, &groups).ok_or_else(wrong)?;
            best =
                Sums { encode: sums.encode.min(best.encode), decode: sums.decode.min(best.decode), ..sums };
        }
        let speed = |took: Duration| (best.pages * PAGE_SIZE as u64) as f64 / took.as_secs_f64().max(1e-9);
        Ok(EncodeResult {
            encoder: name.to_owned(),
            kept_bytes: best.kept_bytes + self.pairing.relocation.to_bytes().len() as u64,
            has_base: !matches!(encoder.scope(), Scope::All(_)),
            encode_bytes_per_s: speed(best.encode),
            decode_bytes_per_s: speed(best.decode),
        })
    }

    fn groups(&self, scope: Scope) -> Vec<PatchGroup> {
        let all: Vec<usize> = (0..self.target.pages.len()).collect();
        let alone = |pages: &[usize]| PatchGroup { base: None, pages: pages.to_vec() };
        match scope {
            Scope::All(most) => all.chunks(most).map(alone).collect(),
            Scope::Rest(most) => self.pairing.rest.chunks(most).map(alone).collect(),
            Scope::Patch => self.pairing.groups.clone(),
        }
    }

    fn round(&self, encoder: &mut dyn Encoder, groups: &[PatchGroup]) -> Option<Sums> {
        let mut decoder = PatchDecoder::new()?;
        let mut sums = Sums::default();
        for group in groups {
            let pages: Vec<Page> = group.pages.iter().map(|&page| self.target.pages[page]).collect();
            let places = self.places(group);
            let number = group.base.map(|base| base.1 as usize);
            let base =
                number.and_then(|n| self.base.pages.chunks(BASE_PAGES_PER_GROUP).nth(n)).unwrap_or_default();
            let relocation = if number.is_some() { &self.pairing.relocation } else { &self.unmoved };
            let filled = Group { pages: &pages, base, places: &places, relocation };

            let started = Instant::now();
            let pieces = encoder.encode(&filled)?;
            sums.encode += started.elapsed();
            sums.kept_bytes += bytes_of(&pieces) + pages.len() as u64;
            sums.pages += pages.len() as u64;

            let mut decoded = vec![[0; PAGE_SIZE]; pages.len()];
            let started = Instant::now();
            let unpacked =
                number.map_or(Some(Vec::new()), |n| unpack(&mut decoder, self.base_groups.get(n)?))?;
            let empty = Group { pages: &[], base: &unpacked, places: &places, relocation };
            encoder.decode(&pieces, &empty, &mut decoded)?;
            sums.decode += started.elapsed();
            if decoded != pages {
                return None;
            }
        }
        Some(sums)
    }

    /// For each page of a group, its base page in the base group.
    fn places(&self, group: &PatchGroup) -> Vec<Option<usize>> {
        let place =
            |page: &usize| self.pairing.bases[*page].map(|base| base.page as usize % BASE_PAGES_PER_GROUP);
        group.pages.iter().map(place).collect()
    }

    /// Groups of patches that are larger than the same pages one by one, and by how many bytes in all.
    pub(super) fn worse_than_page_by_page(&self) -> Option<(u64, u64)> {
        let mut ours = super::encoder::Patch::new(true)?;
        let mut alone = Zstd::new(Scope::Rest(1))?;
        let (mut worse_groups, mut worse_bytes) = (0, 0);
        for group in &self.pairing.groups {
            let pages: Vec<Page> = group.pages.iter().map(|&page| self.target.pages[page]).collect();
            let number = group.base.map(|base| base.1 as usize);
            let base =
                number.and_then(|n| self.base.pages.chunks(BASE_PAGES_PER_GROUP).nth(n)).unwrap_or_default();
            let filled = |pages| Group { pages, base, places: &[], relocation: &self.pairing.relocation };
            let patch = content_bytes(&ours.encode(&filled(&pages))?);
            let mut singles = 0;
            for page in &pages {
                singles +=
                    content_bytes(&alone.encode(&filled(std::slice::from_ref(page)))?).min(PAGE_SIZE as u64);
            }
            worse_groups += u64::from(patch > singles);
            worse_bytes += patch.saturating_sub(singles);
        }
        Some((worse_groups, worse_bytes))
    }
}

fn unpack(decoder: &mut PatchDecoder, group: &Piece) -> Option<Vec<Page>> {
    let mut base = vec![[0; PAGE_SIZE]; group.pages.len()];
    decoder.decode(group.form, &group.bytes, &[], base.as_flattened_mut()).ok()?;
    Some(base)
}

fn content_bytes(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.bytes.len() as u64).sum()
}

fn bytes_of(pieces: &[Piece]) -> u64 {
    content_bytes(pieces) + pieces.len() as u64 * PIECE_BYTES
}
