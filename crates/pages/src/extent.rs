//! Which bytes of an arena are taken. It hands out places and takes them back; the memory behind the places
//! belongs to the arena, which learns here when a whole page of it can go back to the kernel.

use std::ops::Range;

use crate::PAGE_SIZE;
use crate::free_runs::FreeRuns;

/// Places start and end at multiples of this: a cache line, so that no two blobs share one.
pub const EXTENT_ALIGN: u64 = 64;

const PAGE_BYTES: u64 = PAGE_SIZE as u64;

/// Free extents that are tried for a place with a wide alignment before one is taken that is sure to fit.
const FITS_TRIED_MAX: usize = 32;

/// A best-fit allocator of places in a byte space of fixed capacity.
///
/// Small holes are filled first and low ones before high ones, so the space in use grows only when it must.
#[derive(Debug)]
pub struct Extents {
    capacity_bytes: u64,
    free: FreeRuns,
    held_bytes: u64,
}

impl Extents {
    /// An empty space of `capacity_bytes`, rounded down to whole pages.
    pub fn new(capacity_bytes: u64) -> Self {
        let capacity_bytes = capacity_bytes - capacity_bytes % PAGE_BYTES;
        let mut free = FreeRuns::default();
        free.insert(0..capacity_bytes);
        Self { capacity_bytes, free, held_bytes: 0 }
    }

    /// The start of a free place for `len` bytes, now taken. `align` is a power of two. `None` when it is full.
    pub fn allocate(&mut self, len: u64, align: u64) -> Option<u64> {
        let len = rounded(len)?;
        let align = align.max(EXTENT_ALIGN);
        let aligned = |free: &Range<u64>| free.start.checked_next_multiple_of(align);
        let fits = |free: &Range<u64>| aligned(free).is_some_and(|at| at < free.end && free.end - at >= len);
        let near = self.free.fitting(len).take(FITS_TRIED_MAX).find(fits);
        let free = near.or_else(|| self.free.fitting(len.checked_add(align)?).next().filter(fits))?;
        let start = aligned(&free)?;
        self.held_bytes += bytes_in(&whole_pages(&free, start, len));
        self.free.carve(free, start..start + len);
        Some(start)
    }

    /// Gives back the place of `len` bytes at `start`. Returns the pages, as a range of bytes, that now hold
    /// nothing at all and can be punched out; often it is empty. A place that was never taken changes nothing.
    pub fn free(&mut self, start: u64, len: u64) -> Range<u64> {
        let place = rounded(len).and_then(|len| Some(start..start.checked_add(len)?));
        let inside = place.filter(|p| p.end <= self.capacity_bytes && start.is_multiple_of(EXTENT_ALIGN));
        let Some(place) = inside else { return 0..0 };
        let Some(free) = self.free.insert(place.clone()) else { return 0..0 };
        let emptied = whole_pages(&free, start, place.end - place.start);
        self.held_bytes -= bytes_in(&emptied);
        emptied
    }

    /// Bytes in places that are taken.
    pub fn used_bytes(&self) -> u64 {
        self.capacity_bytes - self.free.total()
    }

    /// Bytes in pages that are taken at least in part.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The end of the last place that is taken: nothing behind it needs memory.
    pub fn end_bytes(&self) -> u64 {
        self.free.ending_at(self.capacity_bytes).map_or(self.capacity_bytes, |last| last.start)
    }

    /// How much it can hold.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }
}

/// `len` in whole units; an empty blob takes one, so that every place is its own.
fn rounded(len: u64) -> Option<u64> {
    len.max(1).checked_next_multiple_of(EXTENT_ALIGN)
}

/// The pages that lie wholly in `free` and that `len` bytes at `start` touch.
fn whole_pages(free: &Range<u64>, start: u64, len: u64) -> Range<u64> {
    let down = |at: u64| at - at % PAGE_BYTES;
    let up = |at: u64| at.next_multiple_of(PAGE_BYTES); // Capacities are whole pages: no overflow.
    let first = down(start).max(up(free.start));
    first..up(start + len).min(down(free.end)).max(first)
}

