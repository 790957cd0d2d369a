//! The memory of a stopped process becomes encodings: it is read, put into the store, and pinned by a manifest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use linux::memory::Memory;
use pages::{
    Encoding, Heat, Like, Manifest, ManifestBuilder, PAGE_SIZE, PackedRelocation, PageAddr, PageRange,
};
use protocol::SleepRecord;

use crate::PageStore;
use crate::dedup::{Bed, DedupError};
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
    let mut put = Put { store: bed.store, processes: Vec::new() };
    for (at, survey) in surveys.iter().enumerate() {
        let process = Mutex::new(Vec::new());
        let done = encode_process(survey, bed, at, &process);
        put.processes.push(process.into_inner().unwrap_or_else(PoisonError::into_inner));
        done?; // Dropping `put` gives back what was put.
    }
    Ok(put)
}

fn encode_process(
    survey: &Survey,
    bed: &Bed<'_>,
    at: usize,
    put: &Mutex<Vec<(PageAddr, Vec<Encoding>)>>,
) -> Result<(), DedupError> {
    let jobs = jobs(survey, bed.working_set.of_process(at));
    let next = AtomicUsize::new(0);
    let relocation = Arc::new(PackedRelocation::none()); // The same layout: pointers point to the same places.
    let work = || -> Result<(), DedupError> {
        let io = |source| DedupError::Io { what: "read", pid: survey.pid, source };
        let memory = Memory::open(survey.pid).map_err(io)?;
        let mut buffer = vec![0; PAGES_PER_JOB as usize * PAGE_SIZE];
        while let Some(Job { ranges, heat }) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if bed.is_interrupted() {
                return Err(DedupError::Interrupted);
            }
            let mut len_bytes = 0;
            for range in ranges {
                let bytes = &mut buffer[len_bytes..len_bytes + range.len_bytes() as usize];
                memory.read(range.start().get(), bytes).map_err(io)?;
                len_bytes += bytes.len();
            }
            let slots = bed.like(at, ranges);
            let like = match (&slots, bed.lineage) {
                // A request waits for hot pages, and a patch takes as long again to decode: waking comes first.
                (Some(slots), _) if *heat == Heat::Cold => Like::Slots(slots, &relocation),
                (Some(_), _) => Like::Nothing,
                (None, Some(_)) => Like::BasePages,
                (None, None) => Like::Nothing,
            };
            let encodings = bed.store.put_like(bed.domain, &buffer[..len_bytes], *heat, like)?;
            let mut encodings = encodings.into_iter();
            let mut put = put.lock().unwrap_or_else(PoisonError::into_inner);
            put.extend(
                ranges
                    .iter()
                    .map(|range| (range.start(), encodings.by_ref().take(range.pages() as usize).collect())),
            );
        }
        Ok(())
    };
    on_threads(ENCODE_THREADS.min(jobs.len()), work)
}

/// Pages that are read and put together.
struct Job {
    ranges: Vec<PageRange>,
    heat: Heat,
}

/// Cuts what is to be read into jobs. Hot pages are put first, and apart: they leave the groups that they share with
/// cold ones, which are then packed anew.
fn jobs(survey: &Survey, hot: &[PageRange]) -> Vec<Job> {
    let mut pieces = Vec::new();
    for run in survey.parts.iter().flat_map(|part| &part.runs) {
        let mut at = run.start();
        while at < run.end() {
            let next_hot = hot.partition_point(|range| range.end() <= at);
            let (heat, until) = match hot.get(next_hot) {
                Some(range) if range.start() <= at => (Heat::Hot, range.end()),
                Some(range) => (Heat::Cold, range.start()),
                None => (Heat::Cold, run.end()),
            };
            let until = until.min(run.end());
            pieces.push((PageRange::from_bounds(at, until), heat));
            at = until;
        }
    }
    let mut jobs = Vec::new();
    for heat in [Heat::Hot, Heat::Cold] {
        let pieces = pieces.iter().filter(|(_, of)| *of == heat).map(|(range, _)| *range);
        jobs.extend(gather(pieces).into_iter().map(|ranges| Job { ranges, heat }));
    }
    jobs
}

/// Ranges in lists of `PAGES_PER_JOB` pages each.
fn gather(ranges: impl Iterator<Item = PageRange>) -> Vec<Vec<PageRange>> {
    let mut lists: Vec<Vec<PageRange>> = Vec::new();
    let mut room = 0;
    for range in ranges {
        let mut at = range.start();
        while at < range.end() {
            if room == 0 {
                lists.push(Vec::new());
                room = PAGES_PER_JOB;
            }
            let piece = PageRange::from_bounds(at, range.end().min(at + room));
            room -= piece.pages();
            at = piece.end();
            if let Some(list) = lists.last_mut() {
                list.push(piece);
            }
        }
    }
    lists
}
