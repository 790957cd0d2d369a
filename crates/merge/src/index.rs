//! Where which content is: the pages of all processes of one sharing domain.
//!
//! A page is a candidate once its content has been seen in a second place, in another process or in its own. Contents
//! that are seen once are known by hash alone, so nothing is handed out that only one process has.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use pages::{PageAddr, PageRange};

use crate::PageHash;
use crate::block::{self, Block};

/// The pages of the processes of one sharing domain, by content. A process goes by its number: whoever keeps an index
/// forgets a process before its number can come to mean another one.
#[derive(Debug)]
pub struct Index {
    pages_max: usize,
    pages: usize,
    processes: BTreeMap<i32, Known>,
    seen: HashMap<PageHash, Seen>,
}

/// What is known of one process.
#[derive(Debug, Default)]
struct Known {
    blocks: BTreeMap<u64, Box<Block>>,
    has_news: bool,
}

/// In how many places one content is.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// In one, of this process.
    Once(i32),
    /// In as many. It may be one again, of a process that is not remembered.
    Often(u32),
}

impl Index {
    /// An empty index that takes `pages_max` pages: what is inserted beyond that is not looked at. Each costs some ten
    /// bytes, and each content some thirty more.
    pub fn new(pages_max: usize) -> Self {
        Self { pages_max, pages: 0, processes: BTreeMap::new(), seen: HashMap::new() }
    }

    /// Notes what a page of a process holds now, in place of what was known of it. `false`: the index is full.
    pub fn insert(&mut self, process: i32, page: PageAddr, hash: PageHash) -> bool {
        let (number, at) = block::place(page);
        let known = self.processes.entry(process).or_default();
        let before = known.blocks.get(&number).and_then(|block| block.get(at));
        if before == Some(hash) {
            return true;
        }
        if before.is_none() {
            if self.pages >= self.pages_max {
                return false;
            }
            self.pages += 1;
        }
        known.blocks.entry(number).or_default().set(at, hash);
        if let Some(before) = before {
            self.lose(before);
        }
        self.see(process, hash);
        true
    }

    /// Forgets the pages of a process in `range`: they are gone, or nothing is known of them any more.
    pub fn remove(&mut self, process: i32, range: PageRange) {
        self.retain_in(process, range, |_| false);
    }

    /// Forgets all pages of a process but those in `runs`, which are in order: these are the ones that it has.
    pub fn keep_only(&mut self, process: i32, runs: &[PageRange]) {
        let all = PageRange::from_bounds(PageAddr::default(), PageAddr::containing(u64::MAX));
        self.retain_in(process, all, |page| {
            let after = runs.partition_point(|run| run.start() <= page);
            after.checked_sub(1).is_some_and(|at| runs[at].contains(page))
        });
    }

    /// Forgets a process. What others have in common with it alone is no candidate any more.
    pub fn forget(&mut self, process: i32) {
        let Some(known) = self.processes.remove(&process) else { return };
        for (number, block) in &known.blocks {
            for (_, hash) in block.pages(*number) {
                self.pages -= 1;
                self.lose(hash);
            }
        }
    }

    /// The pages of a process whose content is in a second place, as runs of page addresses in order.
    pub fn candidates(&self, process: i32) -> Vec<PageRange> {
        let mut runs: Vec<PageRange> = Vec::new();
        let Some(known) = self.processes.get(&process) else { return runs };
        let pages = known.blocks.iter().flat_map(|(number, block)| block.pages(*number));
        for (page, _) in pages.filter(|(_, hash)| self.places(*hash) > 1) {
            match runs.last_mut() {
                Some(run) if run.end() == page => *run = PageRange::new(run.start(), run.pages() + 1),
                _ => runs.push(PageRange::new(page, 1)),
            }
        }
        runs
    }

    /// The processes that may have candidates which they had not when this was asked last.
    pub fn take_news(&mut self) -> Vec<i32> {
        let told =
            |(process, known): (&i32, &mut Known)| std::mem::take(&mut known.has_news).then_some(*process);
        self.processes.iter_mut().filter_map(told).collect()
    }

