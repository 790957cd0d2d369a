//! Free runs of a numbered space, merged with their neighbours and found by size. What is numbered (bytes of an
//! arena, slots of a table) is the owner's business.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The free runs. No two of them touch.
#[derive(Debug, Default)]
pub(crate) struct FreeRuns {
    len_by_start: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
    total: u64,
}

impl FreeRuns {
    /// Frees `run` and returns the free run that it is now part of; `None`, and no change, if it is empty or
    /// some of it is free already.
    pub(crate) fn insert(&mut self, run: Range<u64>) -> Option<Range<u64>> {
        let before = self.len_by_start.range(..run.end).next_back().map(|(&start, &len)| start..start + len);
        if run.is_empty() || before.as_ref().is_some_and(|b| b.end > run.start) {
            return None;
        }
        let after = self.len_by_start.get(&run.end).map(|&len| run.end..run.end + len);
        let mut merged = run;
        if let Some(before) = before.filter(|b| b.end == merged.start) {
            self.forget(&before);
            merged.start = before.start;
        }
        if let Some(after) = after {
            self.forget(&after);
            merged.end = after.end;
        }
        self.remember(merged.clone());
        Some(merged)
    }

    /// Takes `part` out of the free `run` that holds it.
    pub(crate) fn carve(&mut self, run: Range<u64>, part: Range<u64>) {
        self.forget(&run);
        self.remember(run.start..part.start);
        self.remember(part.end..run.end);
    }

    /// Free runs of at least `len`, smallest first and lowest first among equals.
    pub(crate) fn fitting(&self, len: u64) -> impl Iterator<Item = Range<u64>> {
        self.by_len.range((len, 0)..).map(|&(len, start)| start..start + len)
    }

    /// The longest free run.
    pub(crate) fn longest(&self) -> Option<Range<u64>> {
        self.by_len.last().map(|&(len, start)| start..start + len)
    }

    /// The free run that ends the space, if it ends at `end`.
    pub(crate) fn ending_at(&self, end: u64) -> Option<Range<u64>> {
        self.len_by_start
            .last_key_value()
            .map(|(&start, &len)| start..start + len)
            .filter(|run| run.end == end)
    }

    /// How much is free.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The heap it takes, about: a B-tree is two thirds full, and each run stands in two.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.by_len.len() * (2 * 16) * 3 / 2
    }

    fn remember(&mut self, run: Range<u64>) {
        let len = run.end - run.start;
        if len > 0 {
            self.len_by_start.insert(run.start, len);
            self.by_len.insert((len, run.start));
            self.total += len;
        }
    }

    fn forget(&mut self, run: &Range<u64>) {
        let len = run.end - run.start;
        if self.by_len.remove(&(len, run.start)) {
            self.len_by_start.remove(&run.start);
            self.total -= len;
        }
    }
}
