//! Bytes that rot in the arena are noticed, whatever the rot does to the decoder.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::hot::make_hot;
use crate::specimen::{self, Hint, Sandbox, Specimen, addr, read_page, sandbox, sandbox_like};
use crate::store::odd_relocation;
use pages::{
    Arena, ArenaError, Domain, FillError, HeapArena, Heat, PAGE_SIZE, PackedRelocation, PageRange, PlanError,
    Scratch, Store, fuzzing,
};
use proptest::prelude::*;

/// An arena that gives out what was put until it rots; then byte `rotten - 1` of every blob has other bits.
struct RottingArena {
    heap: HeapArena,
    rotten: AtomicUsize,
    bits: u8,
}

/// As it was put, and with each byte rotten.
struct Blob {
    sound: Box<[u8]>,
    rotten: Vec<Box<[u8]>>,
}

impl Arena for RottingArena {
    type Blob = Blob;

    fn put(&self, bytes: &[u8], align: usize) -> Result<Blob, ArenaError> {
        let rotten = (0..bytes.len()).map(|at| {
            let mut rotten = bytes.to_vec();
            rotten[at] ^= self.bits;
            rotten.into()
        });
        Ok(Blob { sound: self.heap.put(bytes, align)?, rotten: rotten.collect() })
    }

    fn get<'a>(&'a self, blob: &'a Blob) -> &'a [u8] {
        match self.rotten.load(Ordering::Relaxed).checked_sub(1) {
            Some(at) => &blob.rotten[at % blob.rotten.len()],
            None => &blob.sound,
        }
    }

    fn remove(&self, blob: Blob) {
        self.heap.remove(blob.sound);
    }

    fn used_bytes(&self) -> u64 {
        self.heap.used_bytes()
    }

    fn held_bytes(&self) -> u64 {
        self.heap.held_bytes()
    }
}

/// Puts `pages`, lets each byte rot in turn, and reads: right bytes or an error, and an error for at least
/// `noticed_min` bytes of the blob. (Flipping a bit that the decoder ignores damages nothing.)
#[track_caller]
fn check(pages: &[Specimen], heat: Heat, bits: u8, noticed_min: usize) {
    let arena = RottingArena { heap: HeapArena::new(u64::MAX), rotten: AtomicUsize::new(0), bits };
    let store = Store::new(arena, [3; 32]);
    let sandbox = sandbox(&store, &Domain::named("a"), heat, pages);
    let plan = store.plan_all(&sandbox.manifest).unwrap();
    let mut scratch = Scratch::new();
    let mut noticed = 0;
    for rotten in 1..=store.arena().used_bytes() as usize {
        store.arena().rotten.store(rotten, Ordering::Relaxed);
        let mut fill = |start, bytes: &[u8]| {
            let page = &sandbox.memory[&start];
            assert!(bytes[..PAGE_SIZE] == page[..], "{start} was handed out wrong");
            Ok::<_, PlanError>(())
        };
        let filled = plan.jobs()[0].decode(&mut scratch, &mut fill);
        match read_page(&store, &sandbox.manifest, addr(0), &mut scratch) {
            Ok(page) => assert!(page[..] == sandbox.memory[&addr(0)][..]),
            Err(error) => assert_eq!(error, FillError::Damaged { addr: addr(0) }),
        }
        noticed += usize::from(matches!(filled, Err(FillError::Damaged { .. })));
    }
    assert!(noticed >= noticed_min, "{noticed} damages noticed");
    // Rotten bytes are equal to nothing: what is put now is kept anew, and right.
    let again = store.put(&Domain::named("a"), &specimen::content(pages), heat);
    assert!(again.is_err(), "the arena is rotten when it is read back");
    store.arena().rotten.store(0, Ordering::Relaxed);
    sandbox.assert_reads_back(&store, &[]);
}

#[test]
fn no_rotten_byte_is_ever_handed_out() {
    check(&[Specimen::Text(1), Specimen::Text(2)], Heat::Hot, 0x10, 1000);
    check(&[Specimen::Text(1), Specimen::Text(2)], Heat::Cold, 0x10, 1000);
    check(&[Specimen::Text(1), Specimen::Text(2)], Heat::Hot, 0xff, 1000);
    check(&[Specimen::Text(1), Specimen::Text(2)], Heat::Cold, 0xff, 1000);
    check(&[Specimen::Random(1)], Heat::Cold, 0x01, PAGE_SIZE);
}

/// An arena in which any blob can become other bytes.
struct TamperedArena {
    heap: HeapArena,
    /// As they were put, and what they are now. By number.
    blobs: Mutex<HashMap<usize, [&'static [u8]; 2]>>,
    next: AtomicUsize,
}

/// A number, and what it keeps in the heap.
struct Tamperable(usize, Box<[u8]>);

impl Arena for TamperedArena {
    type Blob = Tamperable;

    fn put(&self, bytes: &[u8], align: usize) -> Result<Tamperable, ArenaError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let leaked: &'static [u8] = bytes.to_vec().leak(); // Given out for as long as the arena lives.
        self.blobs.lock().unwrap().insert(number, [leaked; 2]);
        Ok(Tamperable(number, self.heap.put(bytes, align)?))
    }

    fn get<'a>(&'a self, blob: &'a Tamperable) -> &'a [u8] {
        self.blobs.lock().unwrap()[&blob.0][1]
    }

    fn remove(&self, blob: Tamperable) {
        self.heap.remove(blob.1);
    }

    fn used_bytes(&self) -> u64 {
        self.heap.used_bytes()
    }

