//! Cuts the memory of a stopped process into what is read and put together, with what is known of it beforehand.

use std::sync::Arc;

use pages::{Heat, PackedRelocation, PageAddr, PageRange, SlotId};

use crate::batch::gather;
use crate::dedup::{Bed, DedupError};
use crate::likeness::{self, Twin};
use crate::lineage::Role;
use crate::survey::Survey;

/// Pages that one worker reads and encodes before it looks whether an invocation has come: about a millisecond.
pub(crate) const PAGES_PER_JOB: u64 = 128;

/// The same for pages that become patches, which takes longer: two milliseconds, and enough to fill some groups.
const TWINS_PER_JOB: usize = 64;

/// Pages that are read and put together.
pub(crate) struct Job {
    pub(crate) ranges: Vec<PageRange>,
    pub(crate) heat: Heat,
    /// What each is probably like; empty if nothing is known.
    pub(crate) slots: Vec<Option<SlotId>>,
}

/// Cuts what is to be read into jobs. Hot pages are put first, and apart: they leave the groups that they share with
/// cold ones, which are then packed anew. A request waits for them, and a patch takes as long again to decode: waking
/// comes first, so they are no patches.
pub(crate) fn jobs(
    survey: &Survey,
    bed: &Bed<'_>,
    at: usize,
) -> Result<(Vec<Job>, Arc<PackedRelocation>), DedupError> {
    let (hot, cold) = by_heat(survey.changed_runs().into_iter(), bed.working_set.of_process(at));
    let strange = |heat| move |ranges| Job { ranges, heat, slots: Vec::new() };
    let mut jobs: Vec<_> =
        gather(hot.into_iter(), PAGES_PER_JOB).into_iter().map(strange(Heat::Hot)).collect();
    let mut relocation = Arc::new(PackedRelocation::none()); // As for the same layout.
    let mut rest = cold;
    match &bed.role {
        Role::Alone | Role::Base(_) => {}
        Role::ByPlace(base) => {
            let by_place = |ranges: Vec<PageRange>| {
                let slots = base.slots_at(at, &ranges);
                Job { ranges, heat: Heat::Cold, slots }
            };
            jobs.extend(gather(rest.drain(..), PAGES_PER_JOB).into_iter().map(by_place));
        }
        Role::ByContent(bases) => {
            if let Some(likeness) = likeness::find(survey.pid, &rest, (bases, at), bed)? {
                rest = without(rest, &likeness.twins);
                jobs.extend(likeness.twins.chunks(TWINS_PER_JOB).map(by_content));
                relocation = likeness.relocation;
            }
        }
    }
    jobs.extend(gather(rest.into_iter(), PAGES_PER_JOB).into_iter().map(strange(Heat::Cold)));
    Ok((jobs, relocation))
}

/// Pages whose base pages lie in a few groups, by address: so they get consecutive slots.
fn by_content(twins: &[Twin]) -> Job {
    let mut twins = twins.to_vec();
    twins.sort_unstable_by_key(|twin| twin.addr);
    let runs = twins.chunk_by(|a, b| a.addr + 1 == b.addr);
    let ranges = runs.map(|run| PageRange::new(run[0].addr, run.len() as u64)).collect();
    Job { ranges, heat: Heat::Cold, slots: twins.iter().map(|twin| Some(twin.slot)).collect() }
}

/// The pages of `ranges` that are not among `twins`.
fn without(ranges: Vec<PageRange>, twins: &[Twin]) -> Vec<PageRange> {
    let mut taken: Vec<PageAddr> = twins.iter().map(|twin| twin.addr).collect();
    taken.sort_unstable();
    let mut taken = taken.into_iter().peekable();
    let mut left = Vec::new();
    for range in ranges {
        let mut start = range.start();
        while let Some(addr) = taken.next_if(|addr| *addr < range.end()) {
            left.push(PageRange::from_bounds(start, addr));
            start = addr + 1;
        }
        left.push(PageRange::from_bounds(start, range.end()));
    }
    left.retain(|range| !range.is_empty());
    left
}

/// Cuts `runs` into what lies in `hot`, which is sorted, and what does not.
fn by_heat(runs: impl Iterator<Item = PageRange>, hot: &[PageRange]) -> (Vec<PageRange>, Vec<PageRange>) {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for run in runs {
        let mut at = run.start();
        while at < run.end() {
            let next_hot = hot.partition_point(|range| range.end() <= at);
            let (pieces, until) = match hot.get(next_hot) {
                Some(range) if range.start() <= at => (&mut inside, range.end()),
                Some(range) => (&mut outside, range.start()),
                None => (&mut outside, run.end()),
            };
            let until = until.min(run.end());
            pieces.push(PageRange::from_bounds(at, until));
            at = until;
        }
    }
    (inside, outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, pages: u64) -> PageRange {
        PageRange::new(PageAddr::default() + start, pages)
    }

    fn twins(pages: &[(u64, u32)]) -> Vec<Twin> {
        let twin = |&(page, group)| {
            let (addr, slot) = (PageAddr::default() + page, SlotId::new(page as u32 + 100).unwrap());
            Twin { group, addr, slot }
        };
        pages.iter().map(twin).collect()
    }

    #[test]
    fn what_is_taken_out_of_ranges_leaves_the_rest() {
        let taken = twins(&[(9, 0), (0, 1), (2, 1), (3, 2)]);
        assert_eq!(
            without(vec![range(0, 5), range(8, 2), range(20, 1)], &taken),
            [range(1, 1), range(4, 1), range(8, 1), range(20, 1)]
        );
    }

    #[test]
    fn runs_are_cut_where_hot_pages_begin_and_end() {
        let (hot, cold) = by_heat([range(0, 4), range(6, 4)].into_iter(), &[range(2, 5), range(9, 9)]);
        assert_eq!(hot, [range(2, 2), range(6, 1), range(9, 1)]);
        assert_eq!(cold, [range(0, 2), range(7, 2)]);
    }

    #[test]
    fn a_job_by_content_reads_upwards() {
        let job = by_content(&twins(&[(7, 1), (8, 1), (3, 2)]));
        assert_eq!(job.ranges, [range(3, 1), range(7, 2)]);
        assert_eq!(job.slots, [103, 107, 108].map(SlotId::new));
    }
}