fn bytes_in(range: &Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Allocate { len: u64, align: u64 },
        Free { nth: usize },
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let len = prop_oneof![0u64..300, 1u64..20_000, Just(4096)];
        let align = prop_oneof![Just(1u64), Just(64), Just(4096), Just(65536)];
        let allocate = (len, align).prop_map(|(len, align)| Op::Allocate { len, align });
        let op = prop_oneof![3 => allocate, 2 => any::<usize>().prop_map(|nth| Op::Free { nth })];
        prop::collection::vec(op, 1..120)
    }

    /// The model is one flag for each unit of 64 bytes.
    struct Model {
        taken: Vec<bool>,
        places: Vec<(u64, u64)>,
    }

    impl Model {
        fn mark(&mut self, start: u64, len: u64, taken: bool) {
            let units = len.max(1).div_ceil(EXTENT_ALIGN);
            let first = (start / EXTENT_ALIGN) as usize;
            for unit in &mut self.taken[first..first + units as usize] {
                assert_ne!(*unit, taken, "two places overlap");
                *unit = taken;
            }
        }

        fn pages(&self) -> Vec<bool> {
            self.taken.chunks(64).map(|page| page.contains(&true)).collect()
        }
    }

    #[track_caller]
    fn check(capacity: u64, ops: &[Op]) {
        let mut extents = Extents::new(capacity);
        let mut model = Model { taken: vec![false; (capacity / 64) as usize], places: vec![] };
        let free = |extents: &mut Extents, model: &mut Model, nth: usize| {
            let (start, len) = model.places.swap_remove(nth);
            let before = model.pages();
            model.mark(start, len, false);
            let emptied = extents.free(start, len);
            for (nth, (was, is)) in before.into_iter().zip(model.pages()).enumerate() {
                assert_eq!(emptied.contains(&(nth as u64 * 4096)), was && !is, "page {nth}");
            }
        };
        for op in ops {
            match *op {
                Op::Allocate { len, align } => {
                    if let Some(start) = extents.allocate(len, align) {
                        assert!(start.is_multiple_of(align) && start.is_multiple_of(64));
                        model.mark(start, len, true);
                        model.places.push((start, len));
                    } else {
                        let run = (len.max(1) + align).div_ceil(64) as usize + 1;
                        assert!(!model.taken.windows(run).any(|w| !w.contains(&true)), "had room");
                    }
                }
                Op::Free { nth } if !model.places.is_empty() => {
                    let nth = nth % model.places.len();
                    free(&mut extents, &mut model, nth);
                }
                Op::Free { .. } => assert_eq!(extents.free(0, 64), 0..0),
            }
            assert_eq!(extents.used_bytes(), model.taken.iter().filter(|&&t| t).count() as u64 * 64);
            assert_eq!(extents.held_bytes(), model.pages().iter().filter(|&&p| p).count() as u64 * 4096);
            let end = model.taken.iter().rposition(|&t| t).map_or(0, |last| (last as u64 + 1) * 64);
            assert_eq!(extents.end_bytes(), end);
        }
        while !model.places.is_empty() {
            free(&mut extents, &mut model, 0);
        }
        assert_eq!((extents.used_bytes(), extents.held_bytes(), extents.end_bytes()), (0, 0, 0));
        assert_eq!(extents.allocate(capacity, 1), Some(0), "everything coalesced");
    }

    proptest! {
        #[test]
        fn places_never_overlap_and_coalesce_again(ops in ops()) { check(64 * 4096, &ops); }
    }

    #[test]
    fn what_was_never_taken_cannot_be_freed() {
        let mut extents = Extents::new(4 * 4096);
        assert_eq!(extents.allocate(100, 64), Some(0));
        for (start, len) in [(64, 128), (4096, 64), (0, u64::MAX), (u64::MAX - 63, 64), (1, 64)] {
            assert_eq!(extents.free(start, len), 0..0);
        }
        assert_eq!(extents.free(0, 100), 0..4096);
    }
}
