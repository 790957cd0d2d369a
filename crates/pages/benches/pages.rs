//! How fast pages go into the store and come back, a megabyte at a time, on one thread.

#![allow(missing_docs, clippy::unwrap_used)]

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pages::{
    Domain, Encoding, HeapArena, Heat, ManifestBuilder, PAGE_SIZE, PAGES_PER_PUT, PageAddr, Scratch, Store,
};

/// Memory like that of an interpreter: small numbers, pointers into a few megabytes, counts, and some text.
fn heap_like() -> Vec<u8> {
    let mut state = 1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let word = |n: usize| match random() % 10 {
        0..4 => 0,
        4..7 => 0x7f3a_5c00_0000 + 16 * (random() % (1 << 18)),
        7 => random() % 64,
        8 => u64::from_le_bytes(*b"__name__") + (n as u64 & 7),
        _ => random() >> 40,
    };
    (0..PAGES_PER_PUT * PAGE_SIZE / 8).map(word).flat_map(u64::to_le_bytes).collect()
}

fn store() -> Store<HeapArena> {
    Store::new(HeapArena::new(u64::MAX), [1; 32])
}

fn put(criterion: &mut Criterion) {
    let (domain, pages) = (Domain::named("bench"), heap_like());
    let mut group = criterion.benchmark_group("put");
    group.throughput(Throughput::Bytes(pages.len() as u64));
    for heat in [Heat::Hot, Heat::Cold] {
        let store = store();
        group.bench_function(format!("new {heat:?}"), |bencher| {
            let put = || store.put(&domain, black_box(&pages), heat).unwrap();
            bencher.iter(|| store.give_back(&put()));
        });
        let kept = store.put(&domain, &pages, heat).unwrap();
        let stats = store.stats();
        let packed = stats.used_bytes as f64 / pages.len() as f64;
        println!("{heat:?}: packed to {packed:.3}, tables {} bytes a page", stats.table_bytes / stats.pages);
        group.bench_function(format!("known {heat:?}"), |bencher| {
            bencher.iter(|| store.give_back(&store.put(&domain, black_box(&pages), heat).unwrap()));
        });
        store.give_back(&kept);
    }
    let zeros = vec![0; pages.len()];
    let store = store();
    group.bench_function("zero", |bencher| {
        bencher.iter(|| store.put(&domain, black_box(&zeros), Heat::Cold).unwrap());
    });
    group.finish();
}

fn wake(criterion: &mut Criterion) {
    let pages = heap_like();
    let mut group = criterion.benchmark_group("wake");
    group.throughput(Throughput::Bytes(pages.len() as u64));
    for heat in [Heat::Hot, Heat::Cold] {
        let store = store();
        let mut builder = ManifestBuilder::new();
        builder.extend(PageAddr::default(), &store.put(&Domain::named("bench"), &pages, heat).unwrap());
        let manifest = builder.build().unwrap();
        group.bench_function(format!("plan {heat:?}"), |bencher| {
            bencher.iter(|| store.plan_all(black_box(&manifest)).unwrap());
        });
        let plan = store.plan_all(&manifest).unwrap();
        let mut scratch = Scratch::new();
        group.bench_function(format!("decode {heat:?}"), |bencher| {
            bencher.iter(|| {
                for job in plan.jobs() {
                    let mut fill = |_, bytes: &[u8]| {
                        black_box(bytes);
                        Ok::<_, Infallible>(())
                    };
                    job.decode(&mut scratch, &mut fill).unwrap();
                }
            });
        });
    }
    group.finish();
}

/// A store with many pages: what a page costs in the tables, and how fast all of it is given back.
fn release(criterion: &mut Criterion) {
    let (store, domain) = (store(), Domain::named("bench"));
    let mut fill = || -> Vec<Encoding> {
        let mut pages = heap_like();
        let megabytes = (0..40u8).flat_map(|nth| {
            pages.iter_mut().step_by(PAGE_SIZE).for_each(|byte| *byte = nth + 1);
            store.put(&domain, &pages, Heat::Hot).unwrap()
        });
        megabytes.collect()
    };
    let kept = fill();
    let stats = store.stats();
    println!(
        "{} pages: tables {:.1} bytes a page",
        stats.pages,
        stats.table_bytes as f64 / stats.pages as f64
    );
    store.give_back(&kept);
    let mut group = criterion.benchmark_group("release");
    group.sample_size(10);
    group.bench_function("40 MiB", |bencher| {
        bencher.iter_batched(&mut fill, |kept| store.give_back(&kept), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, put, wake, release);
criterion_main!(benches);
