//! Learns a relocation from pages that correspond.

use hashbrown::HashMap;

use super::{PAGE_BITS, PAGE_NUMBER_END, Relocation, Run};
use crate::PageRange;
use crate::page_id::Page;
use crate::word::{may_correspond, words};

/// A page takes part when this many more pointers into it agree than disagree: a single one may be chance.
const LEAD_MIN: u32 = 2;

/// Over so many pages that nothing points to, a run goes on: it is cheaper than to end and begin again.
const RUN_GAP_PAGES: u64 = 64;

/// Pages that can be voted on: an image of 4 GiB. Votes for more are not counted.
const VOTED_PAGES_MAX: usize = 1 << 20;

/// The distance that leads in the vote of one page, and by how much.
#[derive(Clone, Copy, Debug, Default)]
struct Vote {
    delta: u64,
    lead: u32,
}

/// Collects votes. Costs about 24 bytes for each page that is pointed to.
#[derive(Debug)]
pub struct RelocationBuilder {
    /// First page number and the one behind the last, in order.
    mapped: Vec<(u64, u64)>,
    votes: HashMap<u64, Vote>,
}

impl RelocationBuilder {
    /// `mapped`: everything that is mapped in the process of the base image, also files and what is not resident.
    /// A word that does not point there is no pointer.
    pub fn new(mapped: impl IntoIterator<Item = PageRange>) -> Self {
        let number = |range: PageRange| {
            (range.start().get() >> PAGE_BITS, (range.end().get() >> PAGE_BITS).min(PAGE_NUMBER_END))
        };
        let mut ranges: Vec<_> = mapped.into_iter().map(number).filter(|range| range.0 < range.1).collect();
        ranges.sort_unstable();
        let mut mapped: Vec<(u64, u64)> = Vec::new();
        for range in ranges {
            match mapped.last_mut() {
                Some(last) if range.0 <= last.1 => last.1 = last.1.max(range.1),
                _ => mapped.push(range),
            }
        }
        Self { mapped, votes: HashMap::new() }
    }

    /// Learns from a base page and the page that corresponds to it in the other process.
    pub fn learn(&mut self, base: &Page, page: &Page) {
        let mut range = (0, 0);
        for (from, to) in words(base).iter().zip(words(page)) {
            let (from, to) = (u64::from_le_bytes(*from), u64::from_le_bytes(*to));
            let number = from >> PAGE_BITS;
            if !may_correspond(from, to) {
                continue;
            }
            if !(range.0..range.1).contains(&number) {
                let behind = self.mapped.partition_point(|range| range.0 <= number);
                range = behind.checked_sub(1).map_or((0, 0), |place| self.mapped[place]);
                if number >= range.1 {
                    continue;
                }
            }
            self.vote(number, to.wrapping_sub(from));
        }
    }

    fn vote(&mut self, page: u64, delta: u64) {
        if self.votes.len() >= VOTED_PAGES_MAX && !self.votes.contains_key(&page) {
            return;
        }
        let vote = self.votes.entry(page).or_default();
        if vote.delta == delta {
            vote.lead = vote.lead.saturating_add(1);
        } else if vote.lead == 0 {
            *vote = Vote { delta, lead: 1 };
        } else {
            vote.lead -= 1;
        }
    }

    /// Adds what another builder has learned, from other pages of the same two processes.
    pub fn merge(&mut self, other: Self) {
        for (page, theirs) in other.votes {
            if self.votes.len() >= VOTED_PAGES_MAX && !self.votes.contains_key(&page) {
                continue;
            }
            let ours = self.votes.entry(page).or_default();
            if ours.delta == theirs.delta {
                ours.lead = ours.lead.saturating_add(theirs.lead);
            } else if ours.lead >= theirs.lead {
                ours.lead -= theirs.lead;
            } else {
                *ours = Vote { delta: theirs.delta, lead: theirs.lead - ours.lead };
            }
        }
    }

    /// What was learned.
    pub fn build(self) -> Relocation {
        let decided = self.votes.into_iter().filter(|(_, vote)| vote.lead >= LEAD_MIN);
        let mut decided: Vec<(u64, u64)> = decided.map(|(page, vote)| (page, vote.delta)).collect();
        decided.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for (page, delta) in decided {
            match runs.last_mut() {
                Some(run) if run.delta == delta && page - run.end() <= RUN_GAP_PAGES => {
                    run.pages = (page + 1 - run.first) as u32; // At most as many pages as were voted on, 64 times.
                }
                _ => runs.push(Run { first: page, pages: 1, delta }),
            }
        }
        runs.retain(|run| run.delta != 0);
        Relocation::new(runs)
    }
}