    /// Pages that are known, of all processes.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// What the index takes, in bytes.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.processes.values().map(|known| known.blocks.len()).sum();
        // A map's nodes are at least half full.
        blocks * (size_of::<Block>() + 2 * size_of::<(u64, Box<Block>)>()) + self.seen.allocation_size()
    }

    /// Forgets the pages of a process in `range` that are not to be kept.
    fn retain_in(&mut self, process: i32, range: PageRange, keep: impl Fn(PageAddr) -> bool) {
        let Some(known) = self.processes.get_mut(&process).filter(|_| !range.is_empty()) else { return };
        let (first, last) = block::numbers(range);
        let mut lost = Vec::new();
        for (number, block) in known.blocks.range_mut(first..=last) {
            let before = lost.len();
            let goes = |page: &PageAddr| range.contains(*page) && !keep(*page);
            lost.extend(block.pages(*number).filter(|(page, _)| goes(page)));
            lost[before..].iter().for_each(|(page, _)| block.clear(block::place(*page).1));
        }
        for (page, _) in &lost {
            let number = block::place(*page).0;
            if known.blocks.get(&number).is_some_and(|block| block.is_empty()) {
                known.blocks.remove(&number);
            }
        }
        self.pages -= lost.len();
        lost.into_iter().for_each(|(_, hash)| self.lose(hash));
    }

    fn places(&self, hash: PageHash) -> u32 {
        match self.seen.get(&hash) {
            None => 0,
            Some(Seen::Once(_)) => 1,
            Some(Seen::Often(places)) => *places,
        }
    }

    /// One place more has this content: whoever has it has news, unless it was in two places before.
    fn see(&mut self, process: i32, hash: PageHash) {
        let before = match self.seen.entry(hash) {
            Entry::Vacant(entry) => {
                entry.insert(Seen::Once(process));
                return;
            }
            Entry::Occupied(mut entry) => {
                let places = if let Seen::Often(places) = entry.get() { *places } else { 1 };
                entry.insert(Seen::Often(places.saturating_add(1)))
            }
        };
        self.tell(process);
        match before {
            Seen::Once(first) => self.tell(first),
            Seen::Often(1) => self.processes.values_mut().for_each(|known| known.has_news = true),
            Seen::Often(_) => {}
        }
    }

    /// One place less has this content.
    fn lose(&mut self, hash: PageHash) {
        if let Entry::Occupied(mut entry) = self.seen.entry(hash) {
            match entry.get_mut() {
                Seen::Once(_) | Seen::Often(1) => drop(entry.remove()),
                Seen::Often(places) => *places -= 1,
            }
        }
    }

    fn tell(&mut self, process: i32) {
        if let Some(known) = self.processes.get_mut(&process) {
            known.has_news = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64) -> PageAddr {
        PageAddr::default() + number
    }

    fn run(start: u64, pages: u64) -> PageRange {
        PageRange::new(page(start), pages)
    }

    /// Process, page, content.
    fn index(pages: &[(i32, u64, u64)]) -> Index {
        let mut index = Index::new(1000);
        pages.iter().for_each(|(process, at, hash)| {
            assert!(index.insert(*process, page(*at), PageHash(*hash)));
        });
        index
    }

    #[track_caller]
    fn check(index: &Index, process: i32, expected: &[PageRange]) {
        assert_eq!(index.candidates(process), expected);
    }

    #[test]
    fn a_content_is_a_candidate_from_its_second_place_on() {
        let mut index = index(&[(1, 14, 7), (1, 15, 8), (1, 16, 9), (1, 18, 9)]);
        check(&index, 1, &[run(16, 1), run(18, 1)]);
        index.insert(2, page(5), PageHash(8));
        check(&index, 1, &[run(15, 2), run(18, 1)]);
        check(&index, 2, &[run(5, 1)]);
        check(&index, 3, &[]);
    }

    #[test]
    fn what_is_gone_or_has_changed_is_no_candidate() {
        let mut index = index(&[(1, 1, 7), (2, 1, 7), (3, 1, 7)]);
        index.forget(3);
        check(&index, 1, &[run(1, 1)]);
        index.insert(2, page(1), PageHash(8));
        check(&index, 1, &[]);
        index.insert(2, page(1), PageHash(7));
        check(&index, 1, &[run(1, 1)]);
        index.remove(2, run(0, 4));
        check(&index, 1, &[]);
        index.keep_only(1, &[]);
        assert_eq!((index.pages(), index.seen.len()), (0, 0));
    }

    #[test]
    fn who_has_new_candidates_is_told_once() {
        let mut index = index(&[(1, 1, 7), (2, 1, 8), (3, 1, 7)]);
        assert_eq!(index.take_news(), [1, 3]);
        assert_eq!(index.take_news(), [0; 0]);
        index.forget(1);
        index.insert(2, page(2), PageHash(7)); // Who else has it is not remembered.
        assert_eq!(index.take_news(), [2, 3]);
    }

    #[test]
    fn a_full_index_takes_changes_and_no_more_pages() {
        let mut index = Index::new(1);
        assert!(index.insert(1, page(1), PageHash(7)));
        assert!(index.insert(1, page(1), PageHash(8)));
        assert!(!index.insert(1, page(2), PageHash(7)));
        assert_eq!(index.pages(), 1);
    }
}
