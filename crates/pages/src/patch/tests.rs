use proptest::prelude::*;

use super::*;
use crate::page_id::Page;
use crate::{BaseImage, BasePage};

/// What zstd keeps of pages one by one, the measure that no piece above a quarter may exceed.
fn page_by_page(pages: &[u8]) -> usize {
    let packed = |page: &[u8]| zstd::bulk::compress(page, 3).unwrap().len().min(PAGE_SIZE);
    pages.chunks(PAGE_SIZE).map(packed).sum()
}

/// Encodes `pages` against `base`, decodes every piece and compares. Returns the bytes kept.
#[track_caller]
fn check(base: &[Page], pages: &[Page]) -> usize {
    let (base, content) = (base.as_flattened(), pages.as_flattened());
    let mut encoder = PatchEncoder::new().unwrap();
    let pieces = encoder.encode(base, content).unwrap();
    let mut decoder = PatchDecoder::new().unwrap();
    let mut covered = 0;
    for piece in &pieces {
        assert_eq!(piece.pages.start, covered, "pieces cover the pages in order");
        covered = piece.pages.end;
        let mut decoded = vec![0xa5; piece.pages.len() * PAGE_SIZE];
        decoder.decode(piece.form, &piece.bytes, base, &mut decoded).unwrap();
        assert!(decoded == pages[piece.pages.clone()].as_flattened(), "{:?} came back different", piece.form);
    }
    assert_eq!(covered, pages.len());
    let kept = pieces.iter().map(|piece| piece.bytes.len()).sum();
    assert!(kept <= content.len());
    assert!(kept <= content.len() / 4 || kept <= page_by_page(content), "{kept} bytes kept");
    kept
}

