//! The manifest: for each page address of one sleeping process, how its page is kept. A process has some ten
//! thousand pages and few runs of them, so it is kept as runs: 16 bytes each, whatever their length.

use crate::{Encoding, PageAddr, PageRange, SlotId};

/// What stands at consecutive page addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Zero,
    /// The pages of consecutive slots, from this one on.
    Slots(SlotId),
}

impl Content {
    /// The content so many pages further on; `None` if slots do not go that far.
    pub(crate) fn plus(self, pages: u32) -> Option<Self> {
        match self {
            Self::Zero => Some(self),
            Self::Slots(first) => first.plus(pages).map(Self::Slots),
        }
    }
}

/// Consecutive addresses with zeros or with consecutive slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: PageAddr,
    pub(crate) pages: u32,
    pub(crate) content: Content,
}

impl Run {
    fn range(&self) -> PageRange {
        PageRange::new(self.start, u64::from(self.pages))
    }

    /// The part of it in `part`, which lies in it.
    fn part(&self, part: PageRange) -> Option<Self> {
        let content = self.content.plus(part.start().pages_since(self.start) as u32)?;
        Some(Self { start: part.start(), pages: part.pages() as u32, content })
    }

    /// The slots of its pages in `part`, which lies in it; none if they are zero.
    fn pages_in(&self, part: PageRange) -> impl Iterator<Item = (PageAddr, SlotId)> {
        let before = part.start().pages_since(self.start) as u32;
        (0..part.pages() as u32).map_while(move |nth| match self.content.plus(before + nth)? {
            Content::Zero => None,
            Content::Slots(slot) => Some((part.start() + u64::from(nth), slot)),
        })
    }

    /// Makes `next` part of this run, if it goes on where this one ends.
    fn absorb(&mut self, next: &Run) -> bool {
        let pages = self.pages.checked_add(next.pages);
        match pages {
            Some(pages)
                if self.range().end() == next.start
                    && self.content.plus(self.pages) == Some(next.content) =>
            {
                self.pages = pages;
                true
            }
            _ => false,
        }
    }
}

/// How the pages of one process are kept, by address. It owns one reference to a slot for each page that is not
/// zero, so it is not copied; [`Store::release`](crate::Store::release) ends it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    runs: Vec<Run>, // Sorted, apart from each other, and none of them empty.
}

impl Manifest {
    /// A manifest of runs that are sorted and do not overlap.
    pub(crate) fn from_runs(sorted: Vec<Run>) -> Self {
        let mut runs: Vec<Run> = Vec::with_capacity(sorted.len());
        for run in sorted {
            if !runs.last_mut().is_some_and(|last| last.absorb(&run)) {
                runs.push(run);
            }
        }
        runs.shrink_to_fit();
        Self { runs }
    }

    pub(crate) fn as_runs(&self) -> &[Run] {
        &self.runs
    }

    /// Takes what it says of `ranges`, which are sorted and do not overlap, out of it, with the references.
    pub fn split_off(&mut self, ranges: &[PageRange]) -> Self {
        let (mut kept, mut taken) = (Vec::new(), Vec::new());
        for run in &self.runs {
            let mut at = run.start;
            let first = ranges.partition_point(|range| range.end() <= at);
            for hole in ranges[first..].iter().map_while(|range| run.range().intersect(*range)) {
                kept.extend(run.part(PageRange::from_bounds(at, hole.start())));
                taken.extend(run.part(hole));
                at = hole.end();
            }
            kept.extend(run.part(PageRange::from_bounds(at, run.range().end())));
        }
        kept.retain(|run: &Run| run.pages > 0);
        *self = Self::from_runs(kept);
        Self::from_runs(taken)
    }

    /// What stands at `addr`; `None` if the manifest says nothing about it.
    pub fn get(&self, addr: PageAddr) -> Option<Content> {
        let behind = self.runs.partition_point(|run| run.start <= addr);
        let run = self.runs[..behind].last().filter(|run| run.range().contains(addr))?;
        run.content.plus(addr.pages_since(run.start) as u32)
    }

    /// All runs, upwards.
    pub fn runs(&self) -> impl Iterator<Item = (PageRange, Content)> {
        self.runs.iter().map(|run| (run.range(), run.content))
    }

    /// All addresses, as the longest ranges that hold nothing else.
    pub fn ranges(&self) -> impl Iterator<Item = PageRange> {
        joined(self.runs.iter().map(Run::range))
    }

    /// The addresses of pages that are not zero, likewise. These must never be seen empty.
    pub fn content_ranges(&self) -> impl Iterator<Item = PageRange> {
        joined(self.runs.iter().filter(|run| run.content != Content::Zero).map(Run::range))
    }

