//! Cuts the memory of a stopped process into what is read and put together, with what is known of it beforehand.

use std::sync::Arc;

use pages::{Heat, PackedRelocation, PageRange, SlotId};

use crate::batch::gather;
use crate::dedup::{Bed, DedupError};
use crate::likeness::{self, Twin};
use crate::lineage::Role;
use crate::ranges::{self, common};
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
/// cold ones, which are then packed anew. A request waits for them, so they are patches only by place, against hot base pages,
/// which are decoded with them anyhow.
pub(crate) fn jobs(
    survey: &Survey,
    bed: &Bed<'_>,
    at: usize,
) -> Result<(Vec<Job>, Arc<PackedRelocation>), DedupError> {
    let (changed, working_set) = (survey.changed_runs(), bed.working_set.of_process(at));
    let (hot, cold) = (common(&changed, working_set), ranges::without(&changed, working_set));
    let strange = |heat| move |ranges| Job { ranges, heat, slots: Vec::new() };
    let mut jobs: Vec<Job> = Vec::new();
    let mut relocation = Arc::new(PackedRelocation::none()); // As for the same layout.
    let mut rest = cold;
    let hot = gather(hot.into_iter(), PAGES_PER_JOB).into_iter();
    match &bed.role {
        Role::Alone | Role::Base(_) => jobs.extend(hot.map(strange(Heat::Hot))),
        Role::ByPlace(base) => {
            let by_place = |heat| {
                move |ranges: Vec<PageRange>| {
                    let slots = base.slots_at(at, &ranges);
                    Job { ranges, heat, slots }
                }
            };
            jobs.extend(hot.map(by_place(Heat::Hot)));
            jobs.extend(gather(rest.drain(..), PAGES_PER_JOB).into_iter().map(by_place(Heat::Cold)));
        }
        Role::ByContent(bases) => {
            jobs.extend(hot.map(strange(Heat::Hot)));
            if let Some(likeness) = likeness::find(survey.pid, &rest, (bases, at), bed)? {
                rest = without(&rest, &likeness.twins);
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
fn without(ranges: &[PageRange], twins: &[Twin]) -> Vec<PageRange> {
    let mut taken: Vec<PageRange> = twins.iter().map(|twin| PageRange::new(twin.addr, 1)).collect();
    taken.sort_unstable();
    ranges::without(ranges, &taken)
}

#[cfg(test)]
mod tests {
    use pages::PageAddr;

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
            without(&[range(0, 5), range(8, 2), range(20, 1)], &taken),
            [range(1, 1), range(4, 1), range(8, 1), range(20, 1)]
        );
    }

    #[test]
    fn a_job_by_content_reads_upwards() {
        let job = by_content(&twins(&[(7, 1), (8, 1), (3, 2)]));
        assert_eq!(job.ranges, [range(3, 1), range(7, 2)]);
        assert_eq!(job.slots, [103, 107, 108].map(SlotId::new));
    }
}
