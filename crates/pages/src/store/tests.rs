//! With a hash that is the same for all pages: the store still keeps every page apart.

use super::*;
use crate::page_id::Page;
use crate::{Domain, HeapArena, Heat, ManifestBuilder, PAGE_SIZE, PageAddr, Scratch};

fn page(byte: u8) -> Page {
    let mut page = [byte; PAGE_SIZE];
    page[17] = 200;
    page
}

/// Puts the pages named by one byte each, several calls of them, and reads all of them back. `same` says how many
/// must have been found in the store.
#[track_caller]
fn check(calls: &[&[u8]], same: usize) {
    let store = Store::with_hasher(HeapArena::new(u64::MAX), PageHasher::constant());
    let mut builder = ManifestBuilder::new();
    let mut found = 0;
    for (nth, call) in calls.iter().enumerate() {
        let pages: Vec<Page> = call.iter().map(|&byte| page(byte)).collect();
        let encodings = store.put(&Domain::named("d"), pages.as_flattened(), Heat::Hot).unwrap();
        found += encodings.iter().filter(|encoding| matches!(encoding, Encoding::Same(_))).count();
        builder.extend(PageAddr::default() + nth as u64 * 1000, &encodings);
    }
    let manifest = builder.build().unwrap();
    for (nth, call) in calls.iter().enumerate() {
        for (offset, &byte) in call.iter().enumerate() {
            let addr = PageAddr::default() + (nth * 1000 + offset) as u64;
            let mut out = [0; PAGE_SIZE];
            for job in store.plan(&manifest, &[PageRange::new(addr, 1)]).unwrap().jobs() {
                let mut fill = |_, bytes: &[u8]| {
                    out.copy_from_slice(bytes);
                    Ok::<_, PlanError>(())
                };
                job.decode(&mut Scratch::new(), &mut fill).unwrap();
            }
            assert!(out == page(byte), "{addr}");
        }
    }
    assert_eq!(found, same);
    store.release(manifest);
    let left = store.stats();
    assert_eq!((left.pages, left.groups, left.used_bytes, left.strays), (0, 0, 0, 0));
}

#[test]
fn pages_that_collide_never_become_the_same() {
    check(&[&[1, 2, 3, 4], &[5, 6]], 0);
}

#[test]
fn equal_pages_are_found_among_colliding_ones() {
    check(&[&[1, 2, 3], &[3, 1], &[2]], 3);
    check(&[&[1, 1, 2, 1]], 2);
}

#[test]
fn after_some_collisions_a_page_counts_as_new() {
    let many: Vec<u8> = (0..100).collect();
    let store = Store::with_hasher(HeapArena::new(u64::MAX), PageHasher::constant());
    let pages: Vec<Page> = many.iter().map(|&byte| page(byte)).collect();
    let mut same = 0;
    for _ in 0..2 {
        let encodings = store.put(&Domain::named("d"), pages.as_flattened(), Heat::Cold).unwrap();
        same += encodings.iter().filter(|encoding| matches!(encoding, Encoding::Same(_))).count();
    }
    assert!(same <= 4, "{same} of 100 pages were compared with enough candidates to be found");
}
