//! The slot table: one entry a page kept. Manifests name slots by number and run-length encode them, so pages
//! that come one after the other get numbers that do.

use std::num::NonZeroU32;
use std::ops::Range;

use crate::free_runs::FreeRuns;
use crate::page_id::PageId;

/// Slots are allocated by this many, so that the table never moves and never doubles.
const CHUNK: u32 = 1024;

/// A table with this part of its slots free uses up short free runs instead of growing.
const FREE_PART_MAX: u32 = 8;

/// One kept page, by number. Means something only together with the store that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(NonZeroU32); // The number + 1: so a run of zero pages and one of slots take the same room.

impl SlotId {
    /// The slot of that number, if numbers go that far.
    pub fn new(number: u32) -> Option<Self> {
        number.checked_add(1).and_then(NonZeroU32::new).map(Self)
    }

    /// Its number.
    pub fn get(self) -> u32 {
        self.0.get() - 1
    }

    /// The slot so many further on.
    pub fn plus(self, slots: u32) -> Option<Self> {
        self.0.checked_add(slots).map(Self)
    }
}

/// Where a page lies: 28 bits of group, 4 bits of place in the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    /// The highest group number: 2^28 groups hold 16 TiB of pages.
    pub(super) const GROUP_MAX: u32 = (1 << 28) - 1;

    pub(super) fn new(group: u32, index: usize) -> Self {
        Self(group << 4 | (index & 15) as u32)
    }

    pub(super) fn group(self) -> u32 {
        self.0 >> 4
    }

    pub(super) fn index(self) -> usize {
        (self.0 & 15) as usize
    }
}

/// One page kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) id: PageId,
    pub(super) place: Place,
    /// Pages of manifests that stand here. At least one.
    pub(super) refs: NonZeroU32,
}

/// All slots, in chunks. `None` is free; `refs` leaves room for it in the same 16 bytes.
#[derive(Default)]
pub(super) struct SlotTable {
    chunks: Vec<Box<[Option<Slot>]>>,
    len: u32,
    free: FreeRuns,
}

impl SlotTable {
    /// The slot, if it is in use.
    pub(super) fn get(&self, slot: SlotId) -> Option<&Slot> {
        let number = slot.get();
        self.chunks.get((number / CHUNK) as usize)?[(number % CHUNK) as usize].as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: SlotId) -> Option<&mut Slot> {
        let number = slot.get();
        self.chunks.get_mut((number / CHUNK) as usize)?[(number % CHUNK) as usize].as_mut()
    }

    /// Takes slots for `slots`, with numbers in as few runs as free space allows. `None`, and no change, if
    /// there are too many.
    pub(super) fn insert(&mut self, slots: &[Slot]) -> Option<Vec<SlotId>> {
        let mut wanted = u32::try_from(slots.len()).ok()?;
        self.len.checked_add(wanted).filter(|&len| len < u32::MAX)?;
        let mut numbers = Vec::with_capacity(slots.len());
        while wanted > 0 {
            let run = self.take_run(wanted);
            wanted -= run.end - run.start;
            numbers.extend(run.filter_map(SlotId::new));
        }
        for (&number, &slot) in numbers.iter().zip(slots) {
            self.set(number, Some(slot));
        }
        Some(numbers)
    }

    /// A free run of up to `wanted` slots, now taken: one that fits, or what is left over if much is left over,
    /// or new ones at the end.
    fn take_run(&mut self, wanted: u32) -> Range<u32> {
        let much_is_free = self.free.total() > u64::from(self.len / FREE_PART_MAX);
        let fits = self.free.fitting(u64::from(wanted)).next();
        let found = fits.or_else(|| self.free.longest().filter(|_| much_is_free));
        if let Some(run) = found {
            let taken = run.start..run.end.min(run.start + u64::from(wanted));
            self.free.carve(run, taken.clone());
            return taken.start as u32..taken.end as u32;
        }
        let taken = self.len..self.len + wanted;
        self.len = taken.end;
        while (self.chunks.len() as u64) * u64::from(CHUNK) < u64::from(self.len) {
            self.chunks.push(vec![None; CHUNK as usize].into());
        }
        taken
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, slot: SlotId) {
        self.set(slot, None);
        let number = u64::from(slot.get());
        if let Some(run) = self.free.insert(number..number + 1).filter(|run| run.end == u64::from(self.len)) {
            self.free.carve(run.clone(), run.clone());
            self.len = run.start as u32;
            self.chunks.truncate(self.len.div_ceil(CHUNK) as usize);
            if self.len == 0 {
                *self = Self::default();
            }
        }
    }

    fn set(&mut self, slot: SlotId, to: Option<Slot>) {
        let number = slot.get();
        if let Some(chunk) = self.chunks.get_mut((number / CHUNK) as usize) {
            chunk[(number % CHUNK) as usize] = to;
        }
    }

    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.len as usize - self.free.total() as usize
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.chunks.len() * CHUNK as usize * size_of::<Option<Slot>>()
            + self.chunks.capacity() * size_of::<Box<[Slot]>>()
            + self.free.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page_id::PageHasher;

    fn slots(count: usize) -> Vec<Slot> {
        let id = PageHasher::constant().page_id(&[0; crate::PAGE_SIZE]);
        vec![Slot { id, place: Place::default(), refs: NonZeroU32::MIN }; count]
    }

    /// Takes and frees runs: a positive number takes so many, a negative one frees the slot `-n - 1`. Then the
    /// numbers given to the last `insert` are `expected`.
    #[track_caller]
    fn check(steps: &[i64], expected: Range<u32>) {
        let mut table = SlotTable::default();
        let mut last = Vec::new();
        for &step in steps {
            match u32::try_from(-1 - step) {
                Ok(number) => table.remove(SlotId::new(number).unwrap()),
                Err(_) => last = table.insert(&slots(step as usize)).unwrap(),
            }
        }
        assert_eq!(last.iter().map(|slot| slot.get()).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_slot_takes_sixteen_bytes() {
        assert_eq!(size_of::<Option<Slot>>(), 16);
        assert_eq!(size_of::<Option<SlotId>>(), 4);
    }

    #[test]
    fn pages_that_come_together_get_slots_that_do() {
        check(&[16, 5], 16..21);
        check(&[16, -3, -4, -5, 3], 2..5);
        check(&[16, -3, 2], 16..18);
    }

    #[test]
    fn a_table_whose_end_is_freed_grows_shorter() {
        check(&[16, -15, -16, 4], 14..18);
        check(&[1, -1, 1], 0..1);
    }
}
