//! Processes with random layouts: what one has in common with another is found, kept small, and paid by the right one.

use std::sync::Arc;

use crate::specimen::{self, Hint, Specimen, addr, read_page, sandbox, sandbox_like};
use pages::{
    BaseContent as _, BaseFinder, Domain, HeapArena, Heat, Like, ManifestBuilder, PAGE_SIZE,
    PackedRelocation, Page, PageAddr, PageRange, RelocationBuilder, Scratch, Store,
};

fn store() -> Store<HeapArena> {
    Store::new(HeapArena::new(u64::MAX), [7; 32])
}

#[test]
fn base_pages_are_read_by_number_however_many_there_are() {
    let store = store();
    // More groups than a reader keeps decoded, with pages of zeros between them, which are no base pages.
    let zero_or_text = |nth: u16| if nth % 9 == 8 { Specimen::Zero } else { Specimen::Text(nth) };
    let pages: Vec<Specimen> = (0..4800).map(zero_or_text).collect();
    let sandbox = sandbox_like(&store, &Domain::named("a"), Heat::Cold, &pages, Hint::BasePages);
    let base = store.base_pages(&sandbox.manifest);
    let with_content: Vec<_> = sandbox.manifest.pages().collect();
    assert!(with_content.len() > 4096);
    let mut reader = base.reader();
    for (number, (addr, slot)) in with_content.iter().enumerate().chain([(3, &with_content[3])]) {
        assert_eq!((base.addrs()[number], base.slot(number)), (*addr, Some(*slot)));
        assert!(reader.page(number).unwrap()[..] == sandbox.memory[addr][..], "{number}");
    }
    assert_eq!(base.group(0), base.group(7));
    assert_ne!(base.group(7), base.group(8));
    assert!(reader.page(with_content.len()).is_none() && base.slot(with_content.len()).is_none());
}

#[test]
fn a_page_is_probably_there_if_its_domain_has_it() {
    let store = store();
    let put = [Specimen::Text(1), Specimen::Random(2), Specimen::Zero];
    let asked = [put[0], put[1], put[2], Specimen::Text(3)];
    let _kept = sandbox(&store, &Domain::named("a"), Heat::Cold, &put);
    let content = specimen::content(&asked);
    let ask = |domain: &str| store.probably_has(&Domain::named(domain), content.as_chunks().0);
    assert_eq!(ask("a"), [true, true, true, false]);
    assert_eq!(ask("b"), [false, false, true, false], "a page of zeros needs no store");
}

const PAGES: u64 = 64;

/// A heap full of pointers into itself, with every word its own, that lies at `start`.
fn heap(start: PageAddr) -> Vec<Page> {
    let word = |nth: u64, at: u64| {
        let mixed = (nth * 512 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        start.get() + mixed % (PAGES << 12) / 16 * 16
    };
    let page = |nth| {
        let mut page = [0; PAGE_SIZE];
        for (bytes, at) in page.as_chunks_mut::<8>().0.iter_mut().zip(0..) {
            *bytes = word(nth, at).to_le_bytes();
        }
        page
    };
    (0..PAGES).map(page).collect()
}

/// A store with a base, and others like it, each at another place: found by content, learned from, put as patches.
struct Alike {
    store: Store<HeapArena>,
    sandboxes: Vec<(pages::Manifest, PageAddr)>,
    base_bytes: u64,
    /// Of all relocations together.
    relocation_bytes: u64,
}

impl Alike {
    fn new(others: u64) -> Alike {
        let (store, domain) = (store(), Domain::named("a"));
        let put = |start: PageAddr, like: Like<'_>| {
            let content = heap(start);
            let put = store.put_like(&domain, content.as_flattened(), Heat::Cold, like).unwrap();
            let mut builder = ManifestBuilder::new();
            builder.extend(start, &put);
            builder.build().unwrap()
        };
        let mut sandboxes = vec![(put(addr(0), Like::BasePages), addr(0))];
        let base_bytes = store.stats().used_bytes;
        let mut relocation_bytes = 0;
        for other in 1..=others {
            let start = addr(other * 100_000);
            let base = store.base_pages(&sandboxes[0].0);
            let (mut reader, mut finder) = (base.reader(), BaseFinder::new(base.addrs()));
            let mut learned = RelocationBuilder::new([PageRange::new(addr(0), PAGES)]);
            let mut slots = Vec::new();
            for (nth, page) in (0..).zip(&heap(start)) {
                let hit = (nth == 0).then_some(0); // The first is found by content, the others behind it.
                let found = finder.find(&mut reader, start + nth, page, hit).unwrap();
                assert_eq!(u64::from(found), nth);
                learned.learn(reader.page(found as usize).unwrap(), page);
                slots.push(base.slot(found as usize));
            }
            let relocation = Arc::new(learned.build().pack());
            relocation_bytes += relocation.heap_bytes() as u64;
            sandboxes.push((put(start, Like::Slots(&slots, &relocation)), start));
        }
        Alike { store, sandboxes, base_bytes, relocation_bytes }
    }
}

