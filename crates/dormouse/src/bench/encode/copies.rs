//! A rival: copy and insert, as xdelta and VCDIFF (RFC 3284) do it and Medes with it. A page is a list of pieces that
//! are copied from anywhere in its base page and of bytes in between. What is written is then compressed with zstd.

use pages::{Form, PAGE_SIZE, Page, Piece};

use super::encoder::{Encoder, Group, Scope, whole_piece};
use super::packer::Packer;

/// Shorter copies cost as much as they save.
const COPY_MIN: usize = 8;
const HASH_BITS: u32 = 12;
const NOWHERE: u16 = u16::MAX;

/// One step: so many bytes that are written out, then a copy.
struct Step {
    inserted: u16,
    copied: u16,
    from: u16,
}

/// Copies at any offset, zstd over the group.
pub(super) struct Copies {
    packer: Packer,
}

impl Copies {
    pub(super) fn new() -> Option<Copies> {
        Some(Copies { packer: Packer::new()? })
    }
}

/// Where eight bytes occur in a page.
struct Places([u16; 1 << HASH_BITS]);

impl Places {
    fn of(base: &Page) -> Places {
        let mut places = [NOWHERE; 1 << HASH_BITS];
        for at in (0..=PAGE_SIZE - COPY_MIN).rev() {
            places[Self::hash(&base[at..])] = at as u16;
        }
        Places(places)
    }

    fn hash(bytes: &[u8]) -> usize {
        let word = bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HASH_BITS)) as usize
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The steps from `base` to `page`, and the bytes that are written out. Greedy: the place where the last copy would
/// go on is tried first, then the place of the same bytes.
fn steps(base: &Page, page: &Page) -> (Vec<Step>, Vec<u8>) {
    let places = Places::of(base);
    let (mut steps, mut literals, mut literal_from, mut at, mut shift) = (Vec::new(), Vec::new(), 0, 0, 0i32);
    while at + COPY_MIN <= PAGE_SIZE {
        let aligned = usize::try_from(at as i32 + shift).ok().filter(|from| *from < PAGE_SIZE);
        let hashed =
            Some(places.0[Places::hash(&page[at..])]).filter(|place| *place != NOWHERE).map(usize::from);
        let candidates = [aligned, hashed].into_iter().flatten();
        let best =
            candidates.map(|from| (common(&base[from..], &page[at..]), from)).max_by_key(|found| found.0);
        match best.filter(|found| found.0 >= COPY_MIN) {
            Some((copied, from)) => {
                literals.extend(&page[literal_from..at]);
                let inserted = (at - literal_from) as u16;
                steps.push(Step { inserted, copied: copied as u16, from: from as u16 });
                shift = from as i32 - at as i32;
                at += copied;
                literal_from = at;
            }
            None => at += 1,
        }
    }
    literals.extend(&page[literal_from..]);
    steps.push(Step { inserted: (PAGE_SIZE - literal_from) as u16, copied: 0, from: 0 });
    (steps, literals)
}

impl Encoder for Copies {
    fn scope(&self) -> Scope {
        Scope::Patch
    }

    fn encode(&mut self, group: &Group<'_>) -> Option<Vec<Piece>> {
        let (mut all_steps, mut all_literals) = (Vec::new(), Vec::new());
        for (page, place) in group.pages.iter().zip(group.places) {
            let (steps, literals) = match place {
                Some(place) => steps(&group.base[*place], page),
                None => (vec![Step { inserted: PAGE_SIZE as u16, copied: 0, from: 0 }], page.to_vec()),
            };
            let fields = steps.iter().flat_map(|step| [step.inserted, step.copied, step.from]);
            all_steps.extend(fields.flat_map(u16::to_le_bytes));
            all_literals.extend(literals);
        }
        let mut bytes = (all_steps.len() as u32).to_le_bytes().to_vec();
        bytes.extend([all_steps, all_literals].concat());
        Some(whole_piece(group.pages.len(), Form::Patch, self.packer.pack(&bytes)?))
    }

    fn decode(&mut self, pieces: &[Piece], group: &Group<'_>, pages: &mut [Page]) -> Option<()> {
        let bytes = self.packer.unpack(&pieces.first()?.bytes)?;
        let (steps_len, rest) = bytes.split_first_chunk()?;
        let (steps, mut literals) = rest.split_at_checked(u32::from_le_bytes(*steps_len) as usize)?;
        let mut steps = steps.as_chunks::<2>().0.iter().map(|field| usize::from(u16::from_le_bytes(*field)));
        for (page, place) in pages.iter_mut().zip(group.places) {
            let base = place.map_or(&[0; PAGE_SIZE], |place| &group.base[place]);
            let mut at = 0;
            loop {
                let (inserted, copied, from) = (steps.next()?, steps.next()?, steps.next()?);
                let (literal, more) = literals.split_at_checked(inserted)?;
                literals = more;
                page.get_mut(at..at + inserted)?.copy_from_slice(literal);
                at += inserted;
                if copied == 0 {
                    break; // The last step of each page.
                }
                page.get_mut(at..at + copied)?.copy_from_slice(base.get(from..from + copied)?);
                at += copied;
            }
        }
        Some(())
    }
}
