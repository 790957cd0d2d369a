//! The memory of a stopped process becomes encodings: it is read, put into the store, and pinned by a manifest.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pages::{
    Encoding, Fingerprint, Fingerprinter, Like, Manifest, ManifestBuilder, Page, PageAddr, PageRange,
};
use protocol::SleepRecord;

use crate::PageStore;
use crate::base::{self, Portrait};
use crate::batch::{BatchReader, gather};
use crate::dedup::{Bed, DedupError};
use crate::jobs::{Job, PAGES_PER_JOB, jobs};
use crate::lineage::Role;
use crate::parallel::on_other_threads;
use crate::survey::{Survey, Unchanged};

/// Threads that read and encode one sandbox.
const ENCODE_THREADS: usize = 2;

/// What a sleep puts: first as it comes, then as a manifest for each process. What nobody has taken over when this is
/// dropped goes back to the store, which takes milliseconds: to be done when nobody waits.
pub(crate) struct Put {
    store: Arc<PageStore>,
    processes: VecDeque<Vec<(PageAddr, Vec<Encoding>)>>,
    /// Of each process, if it was put as a base.
    pub(crate) portraits: Option<Vec<Portrait>>,
    pinned: VecDeque<Manifest>,
    /// Those that the sleeper has, too, until it has them alone.
    shared: Vec<Arc<Manifest>>,
    /// Of pages that stayed in their processes after all.
    unneeded: Vec<Manifest>,
}

impl Put {
    /// Nothing yet.
    pub(crate) fn new(bed: &Bed<'_>) -> Put {
        let is_base = matches!(bed.role, Role::Base(_));
        Put {
            store: Arc::clone(bed.store),
            processes: VecDeque::new(),
            portraits: is_base.then(Vec::new),
            pinned: VecDeque::new(),
            shared: Vec::new(),
            unneeded: Vec::new(),
        }
    }

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

    /// Makes a manifest for each process.
    pub(crate) fn pin(&mut self) -> Result<(), DedupError> {
        while let Some(process) = self.processes.pop_front() {
            let mut builder = ManifestBuilder::new();
            process.iter().for_each(|(start, encodings)| builder.extend(*start, encodings));
            match builder.build() {
                Ok(manifest) => self.pinned.push_back(manifest),
                Err(twice) => {
                    // Mappings do not overlap, so the kernel has told us something that we do not understand.
                    self.store.give_back(&twice.encodings);
                    return Err(DedupError::LeftWarm { why: twice.to_string() });
                }
            }
        }
        Ok(())
    }

    /// The manifest of the next process, without the pages that stay in it.
    pub(crate) fn next_manifest(&mut self, stay: &[PageRange]) -> Option<Arc<Manifest>> {
        let mut manifest = self.pinned.pop_front()?;
        self.unneeded.push(manifest.split_off(stay));
        let manifest = Arc::new(manifest);
        self.shared.push(Arc::clone(&manifest));
        Some(manifest)
    }

    /// The sleeper has its manifests, and gives them back itself.
    pub(crate) fn hand_over(&mut self) {
        self.shared.clear();
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        self.processes.iter().flatten().for_each(|(_, encodings)| self.store.give_back(encodings));
        // Whoever else had them is gone by now: this was there first.
        let shared = self.shared.drain(..).filter_map(Arc::into_inner);
        let manifests = shared.chain(self.pinned.drain(..)).chain(self.unneeded.drain(..));
        manifests.for_each(|manifest| self.store.release(manifest));
    }
}

/// Reads every page that can leave, and puts it.
pub(crate) fn encode(surveys: &[&Survey], bed: &Bed<'_>, put: &mut Put) -> Result<(), DedupError> {
    for (at, survey) in surveys.iter().enumerate() {
        let process = Mutex::default();
        let reused = reuse(survey, bed, &process);
        let done = reused.and_then(|()| encode_process(survey, bed, at, &process));
        let Process { encodings, prints } = process.into_inner().unwrap_or_else(PoisonError::into_inner);
        put.processes.push_back(encodings);
        done?;
        if let Some(portraits) = &mut put.portraits {
            portraits.push(Portrait { mapped: base::mapped(&survey.mappings), prints });
        }
    }
    Ok(())
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
    on_other_threads(ENCODE_THREADS.min(jobs.len()), work)
}

/// Pages that stand in the store already are not encoded, and are read only where a base needs their fingerprints.
fn reuse(survey: &Survey, bed: &Bed<'_>, process: &Mutex<Process>) -> Result<(), DedupError> {
    let Some(Unchanged { manifest, .. }) = &survey.unchanged else { return Ok(()) };
    let io = |source| DedupError::Io { what: "read", pid: survey.pid, source };
    let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reader = None;
    for ranges in gather(survey.unchanged_runs().into_iter(), PAGES_PER_JOB) {
        if bed.is_interrupted() {
            return Err(DedupError::Interrupted);
        }
        let first = process.encodings.len();
        for range in &ranges {
            let kept = bed.store.keep_again(manifest, *range).ok_or_else(|| DedupError::LeftWarm {
                why: format!("the store has lost pages of process {}: a bug in dormouse", survey.pid),
            })?;
            process.encodings.push((range.start(), kept));
        }
        if let Role::Base(Some(fingerprinter)) = &bed.role {
            let reader = match &mut reader {
                Some(reader) => reader,
                none => none.insert(BatchReader::open(survey.pid, PAGES_PER_JOB).map_err(io)?),
            };
            let pages = reader.read(&ranges).map_err(io)?;
            let kept: Vec<_> =
                process.encodings[first..].iter().flat_map(|(_, kept)| kept).copied().collect();
            process.prints.extend(prints(fingerprinter, &ranges, pages, &kept));
        }
    }
    Ok(())
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