    fn held_bytes(&self) -> u64 {
        self.heap.held_bytes()
    }
}

/// What becomes of one blob.
#[derive(Clone, Copy, Debug)]
enum Tamper {
    Flip { at: usize, bits: u8 },
    Swap { with: usize },
    Cut { len_bytes: usize },
}

fn tampers() -> impl Strategy<Value = Vec<(usize, Tamper)>> {
    let one = prop_oneof![
        4 => (any::<usize>(), 1..=255u8).prop_map(|(at, bits)| Tamper::Flip { at, bits }),
        2 => any::<usize>().prop_map(|with| Tamper::Swap { with }),
        1 => any::<usize>().prop_map(|len_bytes| Tamper::Cut { len_bytes }),
    ];
    prop::collection::vec((any::<usize>(), one), 1..6)
}

impl TamperedArena {
    fn tamper(&self, nth: usize, tamper: Tamper) {
        let mut blobs = self.blobs.lock().unwrap();
        let (nth, count) = (nth % blobs.len(), blobs.len());
        let [put, now] = blobs[&nth];
        let mut bytes = now.to_vec();
        match tamper {
            Tamper::Flip { at, bits } if !bytes.is_empty() => {
                let at = at % bytes.len();
                bytes[at] ^= bits;
            }
            Tamper::Flip { .. } => {}
            Tamper::Swap { with } => bytes = blobs[&(with % count)][0].to_vec(),
            Tamper::Cut { len_bytes } => bytes.truncate(len_bytes % bytes.len().max(1)),
        }
        blobs.insert(nth, [put, bytes.leak()]);
    }
}

/// Every page comes back right, or not at all.
#[track_caller]
fn assert_never_wrong(store: &Store<TamperedArena>, sandbox: &Sandbox) {
    let mut scratch = Scratch::new();
    let plan = store.plan_all(&sandbox.manifest).unwrap();
    assert_eq!(plan.pages(), sandbox.manifest.content_page_count());
    for job in plan.jobs() {
        let mut fill = |start, bytes: &[u8]| {
            for (nth, page) in (0..).zip(bytes.chunks(PAGE_SIZE)) {
                assert!(page == &sandbox.memory[&(start + nth)][..], "{} was handed out wrong", start + nth);
            }
            Ok::<_, PlanError>(())
        };
        let filled = job.decode(&mut scratch, &mut fill);
        assert!(matches!(filled, Ok(()) | Err(FillError::Damaged { .. })), "{filled:?}");
    }
    for (&addr, page) in &sandbox.memory {
        match read_page(store, &sandbox.manifest, addr, &mut scratch) {
            Ok(read) => assert!(read[..] == page[..], "{addr} was read wrong"),
            Err(error) => assert_eq!(error, FillError::Damaged { addr }),
        }
    }
}

/// Two sandboxes, one kept as patches against the other; then blobs are tampered with, and a third sandbox is put as
/// patches against what is left.
#[track_caller]
fn check_patches(heat: Heat, base: &[Specimen], like: &[Specimen], tampers: &[(usize, Tamper)]) {
    let heap = HeapArena::new(u64::MAX);
    let arena = TamperedArena { heap, blobs: Mutex::default(), next: AtomicUsize::new(0) };
    let store = Store::new(arena, [3; 32]);
    let domain = Domain::named("a");
    let relocation = match heat {
        Heat::Cold => Arc::new(odd_relocation().pack()),
        Heat::Hot => Arc::new(PackedRelocation::none()), // Base pages and patches are decoded together.
    };
    let base = sandbox_like(&store, &domain, heat, base, Hint::BasePages);
    let hint = Hint::Sandbox(&base, &relocation);
    let patched = sandbox_like(&store, &domain, heat, like, hint);
    for (nth, tamper) in tampers {
        store.arena().tamper(*nth, *tamper);
    }
    assert_never_wrong(&store, &base);
    assert_never_wrong(&store, &patched);
    // What is damaged stays where it is, and is not made right by moving.
    [&base, &patched]
        .into_iter()
        .for_each(|sandbox| make_hot(&store, &domain, sandbox, Some(&base), &[PageRange::new(addr(0), 24)]));
    assert_never_wrong(&store, &base);
    assert_never_wrong(&store, &patched);
    let late: Vec<Specimen> = (0..like.len() as u16).map(|nth| Specimen::Near(nth % 4, 900 + nth)).collect();
    let late = sandbox_like(&store, &domain, heat, &late, hint);
    late.assert_reads_back(&store, &[]); // What is put now was read back, whatever its base had become.
    [base, patched, late].into_iter().for_each(|sandbox| store.release(sandbox.manifest));
    assert_eq!(store.stats(), Default::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn damaged_patches_and_bases_never_give_wrong_bytes(
        base in specimen::specimens(1..24), like in specimen::specimens(1..24), tampers in tampers(),
    ) { [Heat::Cold, Heat::Hot].into_iter().for_each(|heat| check_patches(heat, &base, &like, &tampers)); }
}

#[test]
fn patches_whose_base_was_swapped_are_noticed() {
    let base: Vec<Specimen> = (0..16).map(Specimen::Text).collect();
    let like: Vec<Specimen> = (0..16).map(|text| Specimen::Near(text, 100)).collect();
    for (nth, with) in [(0, 1), (2, 3), (0, 2), (2, 0)] {
        for heat in [Heat::Cold, Heat::Hot] {
            check_patches(heat, &base, &like, &[(nth, Tamper::Swap { with })]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_decode_to_damage(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::store_group(&data);
    }
}