    /// The slot of each page that is not zero, with its address, upwards.
    pub fn pages(&self) -> impl Iterator<Item = (PageAddr, SlotId)> {
        self.runs.iter().flat_map(|run| run.pages_in(run.range()))
    }

    /// The same for pages in `ranges`, which are sorted and do not overlap.
    pub fn pages_in(&self, ranges: &[PageRange]) -> impl Iterator<Item = (PageAddr, SlotId)> {
        ranges.iter().flat_map(|range| {
            let first = self.runs.partition_point(|run| run.range().end() <= range.start());
            let met = self.runs[first..].iter().map_while(|run| Some((run, run.range().intersect(*range)?)));
            met.flat_map(|(run, part)| run.pages_in(part))
        })
    }

    /// The slot of each page that is not zero: every reference it owns.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotId> {
        self.pages().map(|(_, slot)| slot)
    }

    /// How many pages it tells of.
    pub fn page_count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.pages)).sum()
    }

    /// How many of them are not zero.
    pub fn content_page_count(&self) -> u64 {
        self.content_ranges().map(PageRange::pages).sum()
    }

    /// The memory it takes, as allocated.
    pub fn heap_bytes(&self) -> u64 {
        (self.runs.capacity() * size_of::<Run>()) as u64
    }
}

/// Sorted ranges, with those joined that touch.
fn joined(ranges: impl Iterator<Item = PageRange>) -> impl Iterator<Item = PageRange> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let mut whole = ranges.next()?;
        while let Some(next) = ranges.next_if(|next| next.start() == whole.end()) {
            whole = PageRange::from_bounds(whole.start(), next.end());
        }
        Some(whole)
    })
}

/// Collects encodings in any order.
#[derive(Debug, Default)]
pub struct ManifestBuilder {
    runs: Vec<Run>,
}

/// Two encodings for one address: the caller read a page twice. What was collected comes back, to be given back
/// to the store.
#[derive(Debug, thiserror::Error)]
#[error("two encodings for the page at {addr}")]
pub struct PushedTwice {
    /// The address.
    pub addr: PageAddr,
    /// Everything that was pushed.
    pub encodings: Vec<Encoding>,
}

