//! Pages that turn out to be hot while their sandbox sleeps.

use std::sync::Arc;

use crate::specimen::{Hint, Sandbox, Specimen, addr, sandbox, sandbox_like};
use pages::{Arena, Content, Domain, HeapArena, Heat, Like, PackedRelocation, PageAddr, PageRange, Store};

/// Moves what lies among cold pages in `ranges`, as a node does: against the pages of a base, if there is one.
#[track_caller]
pub(crate) fn make_hot<A: Arena>(
    store: &Store<A>,
    domain: &Domain,
    sandbox: &Sandbox,
    base: Option<&Sandbox>,
    ranges: &[PageRange],
) {
    let cold = store.cold_among(&sandbox.manifest, ranges);
    let slot = |addr: PageAddr| match base?.manifest.get(addr)? {
        Content::Slots(slot) => Some(slot),
        Content::Zero => None,
    };
    let slots: Vec<_> = cold.iter().flat_map(|range| range.addrs()).map(slot).collect();
    let none = Arc::new(PackedRelocation::none());
    let like = match base {
        Some(base) if !std::ptr::eq(base, sandbox) => Like::Slots(&slots, &none),
        Some(_) => Like::BasePages,
        None => Like::Nothing,
    };
    store.make_hot(domain, &sandbox.manifest, &cold, like).unwrap();
}

const PAGES: u16 = 192;

/// 64 KiB: no more is decoded for one page.
const PAGES_PER_JOB_MAX: u64 = 16;

/// A third of the pages.
fn hot_ranges() -> Vec<PageRange> {
    (0..u64::from(PAGES) / 6).map(|nth| PageRange::new(addr(nth * 6), 2)).collect()
}

/// A base, and others whose pages differ from it, one of each five.
fn alike(store: &Store<HeapArena>, domain: &Domain) -> Vec<Sandbox> {
    let base: Vec<Specimen> = (0..PAGES).map(Specimen::Text).collect();
    let base = sandbox_like(store, domain, Heat::Cold, &base, Hint::BasePages);
    let none = Arc::new(PackedRelocation::none());
    let differs = |nth: u16| {
        move |page| if page % 5 == 0 { Specimen::Near(page, 100 + nth) } else { Specimen::Text(page) }
    };
    let other = |nth| {
        let pages: Vec<Specimen> = (0..PAGES).map(differs(nth)).collect();
        sandbox_like(store, domain, Heat::Cold, &pages, Hint::Sandbox(&base, &none))
    };
    let others: Vec<_> = (1..4).map(other).collect();
    std::iter::once(base).chain(others).collect()
}

/// Pages of the hot ranges, and pages that are decoded for them.
fn wanted_and_decoded(store: &Store<HeapArena>, sandbox: &Sandbox) -> (u64, u64) {
    let plan = store.plan(&sandbox.manifest, &hot_ranges()).unwrap();
    (plan.pages(), plan.decoded_pages())
}

#[test]
fn pages_that_turn_hot_in_their_sleep_are_decoded_with_few_others() {
    let (store, domain) = (Store::new(HeapArena::new(u64::MAX), [7; 32]), Domain::named("a"));
    let sandboxes = alike(&store, &domain);
    for sandbox in &sandboxes {
        let (wanted, decoded) = wanted_and_decoded(&store, sandbox);
        assert!(decoded >= wanted * 2, "{decoded} pages decoded for {wanted}");
    }
    for sandbox in &sandboxes {
        make_hot(&store, &domain, sandbox, Some(&sandboxes[0]), &hot_ranges());
        assert_eq!(store.cold_among(&sandbox.manifest, &hot_ranges()), []);
    }
    let groups = store.stats().groups;
    for sandbox in &sandboxes {
        let (wanted, decoded) = wanted_and_decoded(&store, sandbox);
        assert!(decoded * 3 <= wanted * 4, "{decoded} pages decoded for {wanted}");
        let plan = store.plan(&sandbox.manifest, &hot_ranges()).unwrap();
        assert_eq!(plan.jobs().len(), 8, "a job for each group of eight base pages");
        assert!(plan.jobs().iter().all(|job| job.decoded_pages() <= PAGES_PER_JOB_MAX));
        sandbox.assert_reads_back(&store, &hot_ranges());
        make_hot(&store, &domain, sandbox, Some(&sandboxes[0]), &hot_ranges());
    }
    assert_eq!(store.stats().groups, groups, "nobody moves what others have moved");
    assert!(store.share(&sandboxes[1].manifest).patched_bytes > 0, "hot patches stay patches");
    sandboxes.into_iter().for_each(|sandbox| store.release(sandbox.manifest));
    assert_eq!(store.stats(), Default::default());
}

