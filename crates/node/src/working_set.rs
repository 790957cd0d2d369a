//! Which pages a wake needs: those touched between a restore and the end of the first invocation after it.

use pages::{PageAddr, PageRange};

/// For each process of a tree, in the order of the tree, the pages it touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkingSet {
    processes: Vec<Vec<PageRange>>,
}

impl WorkingSet {
    /// Sorted, disjoint ranges of the process that stands at `at` in the tree.
    pub(crate) fn of_process(&self, at: usize) -> &[PageRange] {
        self.processes.get(at).map_or(&[], Vec::as_slice)
    }

    /// All pages of all processes.
    pub(crate) fn pages(&self) -> u64 {
        self.processes.iter().flatten().map(|range| range.pages()).sum()
    }

    /// Adds pages that the process at `at` touched.
    pub(crate) fn add(&mut self, at: usize, touched: &[PageAddr]) {
        if self.processes.len() <= at {
            self.processes.resize_with(at + 1, Vec::new);
        }
        let known = self.processes[at].iter().flat_map(|range| range.addrs());
        let mut all: Vec<PageAddr> = known.chain(touched.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        self.processes[at] = ranges(&all);
    }
}

/// Joins sorted page addresses that follow each other.
fn ranges(pages: &[PageAddr]) -> Vec<PageRange> {
    pages.chunk_by(|a, b| *a + 1 == *b).map(|run| PageRange::new(run[0], run.len() as u64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_pages_join_into_ranges() {
        let mut set = WorkingSet::default();
        let page = |n: u64| PageAddr::containing(n * 4096);
        set.add(1, &[page(7), page(5), page(6)]);
        set.add(1, &[page(9), page(5), page(8)]);
        assert_eq!(set.of_process(0), []);
        assert_eq!(set.of_process(1), [PageRange::new(page(5), 5)]);
        assert_eq!(set.pages(), 5);
    }
}