/// SplitMix64: the same numbers on every machine.
fn random(seed: u64, nth: usize) -> u64 {
    let mut z = (seed << 32 ^ nth as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn page_of_words(word: impl Fn(usize) -> u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    page.as_chunks_mut::<8>()
        .0
        .iter_mut()
        .enumerate()
        .for_each(|(at, bytes)| *bytes = word(at).to_le_bytes());
    page
}

/// Like the heap of an interpreter: counts, pointers into a heap at `heap`, text, and hashes that `seed` changes.
fn heap_like(page: u64, heap: u64, seed: u64) -> Page {
    page_of_words(|at| match at % 8 {
        0 => random(page, at) % 5,
        1..4 => heap + random(page, at) % (1 << 20) / 16 * 16,
        4 => random(seed ^ page << 8, at),
        5 | 6 => u64::from_le_bytes(*b"__name__") ^ (random(page, at) % 7),
        _ => 0,
    })
}

#[test]
fn equal_pages_cost_almost_nothing() {
    let pages: Vec<Page> = (0..8).map(|page| heap_like(page, 1 << 40, 0)).collect();
    let kept = check(&pages.clone(), &pages); // A copy: zstd forgets a base that lies where the pages lie.
    assert!(kept < 64, "{kept} bytes");
}

#[test]
fn what_moved_within_the_group_is_found() {
    let base: Vec<Page> = (0..8).map(|page| heap_like(page, 1 << 40, 0)).collect();
    let flat = base.as_flattened();
    let mut moved = vec![0; flat.len()];
    moved[1237..].copy_from_slice(&flat[..flat.len() - 1237]);
    let kept = check(&base, moved.as_chunks().0);
    assert!(kept < 128, "{kept} bytes");
}

#[test]
fn relocated_pointers_cost_almost_nothing() {
    let (here, there) = (0x7f00_1000_0000, 0x7f55_4321_0000);
    let mapped = crate::PageRange::new(crate::PageAddr::containing(here), 300);
    let mut builder = crate::RelocationBuilder::new([mapped]);
    let base: Vec<Page> = (0..8).map(|page| heap_like(page, here, 0)).collect();
    let pages: Vec<Page> = (0..8).map(|page| heap_like(page, there, 0)).collect();
    base.iter().zip(&pages).for_each(|(base, page)| builder.learn(base, page));
    let before = check(&base, &pages);
    let mut relocated = base.clone();
    builder.build().apply(relocated.as_flattened_mut());
    let after = check(&relocated, &pages);
    assert!(after * 20 < before, "{before} bytes as they were, {after} bytes relocated");
}

#[test]
fn random_pages_stay_whole() {
    let base = [page_of_words(|at| random(1, at))];
    let pages = [2, 3, 4].map(|seed| page_of_words(|at| random(seed, at)));
    assert_eq!(check(&base, &pages), 3 * PAGE_SIZE);
}

#[test]
fn pages_of_different_kinds_are_not_worse_than_alone() {
    // Together, the letters of one page would spoil the statistics of the other.
    let letters =
        |seed: u64, first: u64| page_of_words(|at| random(seed, at) & 0x0707_0707_0707_0707 | first);
    let pages = [letters(1, 0), letters(2, 0x4040_4040_4040_4040), letters(3, 0x8888_8888_8888_8888)];
    check(&[[0; PAGE_SIZE]], &pages);
    check(&[page_of_words(|at| random(9, at))], &pages);
}

#[test]
fn a_base_that_looks_like_a_trained_dictionary_is_no_danger() {
    let pages = [heap_like(1, 1 << 40, 0)];
    for fill in [0, 0xff] {
        let mut base = [fill; PAGE_SIZE];
        base[..4].copy_from_slice(&0xec30_a437u32.to_le_bytes()); // The magic number of zstd's dictionaries.
        check(&[base], &pages);
    }
}

#[test]
fn base_pages_come_back() {
    let base: Vec<Page> = (0..8).map(|page| heap_like(page, 1 << 40, 0)).collect();
    for base in [&base[..], &[page_of_words(|at| random(1, at))]] {
        let piece = PatchEncoder::new().unwrap().encode_base(base.as_flattened()).unwrap();
        let mut decoded = vec![0; base.len() * PAGE_SIZE];
        PatchDecoder::new().unwrap().decode(piece.form, &piece.bytes, &[], &mut decoded).unwrap();
        assert!(decoded == base.as_flattened());
    }
}

#[test]
fn half_pages_and_too_many_are_refused() {
    let mut encoder = PatchEncoder::new().unwrap();
    let page = [0; PAGE_SIZE];
    for len_bytes in [0, 100, PAGE_SIZE + 1, 9 * PAGE_SIZE] {
        let refused = Err(PatchError::NotPages { len_bytes, pages_max: 8 });
        assert_eq!(encoder.encode(&page, &vec![0; len_bytes]), refused);
        assert_eq!(encoder.encode(&vec![0; len_bytes], &page), refused);
    }
    assert!(encoder.encode_alone(&[0; 16 * PAGE_SIZE]).is_ok());
    assert!(encoder.encode_alone(&[0; 17 * PAGE_SIZE]).is_err());
}

#[test]
fn pages_go_together_with_those_of_the_same_base_group() {
    let base = |page| Some(BasePage { image: BaseImage(4), page });
    let bases =
        [base(7), base(8), None, base(0), base(9), None, Some(BasePage { image: BaseImage(5), page: 0 })];
    let group = |base, pages: &[usize]| PatchGroup { base, pages: pages.to_vec() };
    assert_eq!(
        group_by_base(&bases),
        [
            group(Some((BaseImage(4), 0)), &[0, 3]),
            group(Some((BaseImage(4), 1)), &[1, 4]),
            group(None, &[2, 5]),
            group(Some((BaseImage(5), 0)), &[6]),
        ]
    );
    let lens =
        |bases: &[Option<BasePage>]| group_by_base(bases).iter().map(|g| g.pages.len()).collect::<Vec<_>>();
    assert_eq!(lens(&[base(1); 20]), [8, 8, 4]);
    assert_eq!(lens(&[None; 20]), [16, 4]);
}

fn pages() -> impl Strategy<Value = Vec<Page>> {
    let kind = (0u8..6, 0u64..4, any::<u64>());
    let page = kind.prop_map(|(kind, which, seed)| match kind {
        0 => [0; PAGE_SIZE],
        1 => page_of_words(|at| random(which, at)),
        2 => heap_like(which, 1 << 40, seed),
        3 => heap_like(which, 1 << 40 | (seed & 0xff) << 12, 0),
        4 => page_of_words(|at| if at as u64 == seed % 512 { seed } else { 0 }),
        _ => page_of_words(|at| seed << (at % 8)),
    });
    prop::collection::vec(page, 1..=8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_was_encoded_comes_back(base in pages(), pages in pages()) { check(&base, &pages); }

    #[test]
    fn edited_pages_come_back(
        base in pages(),
        edits in prop::collection::vec((any::<usize>(), prop::collection::vec(any::<u8>(), 1..64), any::<bool>()), 0..40),
    ) {
        let mut flat = base.as_flattened().to_vec();
        for (at, bytes, is_insertion) in edits {
            let at = at % flat.len();
            let end = if is_insertion { at } else { (at + bytes.len()).min(flat.len()) };
            flat.splice(at..end, bytes);
        }
        flat.resize(base.len() * PAGE_SIZE, 0);
        check(&base, flat.as_chunks().0);
    }

    #[test]
    fn any_bytes_are_a_patch_or_refused(data in prop::collection::vec(any::<u8>(), 0..400)) {
        crate::fuzzing::patch(&data);
    }

    #[test]
    fn a_damaged_patch_stays_within_its_bounds(pages in pages(), at in any::<usize>(), bits in 1u8..) {
        let base = [heap_like(1, 1 << 40, 0), heap_like(2, 1 << 40, 0)];
        let mut encoder = PatchEncoder::new().unwrap();
        for mut piece in encoder.encode(base.as_flattened(), pages.as_flattened()).unwrap() {
            let at = at % piece.bytes.len();
            piece.bytes[at] ^= bits;
            let mut decoded = vec![0; piece.pages.len() * PAGE_SIZE];
            let _ = PatchDecoder::new().unwrap().decode(piece.form, &piece.bytes, base.as_flattened(), &mut decoded);
        }
    }
}
