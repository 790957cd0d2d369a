//! How fast pages are encoded against base pages and come back, and how fast their base pages are found; on one
//! thread, next to copying, LZ4 and zstd.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pages::{
    BASE_PAGES_PER_GROUP, BaseImage, BasePage, CHUNKS_DEFAULT, ChunkHash, Domain, Fingerprint, Fingerprinter,
    MemoryRegistry, PAGE_SIZE, Page, PageAddr, PageRange, PatchDecoder, PatchEncoder, Piece, Registry,
    Relocation, RelocationBuilder, Similarity,
};
use xxhash_rust::xxh3::xxh3_64;

const GROUPS: usize = 32;
const GROUP_BYTES: usize = BASE_PAGES_PER_GROUP * PAGE_SIZE;

/// Two processes of one program: the same structures at different places, with other hashes of the same strings, and
/// some counts that went on.
struct Processes {
    base: Vec<Page>,
    pages: Vec<Page>,
    relocation: Relocation,
}

/// SplitMix64: the same numbers on every machine.
fn random(seed: u64, nth: usize) -> u64 {
    let mut z = (seed << 32).wrapping_add(nth as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn page(number: u64, heap: u64, seed: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    for (at, bytes) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let draw = random(number, at);
        let word = match draw % 16 {
            0..6 => 0,
            6..11 => heap + (draw >> 8) % (1 << 22) / 16 * 16,
            11 | 12 => (draw >> 8) % 64 + u64::from((draw ^ seed).is_multiple_of(41)),
            13 => u64::from_le_bytes(*b"__name__") + (draw >> 8) % 8,
            14 => random(seed ^ number, at), // The hash of a string.
            _ => draw >> 40,
        };
        *bytes = word.to_le_bytes();
    }
    page
}

fn processes() -> Processes {
    let (here, there) = (0x7f3a_5c00_0000, 0x7f91_0340_0000);
    let numbers = 0..(GROUPS * BASE_PAGES_PER_GROUP) as u64;
    let base: Vec<Page> = numbers.clone().map(|number| page(number, here, 1)).collect();
    let pages: Vec<Page> = numbers.map(|number| page(number, there, 2)).collect();
    let mut builder = RelocationBuilder::new([PageRange::new(PageAddr::containing(here), 1024)]);
    base.iter().zip(&pages).for_each(|(base, page)| builder.learn(base, page));
    Processes { base, pages, relocation: builder.build() }
}

/// Copying, LZ4 and zstd, in the groups of 16 that pages without a base lie in.
fn measures(criterion: &mut Criterion) {
    let Processes { pages, .. } = processes();
    let content = pages.as_flattened();
    let mut group = criterion.benchmark_group("measure");
    group.throughput(Throughput::Bytes(content.len() as u64));
    let mut copy = vec![0; content.len()];
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(content)))
    });
    group.bench_function("verify (XXH3 of each page)", |bencher| {
        bencher.iter(|| pages.iter().fold(0, |sum, page| sum ^ xxh3_64(black_box(page))));
    });
    let groups = || content.chunks(2 * GROUP_BYTES);
    let packed: Vec<_> = groups().map(lz4_flex::block::compress).collect();
    group.bench_function("LZ4 encode", |bencher| {
        bencher.iter(|| groups().map(|group| lz4_flex::block::compress(group).len()).sum::<usize>());
    });
    group.bench_function("LZ4 decode", |bencher| {
        bencher.iter(|| packed.iter().for_each(|group| decode_lz4(group, &mut copy)));
    });
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    let packed: Vec<_> = groups().map(|group| compressor.compress(group).unwrap()).collect();
    group.bench_function("zstd encode", |bencher| {
        bencher.iter(|| groups().map(|group| compressor.compress(group).unwrap().len()).sum::<usize>());
    });
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    group.bench_function("zstd decode", |bencher| {
        bencher.iter(|| {
            packed.iter().for_each(|group| {
                decompressor.decompress_to_buffer(group, &mut copy[..2 * GROUP_BYTES]).unwrap();
            })
        });
    });
    group.finish();
}

fn decode_lz4(group: &[u8], into: &mut [u8]) {
    lz4_flex::block::decompress_into(group, &mut into[..2 * GROUP_BYTES]).unwrap();
}

