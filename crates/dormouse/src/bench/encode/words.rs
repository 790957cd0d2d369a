//! A rival: word by word. A word is that of the base page, or that plus one of the distances of the group (pointers
//! under address randomisation), or is written out. What is written is then compressed with zstd.
//!
//! ```text
//! distances: u8 | distance: u64 ... | for each page a bit for each word that is equal: 64 bytes
//! | for each other word the number of its distance, 255 for none: u8 ... | words without distance: u64 ...
//! ```

use std::collections::HashMap;

use pages::{Form, PAGE_SIZE, Page, Piece};

use super::encoder::{Encoder, Group, Scope, whole_piece};
use super::packer::Packer;

const DISTANCES_MAX: usize = 254;
const NO_DISTANCE: u8 = 255;
const MASK_BYTES: usize = PAGE_SIZE / 64;

/// Words, with a table of distances or with relocated base pages instead.
pub(super) struct Words {
    packer: Packer,
    relocates: bool,
}

impl Words {
    pub(super) fn new(relocates: bool) -> Option<Words> {
        Some(Words { packer: Packer::new()?, relocates })
    }

    /// The base page of each page; zeros where there is none.
    fn bases(&self, group: &Group<'_>) -> Vec<Page> {
        let base = if self.relocates { group.relocated() } else { group.base.to_vec() };
        group.places.iter().map(|place| place.map_or([0; PAGE_SIZE], |place| base[place])).collect()
    }
}

fn words(pages: &[Page]) -> impl Iterator<Item = u64> {
    pages.as_flattened().as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// Distances that occur more than once, the most frequent first.
fn distances(pages: &[Page], bases: &[Page]) -> Vec<u64> {
    let mut counts: HashMap<u64, u32> = HashMap::new();
    for (word, base) in words(pages).zip(words(bases)).filter(|(word, base)| word != base && *base != 0) {
        *counts.entry(word.wrapping_sub(base)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 1).collect();
    counts.sort_unstable_by_key(|(distance, count)| (std::cmp::Reverse(*count), *distance));
    counts.into_iter().take(DISTANCES_MAX).map(|(distance, _)| distance).collect()
}

impl Encoder for Words {
    fn scope(&self) -> Scope {
        Scope::Patch
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        let bases = self.bases(group);
        let table = if self.relocates { Vec::new() } else { distances(group.pages, &bases) };
        let number: HashMap<u64, u8> = table.iter().copied().zip(0..).collect();
        let mut masks = vec![0u8; MASK_BYTES * group.pages.len()];
        let (mut codes, mut literals) = (Vec::new(), Vec::new());
        for (at, (word, base)) in words(group.pages).zip(words(&bases)).enumerate() {
            if word == base {
                masks[at / 8] |= 1 << (at % 8);
                continue;
            }
            let code = number.get(&word.wrapping_sub(base)).copied();
            codes.push(code.unwrap_or(NO_DISTANCE));
            if code.is_none() {
                literals.extend(word.to_le_bytes());
            }
        }
        let mut bytes = vec![table.len() as u8];
        bytes.extend(table.iter().flat_map(|distance| distance.to_le_bytes()));
        bytes.extend([masks, codes, literals].concat());
        Some(whole_piece(group.pages.len(), Form::Patch, self.packer.pack(&bytes)?))
    }

    fn decode(&mut self, pieces: &[Piece], group: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        let bases = self.bases(group);
        let bytes = self.packer.unpack(&pieces.first()?.bytes)?;
        let (count, rest) = bytes.split_first()?;
        let (table, rest) = rest.split_at_checked(usize::from(*count) * 8)?;
        let (masks, rest) = rest.split_at_checked(MASK_BYTES * pages.len())?;
        let equal: usize = masks.iter().map(|mask| mask.count_ones() as usize).sum();
        let (codes, literals) = rest.split_at_checked(masks.len() * 8 - equal)?;
        let table: Vec<u64> =
            table.as_chunks().0.iter().map(|distance| u64::from_le_bytes(*distance)).collect();
        let (mut codes, mut literals) = (codes.iter(), literals.as_chunks::<8>().0.iter());
        let into = pages.as_flattened_mut().as_chunks_mut::<8>().0;
        for (at, (into, base)) in into.iter_mut().zip(words(&bases)).enumerate() {
            *into = match masks[at / 8] >> (at % 8) & 1 {
                1 => base.to_le_bytes(),
                _ => match *codes.next()? {
                    NO_DISTANCE => *literals.next()?,
                    code => base.wrapping_add(*table.get(usize::from(code))?).to_le_bytes(),
                },
            };
        }
        Some(())
    }
}
