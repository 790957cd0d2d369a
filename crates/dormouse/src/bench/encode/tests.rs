//! Every encoder of the bench gives back what it got, whatever that is, and none falls over what is damaged.

use std::cell::RefCell;
use std::sync::LazyLock;

use pages::{PAGE_SIZE, Page, PageAddr, PageRange, Relocation, RelocationBuilder};
use proptest::prelude::*;

use super::encoder::Group;
use super::*;

fn page(first: u64, step: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    for (at, bytes) in (0..).zip(page.as_chunks_mut::<8>().0) {
        *bytes = (if at % 3 == 0 { first + at * step } else { at % 7 }).to_le_bytes();
    }
    page
}

fn encoders() -> Vec<Named> {
    let samples: Vec<Page> = (0..200).map(|nth| page(nth << 33, 16 + nth)).collect();
    encoders_compared(&Image { mapped: Vec::new(), addrs: Vec::new(), pages: samples }).unwrap()
}

/// Every encoder, on `pages` against `base`: each page comes back. With `damage` (where, and what is put there; beyond the
/// end, it is cut off) what comes back is nothing, or something else.
#[track_caller]
fn check(
    encoders: &mut [Named],
    (base, relocation): (&[Page], &Relocation),
    pages: &[Page],
    places: &[Option<usize>],
    damage: &[(usize, u8)],
) {
    for (name, encoder) in encoders {
        let mut pieces = encoder.encode(&Group { pages, base, places, relocation }).unwrap();
        let group = Group { pages: &[], base, places, relocation };
        let mut decoded = vec![[0xa5; PAGE_SIZE]; pages.len()];
        let decode = encoder.decode(&pieces, &group, &mut decoded);
        assert!(decode.is_some() && decoded == pages, "{name}");
        for &(at, byte) in damage {
            for piece in &mut pieces {
                match piece.bytes.get_mut(at) {
                    Some(damaged) => *damaged ^= byte,
                    None => piece.bytes = piece.bytes[..piece.bytes.len() / 2].into(),
                }
            }
            let _ = encoder.decode(&pieces, &group, &mut decoded);
        }
    }
}

#[test]
fn every_rival_gives_back_what_it_got() {
    let base = [page(1 << 40, 16), page(1 << 41, 32)];
    let moved = {
        let (mut page, source) = ([0; PAGE_SIZE], base[1]);
        page[37..].copy_from_slice(&source[..PAGE_SIZE - 37]);
        page
    };
    let (mut encoders, none) = (encoders(), Relocation::none());
    let pages = [page(1 << 42, 16), moved, base[0]];
    check(&mut encoders, (&base, &none), &pages, &[Some(0), Some(1), Some(0)], &[]);
    check(&mut encoders, (&base, &none), &[[0; PAGE_SIZE], page(77, 1 << 50)], &[None, Some(1)], &[]);
    check(&mut encoders, (&[], &none), &[page(5, 5)], &[None], &[]);
}

thread_local! {
    /// Made once: training a dictionary takes as long as a hundred cases.
    static ENCODERS: RefCell<Vec<Named>> = RefCell::new(encoders());
}

/// How a page came to be.
#[derive(Clone, Debug)]
enum Origin {
    /// Bytes of this program.
    Real(usize),
    /// Bytes as good as random.
    Random(u64),
    /// Those of a base page, shifted.
    Shifted(usize, usize),
    /// Those of a base page, with words changed.
    Changed(usize, Vec<(usize, u64)>),
    /// Those of a base page, with pointers moved.
    Moved(usize, u64),
}

/// Where the pointers of `page(POINTED, 16)` point to.
const POINTED: u64 = 0x7f00_0000_0000;

static PROGRAM: LazyLock<Vec<Page>> = LazyLock::new(|| {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let (pages, _) = bytes.as_chunks::<PAGE_SIZE>();
    pages.iter().step_by(pages.len() / 256).copied().collect()
});

impl Origin {
    fn page(&self, base: &[Page]) -> Page {
        let of_base = |nth: &usize| base[nth % base.len()];
        match self {
            Origin::Real(nth) => PROGRAM[nth % PROGRAM.len()],
            Origin::Random(seed) => {
                let mut state = seed | 1;
                std::array::from_fn(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
            }
            Origin::Shifted(nth, by) => {
                let mut page = of_base(nth);
                page.rotate_right(by % PAGE_SIZE);
                page
            }
            Origin::Changed(nth, words) => {
                let mut page = of_base(nth);
                for (at, word) in words {
                    page.as_chunks_mut::<8>().0[at % (PAGE_SIZE / 8)] = word.to_le_bytes();
                }
                page
            }
            Origin::Moved(nth, by) => {
                let mut page = of_base(nth);
                for word in page.as_chunks_mut::<8>().0 {
                    let value = u64::from_le_bytes(*word);
                    let moved = if value >= POINTED { value.wrapping_add(by << 12) } else { value };
                    *word = moved.to_le_bytes();
                }
                page
            }
        }
    }
}

fn origin() -> impl Strategy<Value = Origin> {
    let words = prop::collection::vec((any::<usize>(), any::<u64>()), 0..20);
    prop_oneof![
        any::<usize>().prop_map(Origin::Real),
        any::<u64>().prop_map(Origin::Random),
        (any::<usize>(), any::<usize>()).prop_map(|(nth, by)| Origin::Shifted(nth, by)),
        (any::<usize>(), words).prop_map(|(nth, words)| Origin::Changed(nth, words)),
        (any::<usize>(), 0..1u64 << 20).prop_map(|(nth, by)| Origin::Moved(nth, by)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_encoder_gives_back_all_pages_and_survives_damage(
        base in prop::collection::vec(prop_oneof![any::<usize>().prop_map(Origin::Real), any::<u64>().prop_map(Origin::Random)], 0..8),
        pages in prop::collection::vec((origin(), prop::option::of(any::<usize>())), 1..8),
        damage in prop::collection::vec((0..6000usize, 1..=255u8), 0..6),
    ) {
        let mut base: Vec<Page> = base.iter().map(|origin| origin.page(&[[0; PAGE_SIZE]])).collect();
        base.push(page(POINTED, 16));
        let (pages, places): (Vec<Page>, Vec<Option<usize>>) = pages
            .iter()
            .map(|(origin, place)| (origin.page(&base), place.map(|place| place % base.len())))
            .unzip();
        let mapped = PageRange::new(PageAddr::containing(POINTED), 1 << 20);
        let mut learner = RelocationBuilder::new([mapped]);
        for (page, place) in pages.iter().zip(&places) {
            place.iter().for_each(|place| learner.learn(&base[*place], page));
        }
        let relocation = learner.build();
        ENCODERS.with_borrow_mut(|encoders| check(encoders, (&base, &relocation), &pages, &places, &damage));
    }
}
