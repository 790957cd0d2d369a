use proptest::prelude::*;

use super::*;
use crate::page_id::Page;
use crate::{PAGE_SIZE, PageAddr, PageRange};

fn page(words: impl Iterator<Item = u64>) -> Page {
    let mut page = [0; PAGE_SIZE];
    for (bytes, word) in page.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    page
}

/// Learns from pointers that each moved as `moves` says, in an image with two mappings, and applies the result to
/// the base: the share of words that are then right.
#[track_caller]
fn check(moves: impl Fn(u64) -> u64, right_min: usize) {
    let (heap, libraries) = (0x5555_0000_0000, 0x7f12_3456_7000);
    let mapped = [heap, libraries].map(|start| PageRange::new(PageAddr::containing(start), 300));
    let pointer =
        |n: u64| if n.is_multiple_of(3) { heap } else { libraries } + n * 7919 % (300 << 12) / 16 * 16;
    let mut builder = RelocationBuilder::new(mapped);
    let pages: Vec<Page> = (0..40).map(|nth| page((0..512).map(|n| pointer(nth * 512 + n)))).collect();
    for base in &pages {
        let target = page(base.as_chunks().0.iter().map(|word| moves(u64::from_le_bytes(*word))));
        builder.learn(base, &target);
    }
    let relocation = Relocation::from_bytes(&builder.build().to_bytes()).unwrap();
    let mut base = pages[0];
    relocation.apply(&mut base);
    let is_right =
        |(from, to): &(&[u8; 8], &[u8; 8])| moves(u64::from_le_bytes(**from)) == u64::from_le_bytes(**to);
    let right = pages[0].as_chunks().0.iter().zip(base.as_chunks().0).filter(is_right).count();
    assert!(right >= right_min, "{right} of 512 words are right");
}

#[test]
fn a_layout_is_learned() {
    check(|word| word, 512);
    check(|word| word + 0x1000, 512);
    check(|word| word.wrapping_sub(if word > 0x6000_0000_0000 { 0x34_5000 } else { 0x111_0000 }), 512);
}

#[test]
fn pools_that_moved_on_their_own_are_learned() {
    check(|word| word + (word >> 14 & 3) * 0x1000, 512);
}

#[test]
fn what_follows_no_rule_moves_nothing_much() {
    let runs = |moves: &dyn Fn(u64) -> u64| {
        let mut builder = RelocationBuilder::new([PageRange::new(PageAddr::containing(1 << 40), 1 << 20)]);
        for nth in 0..10 {
            let base = page((0..512).map(|n| (1 << 40) + (nth * 512 + n) * 4096));
            builder
                .learn(&base, &page(base.as_chunks().0.iter().map(|word| moves(u64::from_le_bytes(*word)))));
        }
        builder.build().run_count()
    };
    assert_eq!(runs(&|word| word + 4096), 0, "each page was pointed to once: that may be chance");
    assert_eq!(runs(&|_| 0), 0);
}

#[test]
fn what_several_have_learned_is_as_good_as_what_one_has() {
    let mapped = [PageRange::new(PageAddr::containing(1 << 40), 64)];
    let pointer = |n: u64| (1 << 40) + n * 7919 % (64 << 12) / 8 * 8;
    let pairs: Vec<(Page, Page)> = (0..40)
        .map(|nth| page((0..512).map(|n| pointer(nth * 512 + n))))
        .map(|base| (base, page(base.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word) + 0x7000))))
        .collect();
    let learned = |pairs: &[(Page, Page)]| {
        let mut builder = RelocationBuilder::new(mapped);
        pairs.iter().for_each(|(base, page)| builder.learn(base, page));
        builder
    };
    let mut merged = learned(&pairs[..7]);
    merged.merge(learned(&pairs[7..]));
    let packed = merged.build().pack();
    assert_eq!(packed, learned(&pairs).build().pack());
    assert_eq!(packed.expand().unwrap().pack(), packed);
    // A minority that was wrong in one part is outvoted.
    let mut wrong = RelocationBuilder::new(mapped);
    pairs[..9].iter().for_each(|(base, _)| {
        wrong.learn(base, &page(base.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word) + 0x1000)))
    });
    wrong.merge(learned(&pairs));
    assert_eq!(wrong.build().pack(), packed);
}

#[test]
fn words_that_are_no_pointers_stay() {
    let relocation = Relocation::new(vec![Run { first: 100, pages: 2, delta: 0x5000 }]);
    let words = [0, 5, (100 << 12) - 1, 100 << 12, (102 << 12) - 1, 102 << 12, u64::MAX, 1 << 47];
    let mut base = page(words.into_iter());
    relocation.apply(&mut base);
    let expected =
        words.map(|word| if word >> 12 == 100 || word >> 12 == 101 { word + 0x5000 } else { word });
    assert_eq!(base, page(expected.into_iter()));
}

#[test]
fn an_image_beyond_the_bound_is_relocated_in_part() {
    let run = |nth: u64| Run { first: nth << 20, pages: 1 << 19, delta: nth + 1 };
    let relocation = Relocation::new((0..5).map(run).collect());
    assert_eq!(relocation.run_count(), 2);
    assert_eq!(Relocation::from_bytes(&relocation.to_bytes()).unwrap().run_count(), 2);
}

proptest! {
    #[test]
    fn any_bytes_are_a_relocation_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::relocation(&bytes);
    }

    #[test]
    fn runs_come_back_as_they_went(runs in prop::collection::vec((1u64..9000, 1u32..300, any::<u64>()), 0..50)) {
        let mut end = 0;
        let runs = runs.into_iter().map(|(gap, pages, delta)| {
            let run = Run { first: end + gap, pages, delta };
            end = run.end();
            run
        });
        let relocation = Relocation::new(runs.collect());
        let again = Relocation::from_bytes(&relocation.to_bytes()).unwrap();
        prop_assert_eq!(again.runs, relocation.runs);
    }
}
