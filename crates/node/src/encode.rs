//! The memory of a stopped process becomes encodings: it is read, put into the store, and pinned by a manifest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pages::{
    Encoding, Fingerprint, Fingerprinter, Heat, Like, Manifest, ManifestBuilder, PackedRelocation, Page,
    PageAddr, PageRange, SlotId,
};
use protocol::SleepRecord;

use crate::PageStore;
use crate::base::{self, Portrait};
use crate::batch::{BatchReader, gather};
use crate::dedup::{Bed, DedupError};
use crate::likeness::{self, Twin};
use crate::lineage::Role;
use crate::parallel::on_threads;
use crate::survey::Survey;

/// Pages that one worker reads and encodes before it looks whether an invocation has come: about a millisecond.
const PAGES_PER_JOB: u64 = 128;

/// Threads that read and encode one sandbox.
const ENCODE_THREADS: usize = 2;

/// What was put for each process, which goes back to the store unless it becomes manifests.
pub(crate) struct Put<'a> {
    store: &'a PageStore,
    processes: Vec<Vec<(PageAddr, Vec<Encoding>)>>,
    /// Of each process, if it was put as a base.
    pub(crate) portraits: Option<Vec<Portrait>>,
}

impl<'a> Put<'a> {
    pub(crate) fn count(&self, record: &mut SleepRecord) {
        for encoding in self.processes.iter().flatten().flat_map(|(_, encodings)| encodings) {
            *match encoding {
                Encoding::Zero => &mut record.zero_pages,
                Encoding::Same(_) => &mut record.same_pages,
                Encoding::Patched(_) => &mut record.patched_pages,
                Encoding::Packed(_) => &mut record.packed_pages,
                Encoding::Whole(_) => &mut record.whole_pages,
            } += 1;
        }
    }

    /// One manifest for each process.
    pub(crate) fn pin(mut self) -> Result<Pinned<'a>, DedupError> {
        let mut pinned = Pinned { store: self.store, manifests: Vec::new() };
        while let Some(process) = (!self.processes.is_empty()).then(|| self.processes.remove(0)) {
            let mut builder = ManifestBuilder::new();
            process.iter().for_each(|(start, encodings)| builder.extend(*start, encodings));
            match builder.build() {
                Ok(manifest) => pinned.manifests.push(Arc::new(manifest)),
                Err(twice) => {
                    // Mappings do not overlap, so the kernel has told us something that we do not understand.
                    self.store.give_back(&twice.encodings);
                    return Err(DedupError::LeftWarm { why: twice.to_string() });
                }
            }
        }
        Ok(pinned)
    }
}

/// Manifests that give their pages back to the store on drop.
pub(crate) struct Pinned<'a> {
    store: &'a PageStore,
    pub(crate) manifests: Vec<Arc<Manifest>>,
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        // Whoever else had them is gone by now: this was declared first.
        self.manifests
            .drain(..)
            .filter_map(Arc::into_inner)
            .for_each(|manifest| self.store.release(manifest));
    }
}

impl Drop for Put<'_> {
    fn drop(&mut self) {
        self.processes.iter().flatten().for_each(|(_, encodings)| self.store.give_back(encodings));
    }
}

/// Reads every page that can leave, and puts it. On error nothing stays in the store.
pub(crate) fn encode<'a>(surveys: &[&Survey], bed: &Bed<'a>) -> Result<Put<'a>, DedupError> {
    let is_base = matches!(bed.role, Role::Base(_));
    let mut put = Put { store: bed.store, processes: Vec::new(), portraits: is_base.then(Vec::new) };
    for (at, survey) in surveys.iter().enumerate() {
        let process = Mutex::default();
        let done = encode_process(survey, bed, at, &process);
        let Process { encodings, prints } = process.into_inner().unwrap_or_else(PoisonError::into_inner);
        put.processes.push(encodings);
        done?; // Dropping `put` gives back what was put.
        if let Some(portraits) = &mut put.portraits {
            portraits.push(Portrait { mapped: base::mapped(&survey.mappings), prints });
        }
    }
    Ok(put)
}

/// What was put for one process.
#[derive(Default)]
struct Process {
    encodings: Vec<(PageAddr, Vec<Encoding>)>,
    prints: Vec<(PageAddr, Fingerprint)>,
}

fn encode_process(
    survey: &Survey,
    bed: &Bed<'_>,
    at: usize,
    process: &Mutex<Process>,
) -> Result<(), DedupError> {
    let (jobs, relocation) = jobs(survey, bed, at)?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), DedupError> {
        let io = |source| DedupError::Io { what: "read", pid: survey.pid, source };
        let mut reader = BatchReader::open(survey.pid, PAGES_PER_JOB).map_err(io)?;
        while let Some(Job { ranges, heat, slots }) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if bed.is_interrupted() {
                return Err(DedupError::Interrupted);
            }
            let pages = reader.read(ranges).map_err(io)?;
            let like = match &bed.role {
                Role::Base(_) => Like::BasePages,
                _ if slots.is_empty() => Like::Nothing,
                _ => Like::Slots(slots, &relocation),
            };
            let encodings = bed.store.put_like(bed.domain, pages.as_flattened(), *heat, like)?;
            let prints = match &bed.role {
                Role::Base(Some(fingerprinter)) => prints(fingerprinter, ranges, pages, &encodings),
                _ => Vec::new(),
            };
            let mut encodings = encodings.into_iter();
            let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
            process.encodings.extend(
                ranges
                    .iter()
                    .map(|range| (range.start(), encodings.by_ref().take(range.pages() as usize).collect())),
            );
            process.prints.extend(prints);
        }
        Ok(())
    };
    on_threads(ENCODE_THREADS.min(jobs.len()), work)
}

/// Fingerprints of the pages that are not zero.
fn prints(
    fingerprinter: &Fingerprinter,
    ranges: &[PageRange],
    pages: &[Page],
    encodings: &[Encoding],
) -> Vec<(PageAddr, Fingerprint)> {
    let addrs = ranges.iter().flat_map(|range| range.addrs());
    let with_content = addrs.zip(pages).zip(encodings).filter(|(_, encoding)| encoding.slot().is_some());
    with_content.map(|((addr, page), _)| (addr, fingerprinter.fingerprint(page))).collect()
}

/// Pages that are read and put together.
struct Job {
    ranges: Vec<PageRange>,
    heat: Heat,
    /// What each is probably like; empty if nothing is known.
    slots: Vec<Option<SlotId>>,
}

/// Cuts what is to be read into jobs. Hot pages are put first, and apart: they leave the groups that they share with
/// cold ones, which are then packed anew. A request waits for them, and a patch takes as long again to decode: waking
/// comes first, so they are no patches.
fn jobs(survey: &Survey, bed: &Bed<'_>, at: usize) -> Result<(Vec<Job>, Arc<PackedRelocation>), DedupError> {
    let runs = survey.parts.iter().flat_map(|part| &part.runs).copied();
    let (hot, cold) = by_heat(runs, bed.working_set.of_process(at));
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
                jobs.extend(likeness.twins.chunks(PAGES_PER_JOB as usize).map(by_content));
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
