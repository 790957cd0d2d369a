//! The store's promises: it gives back what was put, keeps it as long as someone wants it and no longer, and what
//! the manifests pay for is what it holds.

use std::sync::Arc;

use crate::hot::make_hot;
use crate::specimen::{self, Hint, Sandbox, Specimen, addr, sandbox, sandbox_like, specimens};
use pages::{
    Domain, Encoding, FillError, HeapArena, Heat, PAGE_SIZE, PackedRelocation, PageRange, PlanError,
    Relocation, RelocationBuilder, Scratch, Store, StoreError,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Put { domain: u8, heat: Heat, pages: Vec<Specimen>, like: usize },
    Release { nth: usize },
    MakeHot { nth: usize, start: u64, like: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let heat = prop_oneof![Just(Heat::Hot), Just(Heat::Cold)];
    let put = (0..3u8, heat, specimens(1..90), 0..8usize).prop_map(|(domain, heat, pages, like)| Op::Put {
        domain,
        heat,
        pages,
        like,
    });
    let release = any::<usize>().prop_map(|nth| Op::Release { nth });
    let make_hot = (any::<usize>(), 0..80u64, 0..8usize);
    let make_hot = make_hot.prop_map(|(nth, start, like)| Op::MakeHot { nth, start, like });
    prop::collection::vec(prop_oneof![3 => put, 2 => release, 2 => make_hot], 1..12)
}

fn domain(number: u8) -> Domain {
    if number == 0 { Domain::private(u64::from(number)) } else { Domain::named(&format!("tenant-{number}")) }
}

fn store() -> Store<HeapArena> {
    Store::new(HeapArena::new(u64::MAX), [7; 32])
}

/// Runs `ops`; after each, every sandbox reads as it was and the shares add up; after all, nothing is left.
#[track_caller]
fn check(ops: &[Op]) {
    let store = store();
    let odd = [Arc::new(odd_relocation().pack()), Arc::new(PackedRelocation::none())];
    let mut sandboxes: Vec<Sandbox> = Vec::new();
    let mut domains: Vec<u8> = Vec::new();
    for op in ops {
        match op {
            Op::Put { domain: number, heat, pages, like } => {
                let hint = match like {
                    0 => Hint::Nothing,
                    1 => Hint::BasePages,
                    nth => {
                        sandboxes.get(nth - 2).map_or(Hint::Nothing, |of| Hint::Sandbox(of, &odd[nth % 2]))
                    }
                };
                domains.push(*number);
                sandboxes.push(sandbox_like(&store, &domain(*number), *heat, pages, hint));
            }
            Op::Release { nth } if !sandboxes.is_empty() => {
                let nth = nth % sandboxes.len();
                domains.swap_remove(nth);
                store.release(sandboxes.swap_remove(nth).manifest);
            }
            Op::MakeHot { nth, start, like } if !sandboxes.is_empty() => {
                let nth = nth % sandboxes.len();
                let base = like.checked_sub(2).and_then(|nth| sandboxes.get(nth));
                let ranges = [PageRange::new(addr(*start), 2), PageRange::new(addr(start + 3), 20)];
                make_hot(&store, &domain(domains[nth]), &sandboxes[nth], base, &ranges);
            }
            Op::MakeHot { .. } => {}
            Op::Release { .. } => {}
        }
        sandboxes.iter().for_each(|sandbox| sandbox.assert_reads_back(&store, &[]));
        assert_shares_add_up(&store, &sandboxes);
    }
    for sandbox in sandboxes {
        store.release(sandbox.manifest);
    }
    assert_eq!(store.stats(), Default::default());
}

/// Moves some of what could be a pointer in a page of text: whatever it does, pages come back as they were.
pub(crate) fn odd_relocation() -> Relocation {
    let page = |word: u64| {
        let mut page = [0; PAGE_SIZE];
        page.as_chunks_mut::<8>().0.fill(word.to_le_bytes());
        page
    };
    let mut builder = RelocationBuilder::new([PageRange::new(addr(0), 1000)]);
    builder.learn(&page(addr(5).get()), &page(addr(5).get() + 0x5000));
    builder.build()
}

#[track_caller]
fn assert_shares_add_up(store: &Store<HeapArena>, sandboxes: &[Sandbox]) {
    let (mut content, mut tables) = (0, 0);
    for sandbox in sandboxes {
        let share = store.share(&sandbox.manifest);
        content += share.identical_bytes + share.patched_bytes + share.packed_bytes + share.whole_bytes;
        tables += share.table_bytes;
    }
    let stats = store.stats();
    let rounding = 2 * sandboxes.len() as u64;
    assert!(content.abs_diff(stats.used_bytes) <= rounding, "{content} of {stats:?}");
    assert!(tables.abs_diff(stats.table_bytes) <= rounding, "{tables} of {stats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_was_put_is_kept_exactly_as_long_as_it_is_wanted(ops in ops()) { check(&ops); }
}

#[test]
fn equal_pages_are_kept_once_in_a_domain_and_apart_between_domains() {
    let (store, pages) = (store(), [Specimen::Text(1), Specimen::Random(2)]);
    let mut sandboxes = vec![sandbox(&store, &Domain::named("a"), Heat::Cold, &pages)];
    for (domain, distinct) in
        [(Domain::named("a"), 2), (Domain::named("b"), 4), (Domain::private(1), 6), (Domain::private(2), 8)]
    {
        sandboxes.push(sandbox(&store, &domain, Heat::Cold, &pages));
        assert_eq!(store.stats().pages, distinct, "{domain:?}");
    }
    assert_shares_add_up(&store, &sandboxes);
}

#[test]
fn pages_like_others_are_kept_as_patches_and_keep_their_base() {
    let store = store();
    let domain = Domain::named("a");
    let first: Vec<Specimen> = (0..16).map(Specimen::Text).collect();
    let changed: Vec<Specimen> = (0..16).map(|text| Specimen::Near(text, 100 + text)).collect();
    let base = sandbox_like(&store, &domain, Heat::Cold, &first, Hint::BasePages);
    let base_bytes = store.stats().used_bytes;
    assert_eq!(store.stats().groups, 2, "base pages share 64 KiB with the patches against them");
    let none = Arc::new(PackedRelocation::none());
    let like = sandbox_like(&store, &domain, Heat::Cold, &changed, Hint::Sandbox(&base, &none));
    let patches = store.stats().used_bytes - base_bytes;
    assert!(patches * 50 < base_bytes, "{patches} for what {base_bytes} keep otherwise");
    assert!(store.share(&like.manifest).patched_bytes >= patches);
    store.release(base.manifest);
    assert_eq!(store.stats().groups, 4, "the base stays as long as somebody needs it");
    like.assert_reads_back(&store, &[]);
    assert_shares_add_up(&store, std::slice::from_ref(&like));
    // Nothing is a patch against patches: reading one page decodes two groups at most.
    let third: Vec<Specimen> = (0..16).map(|text| Specimen::Near(text, 200 + text)).collect();
    let third = sandbox_like(&store, &domain, Heat::Cold, &third, Hint::Sandbox(&like, &none));
    assert_eq!(store.share(&third.manifest).patched_bytes, 0);
    // Nor does anything cross a sharing domain.
    let other = sandbox_like(&store, &Domain::named("b"), Heat::Cold, &changed, Hint::Sandbox(&third, &none));
    assert_eq!(store.share(&other.manifest).patched_bytes, 0);
    [like, third, other].into_iter().for_each(|sandbox| store.release(sandbox.manifest));
    assert_eq!(store.stats(), Default::default());
}

#[test]
fn hot_pages_that_many_want_are_kept_whole_and_cold_ones_never() {
    let pages: Vec<Specimen> = (0..24).map(Specimen::Text).collect();
    for (heat, whole_pages) in [(Heat::Hot, 24), (Heat::Cold, 0)] {
        let (store, domain) = (store(), Domain::named("a"));
        let mut sandboxes: Vec<_> = (0..31).map(|_| sandbox(&store, &domain, heat, &pages)).collect();
        let packed = store.stats().used_bytes;
        assert!(packed < 24 * PAGE_SIZE as u64 / 2, "text compresses: {packed}");
        sandboxes.push(sandbox(&store, &domain, heat, &pages));
        let expected = if whole_pages > 0 { whole_pages * PAGE_SIZE as u64 } else { packed };
        assert_eq!(store.stats().used_bytes, expected, "{heat:?}");
        for sandbox in &sandboxes {
            sandbox.assert_reads_back(&store, &[PageRange::new(addr(3), 9)]);
        }
        assert_shares_add_up(&store, &sandboxes);
        sandboxes.into_iter().for_each(|sandbox| store.release(sandbox.manifest));
        assert_eq!(store.stats(), Default::default());
    }
}

#[test]
fn pages_that_became_whole_are_base_pages_as_before() {
    let (store, domain) = (store(), Domain::named("a"));
    let pages: Vec<Specimen> = (0..24).map(Specimen::Text).collect();
    let changed: Vec<Specimen> = (0..24).map(|text| Specimen::Near(text, 100 + text)).collect();
    let many: Vec<_> = (0..32).map(|_| sandbox(&store, &domain, Heat::Hot, &pages)).collect();
    let none = Arc::new(PackedRelocation::none());
    let like = sandbox_like(&store, &domain, Heat::Cold, &changed, Hint::Sandbox(&many[0], &none));
    assert!(store.share(&like.manifest).patched_bytes > 0);
    let groups_of_patches = store.stats().groups - 3;
    assert_eq!(groups_of_patches, 3, "one for each group of base pages");
    like.assert_reads_back(&store, &[]);
}

#[test]
fn pages_that_cannot_move_for_want_of_room_stay() {
    let pages: Vec<Specimen> = (0..24).map(Specimen::Text).collect();
    let (store, domain) = (Store::new(HeapArena::new(48 << 10), [7; 32]), Domain::named("a"));
    let sandboxes: Vec<_> = (0..40).map(|_| sandbox(&store, &domain, Heat::Hot, &pages)).collect();
    sandboxes.iter().for_each(|sandbox| sandbox.assert_reads_back(&store, &[]));
    sandboxes.into_iter().for_each(|sandbox| store.release(sandbox.manifest));
    assert_eq!(store.stats(), Default::default());
}

#[test]
fn a_page_that_does_not_compress_is_kept_whole_and_apart() {
    let pages =
        [Specimen::Text(1), Specimen::Random(2), Specimen::Text(3), Specimen::Zero, Specimen::Text(1)];
    for heat in [Heat::Hot, Heat::Cold] {
        let put = store().put(&Domain::named("a"), &specimen::content(&pages), heat).unwrap();
        let [Encoding::Packed(a), Encoding::Whole(b), Encoding::Packed(c), Encoding::Zero, Encoding::Same(d)] =
            put[..]
        else {
            panic!("{put:?}")
        };
        assert_eq!((b.get(), c.get(), d), (a.get() + 1, a.get() + 2, a), "slots follow addresses");
    }
}

#[test]
fn a_second_sandbox_takes_as_few_runs_as_the_first() {
    let store = store();
    let pages: Vec<Specimen> = (0..256).map(Specimen::Text).collect();
    let first = sandbox(&store, &Domain::named("a"), Heat::Hot, &pages);
    let second = sandbox(&store, &Domain::named("a"), Heat::Cold, &pages);
    assert_eq!(first.manifest, second.manifest);
    assert_eq!(second.manifest.runs().count(), 1);
}

#[test]
fn a_plan_fills_what_was_asked_for_and_nothing_else() {
    let store = store();
    let pages: Vec<Specimen> = (0..160).map(Specimen::Text).collect();
    let sandbox = sandbox(&store, &Domain::named("a"), Heat::Hot, &pages);
    let some = [PageRange::new(addr(3), 1), PageRange::new(addr(100), 6), PageRange::new(addr(9999), 9)];
    let plan = store.plan(&sandbox.manifest, &some).unwrap();
    let ranges: Vec<_> = plan.jobs().iter().flat_map(|job| job.ranges()).collect();
    assert_eq!(ranges, [some[0], PageRange::new(addr(100), 4), PageRange::new(addr(104), 2)]);
    let index = plan.index();
    let jobs = [3, 101, 105, 4, 106].map(|page| index.job_of(addr(page)));
    assert_eq!(jobs, [Some(0), Some(1), Some(2), None, None]);
    sandbox.assert_reads_back(&store, &some);
}

#[test]
fn a_plan_can_be_filled_from_after_its_manifest_was_released() {
    let store = store();
    let sandbox = sandbox(&store, &Domain::named("a"), Heat::Cold, &[Specimen::Text(1), Specimen::Random(1)]);
    let plan = store.plan_all(&sandbox.manifest).unwrap();
    store.release(sandbox.manifest);
    assert_eq!(store.stats().pages, 0);
    assert!(store.stats().used_bytes > 0);
    let mut filled = 0;
    for job in plan.jobs() {
        job.decode(&mut Scratch::new(), &mut |_, bytes| {
            filled += bytes.len();
            Ok::<_, PlanError>(())
        })
        .unwrap();
    }
    assert_eq!(filled, 2 * PAGE_SIZE);
    drop(plan);
    assert_eq!(store.stats().used_bytes, 0);
}

#[test]
fn a_full_arena_refuses_and_keeps_what_it_had() {
    let store = Store::new(HeapArena::new(20_000), [7; 32]);
    let kept = sandbox(&store, &Domain::named("a"), Heat::Cold, &[Specimen::Random(1), Specimen::Text(1)]);
    let before = store.stats();
    let more = specimen::content(&[1, 2, 3, 4, 5, 6].map(Specimen::Random));
    let refused = store.put(&Domain::named("a"), &more, Heat::Cold);
    assert!(matches!(refused, Err(StoreError::Arena { .. })), "{refused:?}");
    assert_eq!(store.stats(), before);
    kept.assert_reads_back(&store, &[]);
    store.release(kept.manifest);
    assert_eq!(store.stats(), Default::default());
}

#[test]
fn half_a_page_cannot_be_put() {
    for len in [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, 257 * PAGE_SIZE] {
        let refused = store().put(&Domain::named("a"), &vec![1; len], Heat::Hot);
        assert!(matches!(refused, Err(StoreError::NotPages { len_bytes }) if len_bytes == len));
    }
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let store = store();
    let put = store.put(&Domain::named("a"), &[1; PAGE_SIZE], Heat::Hot).unwrap();
    let manifest = specimen::manifest(&[(addr(1), &put)]);
    let elsewhere = store.plan(&manifest, &[PageRange::new(addr(2), 1)]).unwrap();
    assert_eq!(elsewhere.pages(), 0);
    store.give_back(&put);
    assert!(matches!(store.plan_all(&manifest), Err(PlanError { addr: a }) if a == addr(1)));
    store.release(manifest);
    assert_eq!(store.stats().strays, 1);
}

#[test]
fn whoever_cannot_fill_stops_the_job() {
    let store = store();
    let sandbox = sandbox(&store, &Domain::named("a"), Heat::Cold, &[Specimen::Text(1)]);
    let plan = store.plan_all(&sandbox.manifest).unwrap();
    let mut fill = |_, _: &[u8]| Err(std::fmt::Error);
    let filled = plan.jobs()[0].decode(&mut Scratch::new(), &mut fill);
    assert_eq!(filled, Err(FillError::Fill(std::fmt::Error)));
}

#[test]
fn pages_that_turn_hot_move_together_and_what_they_leave_is_packed_again() {
    let store = store();
    let domain = Domain::named("a");
    let pages: Vec<Specimen> = (0..64).map(Specimen::Text).collect();
    let cold = sandbox(&store, &domain, Heat::Cold, &pages);
    assert_eq!(store.stats().groups, 4);
    // Twelve of every sixteen pages are hot: 48 in six groups of their own.
    let (mut hot, mut rest): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for (nth, page) in pages.iter().enumerate() {
        if nth % 16 < 12 { hot.push(*page) } else { rest.push(*page) }
    }
    let hot = sandbox(&store, &domain, Heat::Hot, &hot);
    assert_eq!(store.stats().groups, 4 + 6);
    let rest = sandbox(&store, &domain, Heat::Cold, &rest);
    assert_eq!(store.stats().groups, 6 + 1, "sixteen pages are left of the four old groups");
    for sandbox in [&cold, &hot, &rest] {
        sandbox.assert_reads_back(&store, &[]);
    }
    assert_eq!(store.plan_all(&hot.manifest).unwrap().jobs().len(), 6);
    assert_shares_add_up(&store, &[cold, hot, rest]);
}