#[test]
fn heaps_that_only_moved_keep_next_to_nothing_and_come_back() {
    let alike = Alike::new(3);
    let patches = alike.store.stats().used_bytes - alike.base_bytes;
    assert!(patches * 50 < alike.base_bytes, "{patches} bytes of patches, {} of base", alike.base_bytes);
    let heaps: Vec<_> = alike.sandboxes.iter().map(|(_, start)| heap(*start)).collect();
    // One scratch for all, page by page in turn: each has its own relocation.
    let mut scratch = Scratch::new();
    for nth in 0..PAGES {
        for ((manifest, start), heap) in alike.sandboxes.iter().zip(&heaps) {
            let page = read_page(&alike.store, manifest, *start + nth, &mut scratch).unwrap();
            assert!(page == heap[nth as usize], "page {nth} of the heap at {start}");
        }
    }
}

#[test]
fn relocations_are_paid_by_those_who_need_them() {
    let alike = Alike::new(2);
    let tables = |alike: &Alike| -> Vec<u64> {
        alike.sandboxes.iter().map(|(manifest, _)| alike.store.share(manifest).table_bytes).collect()
    };
    let shares = tables(&alike);
    assert!(shares[1] > shares[0] && shares[2] > shares[0], "{shares:?}");
    assert_eq!(shares[1] + shares[2] - 2 * shares[0], alike.relocation_bytes);
    assert!(shares.iter().sum::<u64>().abs_diff(alike.store.stats().table_bytes) <= 3);
    let before = alike.store.stats().table_bytes;
    let Alike { store, sandboxes, .. } = alike;
    sandboxes.into_iter().for_each(|(manifest, _)| store.release(manifest));
    assert!(before > 0);
    assert_eq!(store.stats(), Default::default());
}

#[test]
fn a_wrong_relocation_costs_bytes_and_no_content() {
    let (store, domain) = (store(), Domain::named("a"));
    let base = heap(addr(0));
    let put = store.put_like(&domain, base.as_flattened(), Heat::Cold, Like::BasePages).unwrap();
    let slots: Vec<_> = put.iter().rev().map(|encoding| encoding.slot()).collect(); // Wrong as well.
    let none = Arc::new(PackedRelocation::none());
    let other = heap(addr(1 << 20));
    let put = store.put_like(&domain, other.as_flattened(), Heat::Cold, Like::Slots(&slots, &none)).unwrap();
    let mut builder = ManifestBuilder::new();
    builder.extend(addr(0), &put);
    let manifest = builder.build().unwrap();
    let mut scratch = Scratch::new();
    for (nth, page) in (0..).zip(&other) {
        assert!(read_page(&store, &manifest, addr(nth), &mut scratch).unwrap() == *page);
    }
}
