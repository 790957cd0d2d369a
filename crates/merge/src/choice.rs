//! Which ranges are worth it: each range that is marked may split a mapping in three, and each page in it is looked at
//! whether it has an equal or not.

use std::cmp::Reverse;

use pages::PageRange;

/// How ranges are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Candidates that are this many pages apart, or fewer, become one range.
    pub gap_pages: u64,
    /// Ranges with fewer candidates are left out.
    pub candidates_min: u64,
    /// The most ranges of one process; those with the most candidates are taken.
    pub ranges_max: usize,
}

impl Default for Choice {
    /// A mapping costs the kernel some 200 bytes and a split leaves two more: as much as looking at eight pages. All
    /// ranges together take a quarter of the mappings that a process may have by default.
    fn default() -> Self {
        Self { gap_pages: 8, candidates_min: 16, ranges_max: 8192 }
    }
}

impl Choice {
    /// The ranges that are worth it, in order. `candidates` and `mappings` are in order; only what lies in one of
    /// `mappings` is taken, and no range reaches from one into the next.
    pub fn ranges(&self, candidates: &[PageRange], mappings: &[PageRange]) -> Vec<PageRange> {
        let mut found = Vec::new();
        for mapping in mappings {
            let first = candidates.partition_point(|run| run.end() <= mapping.start());
            let inside = candidates[first..].iter().map_while(|run| run.intersect(*mapping));
            self.join(inside, &mut found);
        }
        if found.len() > self.ranges_max {
            found.sort_by_key(|(_, candidates)| Reverse(*candidates));
            found.truncate(self.ranges_max);
            found.sort();
        }
        found.into_iter().map(|(range, _)| range).collect()
    }

    /// Joins neighbours, and appends those that are worth it, with how many candidates each has.
    fn join(&self, runs: impl Iterator<Item = PageRange>, found: &mut Vec<(PageRange, u64)>) {
        let mut open: Option<(PageRange, u64)> = None;
        let is_worth = |(_, candidates): &(PageRange, u64)| *candidates >= self.candidates_min;
        for run in runs {
            match &mut open {
                Some((range, candidates)) if run.start().pages_since(range.end()) <= self.gap_pages => {
                    *range = PageRange::from_bounds(range.start(), run.end());
                    *candidates += run.pages();
                }
                _ => found.extend(open.replace((run, run.pages())).filter(is_worth)),
            }
        }
        found.extend(open.filter(is_worth));
    }
}

#[cfg(test)]
mod tests {
    use pages::PageAddr;

    use super::*;

    fn run(start: u64, pages: u64) -> PageRange {
        PageRange::new(PageAddr::default() + start, pages)
    }

    #[track_caller]
    fn check(choice: Choice, candidates: &[PageRange], mappings: &[PageRange], expected: &[PageRange]) {
        assert_eq!(choice.ranges(candidates, mappings), expected);
    }

    const CHOICE: Choice = Choice { gap_pages: 2, candidates_min: 4, ranges_max: 2 };

    #[test]
    fn neighbours_become_one_range_and_a_mapping_ends_it() {
        check(CHOICE, &[run(10, 2), run(14, 3), run(20, 3)], &[run(0, 100)], &[run(10, 7)]);
        check(CHOICE, &[run(10, 8)], &[run(0, 14), run(14, 4)], &[run(10, 4), run(14, 4)]);
        check(CHOICE, &[run(10, 8)], &[run(0, 12), run(40, 4)], &[]);
        check(CHOICE, &[], &[run(0, 12)], &[]);
    }

    #[test]
    fn of_too_many_the_best_are_taken() {
        let candidates = [run(0, 5), run(10, 4), run(20, 9)];
        check(CHOICE, &candidates, &[run(0, 100)], &[run(0, 5), run(20, 9)]);
    }
}
