//! Bytes that rot in the arena are noticed, whatever the rot does to the decoder.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::specimen::{self, Specimen, addr, sandbox};
use pages::{
    Arena, ArenaError, Domain, FillError, HeapArena, Heat, PAGE_SIZE, ReadError, Scratch, Store, fuzzing,
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
            Ok::<_, ReadError>(())
        };
        let filled = plan.jobs()[0].decode(&mut scratch, &mut fill);
        let mut out = [0; PAGE_SIZE];
        let read = store.read_page(&sandbox.manifest, addr(0), &mut scratch, &mut out);
        assert!(read == Err(ReadError::Damaged { addr: addr(0) }) || out[..] == sandbox.memory[&addr(0)][..]);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_decode_to_damage(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::store_group(&data);
    }
}