fn patch(criterion: &mut Criterion) {
    let Processes { base, pages, relocation } = processes();
    let mut relocated = base.clone();
    let mut group = criterion.benchmark_group("patch");
    group.throughput(Throughput::Bytes(pages.as_flattened().len() as u64));
    group.bench_function("learn", |bencher| {
        bencher.iter(|| {
            let mut builder =
                RelocationBuilder::new([PageRange::new(PageAddr::containing(0x7f3a_5c00_0000), 1024)]);
            base.iter().zip(&pages).for_each(|(base, page)| builder.learn(base, page));
            builder.build().run_count()
        });
    });
    group.bench_function("relocate, with the copy", |bencher| {
        bencher.iter(|| {
            relocated.copy_from_slice(&base);
            relocation.apply(black_box(relocated.as_flattened_mut()));
        });
    });
    let mut encoder = PatchEncoder::new().unwrap();
    let pairs = || relocated.as_flattened().chunks(GROUP_BYTES).zip(pages.as_flattened().chunks(GROUP_BYTES));
    group.bench_function("encode", |bencher| {
        bencher
            .iter(|| pairs().map(|(base, pages)| encoder.encode(base, pages).unwrap().len()).sum::<usize>());
    });
    let pieces: Vec<Piece> = pairs().flat_map(|(base, pages)| encoder.encode(base, pages).unwrap()).collect();
    assert_eq!(pieces.len(), GROUPS, "no group falls apart");
    let kept: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
    println!("kept: {:.3}", kept as f64 / pages.as_flattened().len() as f64);
    let mut decoder = PatchDecoder::new().unwrap();
    let mut decoded = vec![0; GROUP_BYTES];
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for (piece, (base, _)) in pieces.iter().zip(pairs()) {
                decoder.decode(piece.form, &piece.bytes, base, &mut decoded).unwrap();
            }
        });
    });
    group.finish();
}

fn find(criterion: &mut Criterion) {
    let Processes { base, pages, .. } = processes();
    let mut group = criterion.benchmark_group("find");
    group.throughput(Throughput::Bytes(pages.as_flattened().len() as u64));
    let fingerprinter = Fingerprinter::new(&[1; 32], &Domain::named("bench"), CHUNKS_DEFAULT);
    group.bench_function("fingerprint", |bencher| {
        bencher
            .iter(|| pages.iter().map(|page| fingerprinter.fingerprint(page).chunks().len()).sum::<usize>());
    });
    group.bench_function("compare", |bencher| {
        bencher.iter(|| {
            base.iter().zip(&pages).map(|(base, page)| Similarity::of(base, page).0 as u32).sum::<u32>()
        });
    });
    group.finish();
}

/// Fingerprints of random pages, looked up a megabyte of pages at a time: every second of them is known.
fn registry(criterion: &mut Criterion) {
    const BATCH: usize = 256;
    let fingerprint = |page: usize| -> Fingerprint {
        (0..CHUNKS_DEFAULT).map(|nth| ChunkHash(random(page as u64, nth) as u32)).collect()
    };
    let domain = Domain::named("bench");
    let mut group = criterion.benchmark_group("registry");
    for pages in [13_000, 1_000_000] {
        let mut registry = MemoryRegistry::new();
        let base = |page: usize| BasePage { image: BaseImage(page as u32 >> 14), page: page as u32 & 0x3fff };
        let announced: Vec<_> = (0..pages).map(|page| (base(page), fingerprint(page))).collect();
        registry.announce(&domain, &announced);
        println!(
            "{} chunks: {:.1} bytes each",
            registry.chunk_count(),
            registry.heap_bytes() as f64 / registry.chunk_count() as f64
        );
        let wanted: Vec<Fingerprint> =
            (0..64 * BATCH).map(|nth| fingerprint(random(7, nth) as usize % (2 * pages))).collect();
        group.throughput(Throughput::Elements(wanted.len() as u64));
        group.bench_function(format!("lookup among {pages} pages"), |bencher| {
            bencher.iter(|| {
                let known = |batch| registry.lookup(&domain, batch, None).iter().flatten().count();
                wanted.chunks(BATCH).map(known).sum::<usize>()
            });
        });
        group.sample_size(10);
        group.bench_function(format!("announce and forget 13000 of {pages} pages"), |bencher| {
            let more: Vec<_> = (0..13_000)
                .map(|nth| {
                    let base = BasePage { image: BaseImage(u32::MAX - 1), page: nth };
                    (base, fingerprint(usize::MAX - nth as usize))
                })
                .collect();
            bencher.iter(|| {
                registry.announce(&domain, &more);
                registry.forget(&domain, BaseImage(u32::MAX - 1));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, measures, patch, find, registry);
criterion_main!(benches);
