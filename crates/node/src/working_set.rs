//! Which pages a wake needs: those touched between a restore and the end of the first invocation after it.

use pages::PageRange;

use crate::ranges::{self, joined};

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
        self.processes.iter().map(|process| ranges::pages(process)).sum()
    }

    /// Adds all of another.
    pub(crate) fn join(&mut self, other: &WorkingSet) {
        other.processes.iter().enumerate().for_each(|(at, touched)| self.add(at, touched));
    }

    /// Adds pages that the process at `at` touched.
    pub(crate) fn add(&mut self, at: usize, touched: &[PageRange]) {
        if self.processes.len() <= at {
            self.processes.resize_with(at + 1, Vec::new);
        }
        let mut all = [&self.processes[at], touched].concat();
        all.sort_unstable();
        self.processes[at] = joined(all);
    }
}

#[cfg(test)]
mod tests {
    use pages::PageAddr;

    use super::*;

    #[test]
    fn touched_pages_join_into_ranges() {
        let mut set = WorkingSet::default();
        let page = |n: u64| PageAddr::containing(n * 4096);
        set.add(1, &[PageRange::new(page(7), 1), PageRange::new(page(5), 2)]);
        set.add(1, &[PageRange::new(page(8), 2), PageRange::new(page(5), 1)]);
        assert_eq!(set.of_process(0), []);
        assert_eq!(set.of_process(1), [PageRange::new(page(5), 5)]);
        assert_eq!(set.pages(), 5);
        let mut all = WorkingSet::default();
        all.add(0, &[PageRange::new(page(1), 1)]);
        all.join(&set);
        all.join(&WorkingSet::default());
        assert_eq!((all.of_process(0).len(), all.of_process(1)), (1, set.of_process(1)));
    }
}