impl ManifestBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the page at `addr` is kept.
    pub fn push(&mut self, addr: PageAddr, encoding: Encoding) {
        let content = encoding.slot().map_or(Content::Zero, Content::Slots);
        let run = Run { start: addr, pages: 1, content };
        if !self.runs.last_mut().is_some_and(|last| last.absorb(&run)) {
            self.runs.push(run);
        }
    }

    /// How the pages from `start` on are kept: what one `put` returned.
    pub fn extend(&mut self, start: PageAddr, encodings: &[Encoding]) {
        for (nth, &encoding) in encodings.iter().enumerate() {
            self.push(start + nth as u64, encoding);
        }
    }

    /// The manifest of everything that was pushed.
    pub fn build(mut self) -> Result<Manifest, PushedTwice> {
        self.runs.sort_unstable_by_key(|run| run.start);
        let overlap = self.runs.windows(2).find(|two| two[0].range().end() > two[1].start);
        match overlap.map(|two| two[1].start) {
            Some(addr) => Err(PushedTwice { addr, encodings: self.into_encodings() }),
            None => Ok(Manifest::from_runs(self.runs)),
        }
    }

    /// Everything that was pushed, to give it back to the store when a sleep is broken off.
    pub fn into_encodings(self) -> Vec<Encoding> {
        let manifest = Manifest { runs: self.runs }; // Perhaps not sorted, but only its slots are asked for.
        manifest.slots().map(Encoding::Same).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(number: u32) -> Encoding {
        Encoding::Packed(SlotId::new(number).unwrap())
    }

    fn addr(page: u64) -> PageAddr {
        PageAddr::default() + page
    }

    /// `pages` in any order, no page twice; the manifest must tell the same, in `runs` runs.
    #[track_caller]
    fn check(pages: &[(u64, Encoding)], runs: usize) {
        let mut builder = ManifestBuilder::new();
        for &(page, encoding) in pages {
            builder.push(addr(page), encoding);
        }
        let manifest = builder.build().unwrap();
        assert_eq!(manifest.runs().count(), runs);
        assert_eq!(manifest.page_count(), pages.len() as u64);
        for &(page, encoding) in pages {
            let content = encoding.slot().map_or(Content::Zero, Content::Slots);
            assert_eq!(manifest.get(addr(page)), Some(content));
            assert!(manifest.ranges().any(|range| range.contains(addr(page))));
            let has_content = manifest.content_ranges().any(|range| range.contains(addr(page)));
            assert_eq!(has_content, encoding != Encoding::Zero);
        }
        let ends = manifest.ranges().map(|range| range.end()).collect::<Vec<_>>();
        assert!(ends.iter().all(|&end| manifest.get(end).is_none()), "ranges are as long as can be");
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
    }

    #[test]
    fn consecutive_slots_at_consecutive_addresses_are_one_run() {
        check(&[(7, slot(1)), (8, slot(2)), (9, slot(3))], 1);
        check(&[(9, slot(3)), (8, slot(2)), (7, slot(1))], 1);
        check(&[(7, slot(1)), (8, slot(3))], 2);
        check(&[(7, slot(1)), (9, slot(2))], 2);
    }

    #[test]
    fn zeros_are_runs_of_their_own() {
        check(&[(1, Encoding::Zero), (2, Encoding::Zero), (3, slot(0)), (4, Encoding::Zero)], 3);
        check(&[], 0);
    }

    #[test]
    fn a_page_pushed_twice_gives_everything_back() {
        let mut builder = ManifestBuilder::new();
        builder.extend(addr(5), &[slot(1), slot(2), slot(3)]);
        builder.extend(addr(6), &[Encoding::Zero, slot(9)]);
        let PushedTwice { addr: twice, mut encodings } = builder.build().unwrap_err();
        assert_eq!(twice, addr(6));
        encodings.sort_by_key(|encoding| encoding.slot());
        assert_eq!(
            encodings.iter().filter_map(|e| e.slot()).map(SlotId::get).collect::<Vec<_>>(),
            [1, 2, 3, 9]
        );
    }

    /// Of `pages` those in `ranges` (first page, pages) are taken out; each must be in one manifest, and as it was.
    #[track_caller]
    fn check_split(pages: &[(u64, Encoding)], ranges: &[(u64, u64)]) {
        let mut builder = ManifestBuilder::new();
        pages.iter().for_each(|&(page, encoding)| builder.push(addr(page), encoding));
        let whole = builder.build().unwrap();
        let mut kept = Manifest::from_runs(whole.runs.clone());
        let ranges: Vec<_> =
            ranges.iter().map(|&(start, pages)| PageRange::new(addr(start), pages)).collect();
        let taken = kept.split_off(&ranges);
        assert_eq!(taken.page_count() + kept.page_count(), whole.page_count());
        for at in (0..300).map(addr) {
            let is_taken = ranges.iter().any(|range| range.contains(at));
            let (has, has_not) = if is_taken { (&taken, &kept) } else { (&kept, &taken) };
            assert_eq!((has.get(at), has_not.get(at)), (whole.get(at), None), "{at}");
        }
        assert!(taken.runs().chain(kept.runs()).all(|(range, _)| !range.is_empty()));
    }

    #[test]
    fn a_part_is_split_off_with_what_it_holds() {
        let pages: Vec<_> = (10..40u64).map(|page| (page, slot(page as u32))).collect();
        check_split(&pages, &[]);
        check_split(&pages, &[(0, 100)]);
        check_split(&pages, &[(0, 15), (20, 1), (22, 3), (39, 9)]);
        check_split(&[], &[(0, 15)]);
    }

    #[test]
    fn a_run_takes_sixteen_bytes() {
        assert_eq!(size_of::<Run>(), 16);
    }

    proptest! {
        #[test]
        fn a_manifest_tells_what_was_pushed(
            pages in prop::collection::hash_map(0u64..200, prop::option::of(0u32..50), 0..150),
        ) {
            let mut builder = ManifestBuilder::new();
            for (&page, &number) in &pages {
                builder.push(addr(page), number.map_or(Encoding::Zero, slot));
            }
            let runs = builder.build().unwrap().runs().count();
            let pages: Vec<_> = pages.into_iter().map(|(p, n)| (p, n.map_or(Encoding::Zero, slot))).collect();
            check(&pages, runs);
        }

        #[test]
        fn what_is_split_off_and_what_stays_are_the_whole(
            pages in prop::collection::hash_map(0u64..200, prop::option::of(0u32..50), 0..150),
            steps in prop::collection::vec((0u64..20, 1u64..20), 0..12),
        ) {
            let pages: Vec<_> = pages.into_iter().map(|(p, n)| (p, n.map_or(Encoding::Zero, slot))).collect();
            let mut at = 0;
            let ranges = steps.iter().map(|(gap, pages)| {
                at += gap + pages;
                (at - pages, *pages)
            });
            check_split(&pages, &ranges.collect::<Vec<_>>());
        }
    }
}
