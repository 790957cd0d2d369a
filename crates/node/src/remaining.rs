//! Which pages of an address space are still out, and where in the manifest their content stands. The process runs
//! meanwhile: it may unmap memory, give it back, or move it somewhere else.

use std::collections::BTreeMap;

use pages::{PageAddr, PageRange};

/// Moves that may wait for their end: one for each thread of the program.
const MOVES_MAX: usize = 4096;

/// Runs of pages by their address now; each with the address under which the manifest knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remaining {
    runs: BTreeMap<u64, Run>,
    /// Old places of moves whose end is still to be told.
    left_places: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    end: u64,
    source: u64,
}

impl Remaining {
    /// Everything in `ranges`, which do not overlap.
    pub(crate) fn of(ranges: impl IntoIterator<Item = PageRange>) -> Remaining {
        let run = |range: PageRange| {
            let (start, end) = (range.start().get(), range.end().get());
            (start, Run { end, source: start })
        };
        Remaining { runs: ranges.into_iter().map(run).collect(), left_places: Vec::new() }
    }

    /// The same for a child that was forked now: what other threads of the parent are about is not its business.
    pub(crate) fn of_child(&self) -> Remaining {
        Remaining { runs: self.runs.clone(), left_places: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Where the content of the page at `addr` stands; `None`: it is not out.
    pub(crate) fn source_of(&self, addr: PageAddr) -> Option<PageAddr> {
        let (start, run) = self.runs.range(..=addr.get()).next_back()?;
        (addr.get() < run.end).then(|| PageAddr::containing(run.source + (addr.get() - start)))
    }

    /// The first page that is out: its address now, and the one under which the manifest knows it.
    pub(crate) fn first(&self) -> Option<(PageAddr, PageAddr)> {
        let (start, run) = self.runs.first_key_value()?;
        Some((PageAddr::containing(*start), PageAddr::containing(run.source)))
    }

    /// The kernel tells a move twice: by itself, and as the unmapping of the old place.
    pub(crate) fn moved(&mut self, from: u64, to: u64, len_bytes: u64) {
        self.shift(from, to, len_bytes);
        if self.left_places.len() >= MOVES_MAX {
            self.left_places.clear(); // Moves that leave the old place mapped are never told again.
        }
        self.left_places.push((from, from + len_bytes));
    }

    /// The range is unmapped. If a move left it, what stands there now was moved there by another thread since.
    pub(crate) fn unmapped(&mut self, start: u64, end: u64) {
        match self.left_places.iter().position(|place| *place == (start, end)) {
            Some(at) => drop(self.left_places.swap_remove(at)),
            None => self.remove(start, end),
        }
    }

    /// The range is filled, or given back.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        self.cut(start);
        self.cut(end);
        let inside: Vec<u64> = self.runs.range(start..end.max(start)).map(|(at, _)| *at).collect();
        for at in inside {
            self.runs.remove(&at);
        }
    }

    /// The range moved; what stood at its new place is gone.
    fn shift(&mut self, from: u64, to: u64, len_bytes: u64) {
        self.cut(from);
        self.cut(from + len_bytes);
        let moved: Vec<(u64, Run)> =
            self.runs.range(from..from + len_bytes).map(|(at, run)| (*at, *run)).collect();
        self.remove(from, from + len_bytes);
        self.remove(to, to + len_bytes);
        for (start, run) in moved {
            let end = run.end - from + to;
            self.runs.insert(start - from + to, Run { end, source: run.source });
        }
    }

    /// Makes `at` a border between runs.
    fn cut(&mut self, at: u64) {
        let Some((start, run)) = self.runs.range_mut(..at).next_back() else { return };
        if at < run.end {
            let after = Run { end: run.end, source: run.source + (at - start) };
            run.end = at;
            self.runs.insert(at, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pages::PAGE_SIZE;
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Remove(u64, u64),
        Shift(u64, u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..64u64, 1..16u64).prop_map(|(at, pages)| Step::Remove(at, pages)),
            // As with `mremap`, the old and the new place do not overlap.
            (0..32u64, 0..24u64, 1..8u64).prop_map(|(from, to, pages)| Step::Shift(from, 40 + to, pages)),
            (40..64u64, 0..24u64, 1..8u64).prop_map(|(from, to, pages)| Step::Shift(from, to, pages)),
        ]
    }

    /// Plays `steps` on runs and, page by page, on a plain map; both must tell the same.
    #[track_caller]
    fn check(steps: &[Step]) {
        let ranges =
            [(2, 10), (12, 30), (31, 32)].map(|(a, b)| PageRange::new(PageAddr::containing(a * PAGE), b - a));
        let mut remaining = Remaining::of(ranges);
        let mut model: BTreeMap<u64, u64> = ranges
            .iter()
            .flat_map(|r| r.start().get() / PAGE..r.end().get() / PAGE)
            .map(|p| (p, p))
            .collect();
        for step in steps {
            match *step {
                Step::Remove(at, pages) => {
                    remaining.remove(at * PAGE, (at + pages) * PAGE);
                    model.retain(|page, _| !(at..at + pages).contains(page));
                }
                Step::Shift(from, to, pages) => {
                    remaining.shift(from * PAGE, to * PAGE, pages * PAGE);
                    let moved: Vec<_> = (from..from + pages).map(|page| model.remove(&page)).collect();
                    for (page, source) in (to..).zip(moved) {
                        model.remove(&page);
                        model.extend(source.map(|source| (page, source)));
                    }
                }
            }
            for page in 0..80 {
                let source = remaining.source_of(PageAddr::containing(page * PAGE));
                assert_eq!(source.map(|addr| addr.get() / PAGE), model.get(&page).copied(), "page {page}");
            }
            let first = remaining.first().map(|(addr, known)| (addr.get() / PAGE, known.get() / PAGE));
            assert_eq!(first, model.first_key_value().map(|(page, source)| (*page, *source)));
            assert_eq!(remaining.is_empty(), model.is_empty());
        }
    }

    #[test]
    fn the_end_of_a_move_does_not_forget_what_another_thread_moved_there() {
        let range = |from: u64, pages| PageRange::new(PageAddr::containing(from * PAGE), pages);
        let source = |remaining: &Remaining, page: u64| {
            remaining.source_of(PageAddr::containing(page * PAGE)).map(|addr| addr.get() / PAGE)
        };
        let mut remaining = Remaining::of([range(0, 4), range(10, 4)]);
        remaining.moved(0, 20 * PAGE, 4 * PAGE); // One thread leaves the place,
        remaining.moved(10 * PAGE, 0, 4 * PAGE); // another takes it,
        remaining.unmapped(0, 4 * PAGE); // and only now the first one's end is told.
        assert_eq!(source(&remaining, 1), Some(11));
        assert_eq!(source(&remaining, 21), Some(1));
        remaining.unmapped(10 * PAGE, 14 * PAGE);
        remaining.unmapped(0, 4 * PAGE); // This time it is meant.
        assert_eq!(source(&remaining, 1), None);
        assert_eq!(source(&remaining, 21), Some(1));
    }

    proptest! {
        #[test]
        fn runs_tell_the_same_as_a_map_of_pages(steps in prop::collection::vec(step(), 0..40)) {
            check(&steps);
        }
    }
}