#[test]
fn hot_pages_that_are_put_are_patches_against_hot_base_pages_alone() {
    let (store, domain) = (Store::new(HeapArena::new(u64::MAX), [7; 32]), Domain::named("a"));
    let none = Arc::new(PackedRelocation::none());
    for (base_heat, is_patch) in [(Heat::Hot, true), (Heat::Cold, false)] {
        let texts: Vec<Specimen> = (500..532).map(Specimen::Text).collect();
        let near: Vec<Specimen> = (500..532).map(|text| Specimen::Near(text, 7)).collect();
        let base = sandbox_like(&store, &domain, base_heat, &texts, Hint::BasePages);
        let like = sandbox_like(&store, &domain, Heat::Hot, &near, Hint::Sandbox(&base, &none));
        assert_eq!(store.share(&like.manifest).patched_bytes > 0, is_patch, "{base_heat:?}");
        like.assert_reads_back(&store, &[PageRange::new(addr(3), 9)]);
        [base, like].into_iter().for_each(|sandbox| store.release(sandbox.manifest));
        assert_eq!(store.stats(), Default::default());
    }
}

#[test]
fn pages_that_turn_hot_stay_where_they_are_if_there_is_no_room() {
    let domain = Domain::named("a");
    let roomy = Store::new(HeapArena::new(u64::MAX), [7; 32]);
    alike(&roomy, &domain);
    let store = Store::new(HeapArena::new(roomy.stats().used_bytes + 3000), [7; 32]);
    let sandboxes = alike(&store, &domain);
    let before = store.stats();
    for sandbox in &sandboxes {
        make_hot(&store, &domain, sandbox, Some(&sandboxes[0]), &hot_ranges());
        sandbox.assert_reads_back(&store, &hot_ranges());
    }
    assert_eq!(store.stats().pages, before.pages);
    sandboxes.into_iter().for_each(|sandbox| store.release(sandbox.manifest));
    assert_eq!(store.stats(), Default::default());
}

#[test]
fn a_page_that_is_wanted_at_many_addresses_is_filled_at_all_of_them() {
    let (store, domain) = (Store::new(HeapArena::new(u64::MAX), [7; 32]), Domain::named("a"));
    let none = Arc::new(PackedRelocation::none());
    let texts: Vec<Specimen> = (0..40).map(|page| Specimen::Text(page % 4)).collect();
    let base = sandbox(&store, &domain, Heat::Hot, &texts);
    let near = (0..40)
        .map(|page| if page % 3 == 0 { Specimen::Near(page % 4, 9) } else { Specimen::Text(page % 4) });
    let like =
        sandbox_like(&store, &domain, Heat::Hot, &near.collect::<Vec<_>>(), Hint::Sandbox(&base, &none));
    let all = [PageRange::new(addr(0), 40)];
    like.assert_reads_back(&store, &all);
    let plan = store.plan(&like.manifest, &all).unwrap();
    assert!(plan.jobs().iter().all(|job| job.decoded_pages() <= PAGES_PER_JOB_MAX));
    drop(plan); // It holds its groups.
    [base, like].into_iter().for_each(|sandbox| store.release(sandbox.manifest));
    assert_eq!(store.stats(), Default::default());
}
