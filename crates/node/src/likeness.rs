//! What a sleeping process with a random layout has in common with a base: for its pages the base pages that they are
//! like, and how far pointers have moved. The process stands still, so it is read twice, here and when its pages are
//! put, rather than copied.
//!
//! Transient, in each thread: 16 MiB of decoded base pages and 24 bytes for each page that is pointed to. For all of
//! them: 24 bytes for each base page, 24 for each page that was found.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use linux::arena::MemfdArena;
use pages::{
    BaseContent as _, BaseFinder, BasePages, BaseReader, Fingerprint, Fingerprinter, PackedRelocation, Page,
    PageAddr, PageRange, RelocationBuilder, SlotId,
};

use crate::base::Base;
use crate::batch::{BatchReader, gather};
use crate::dedup::{Bed, DedupError};
use crate::parallel::on_other_threads;
use crate::ranges;

/// Pages that are read and looked at before anybody looks whether an invocation has come: about a millisecond.
const BATCH_PAGES: u64 = 64;

/// Batches that one thread takes at a time, 4 MiB: what follows a page mostly follows its base page, so there should
/// be few seams.
const BATCHES_PER_TURN: usize = 16;

/// Threads that look at one process.
const THREADS: usize = 2;

/// Pages that decide which of several bases is the best.
const SAMPLE_PAGES_MAX: usize = 256;

/// For pages of a process, what they are probably like.
pub(crate) struct Likeness {
    /// By group, then by address: pages that are encoded together follow each other.
    pub(crate) twins: Vec<Twin>,
    /// Where pointers in base pages point to in this process.
    pub(crate) relocation: Arc<PackedRelocation>,
}

/// A page and the base page it is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Twin {
    /// The group of base pages, by any number.
    pub(crate) group: u32,
    pub(crate) addr: PageAddr,
    pub(crate) slot: SlotId,
}

/// Finds what the pages in `ranges`, of the process `pid` at `place` of its tree, are like in the best of `bases`.
/// Pages that the store has already are left out.
pub(crate) fn find(
    pid: i32,
    ranges: &[PageRange],
    (bases, place): (&[Arc<Base>], usize),
    bed: &Bed<'_>,
) -> Result<Option<Likeness>, DedupError> {
    let io = |source| DedupError::Io { what: "read", pid, source };
    let fingerprinter = bed.store.fingerprinter(bed.domain);
    let batches = gather(ranges.iter().copied(), BATCH_PAGES);
    let mut sampler = BatchReader::open(pid, 1).map_err(io)?;
    let best = best_base(bases, place, || sample(ranges, &fingerprinter, &mut sampler).map_err(io))?;
    let Some((base, process)) = best.and_then(|base| Some((base, base.process(place)?))) else {
        return Ok(None);
    };
    let pages = bed.store.base_pages(process.manifest());
    let turns: Vec<_> = batches.chunks(BATCHES_PER_TURN).collect();
    let next = AtomicUsize::new(0);
    let all = Mutex::new((Vec::new(), RelocationBuilder::new(process.mapped().iter().copied())));
    let work = || -> Result<(), DedupError> {
        let search = Search {
            pid,
            bed,
            base,
            place,
            fingerprinter: &fingerprinter,
            pages: &pages,
            content: pages.reader(),
            learned: RelocationBuilder::new(process.mapped().iter().copied()),
            twins: Vec::new(),
        };
        let mut done = search.take_turns(&turns, &next)?;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.0.append(&mut done.twins);
        all.1.merge(done.learned);
        Ok(())
    };
    on_other_threads(THREADS.min(turns.len()), work)?;
    let (mut twins, learned) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    twins.sort_unstable();
    Ok(Some(Likeness { twins, relocation: Arc::new(learned.build().pack()) }))
}

/// The base with most chunks in common with a sample of pages, which is taken only if there is a choice.
fn best_base(
    bases: &[Arc<Base>],
    place: usize,
    sample: impl FnOnce() -> Result<Vec<Fingerprint>, DedupError>,
) -> Result<Option<&Base>, DedupError> {
    if let [only] = bases {
        return Ok(Some(only));
    }
    let sample = sample()?;
    let chunks = |base: &&Arc<Base>| -> u32 {
        base.lookup(place, &sample).into_iter().flatten().map(|(_, chunks)| u32::from(chunks)).sum()
    };
    Ok(bases.iter().max_by_key(chunks).map(|base| &**base))
}

/// Fingerprints of pages from all over the process.
fn sample(
    ranges: &[PageRange],
    fingerprinter: &Fingerprinter,
    reader: &mut BatchReader,
) -> std::io::Result<Vec<Fingerprint>> {
    let step = (ranges::pages(ranges) as usize).div_ceil(SAMPLE_PAGES_MAX).max(1);
    let sampled = ranges.iter().flat_map(|range| range.addrs()).step_by(step);
    let print = |addr| {
        let page = reader.read(&[PageRange::new(addr, 1)])?;
        Ok(fingerprinter.fingerprint(&page[0]))
    };
    sampled.map(print).collect()
}

/// One thread's part of the search.
struct Search<'a> {
    pid: i32,
    bed: &'a Bed<'a>,
    base: &'a Base,
    place: usize,
    fingerprinter: &'a Fingerprinter,
    pages: &'a BasePages<MemfdArena>,
    content: BaseReader<'a, MemfdArena>,
    learned: RelocationBuilder,
    twins: Vec<Twin>,
}

impl Search<'_> {
    /// Takes one turn after the other, as long as there are any.
    fn take_turns(mut self, turns: &[&[Vec<PageRange>]], next: &AtomicUsize) -> Result<Self, DedupError> {
        let pid = self.pid;
        let io = |source| DedupError::Io { what: "read", pid, source };
        let mut reader = BatchReader::open(pid, BATCH_PAGES).map_err(io)?;
        while let Some(turn) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut finder = BaseFinder::new(self.pages.addrs());
            for batch in *turn {
                if self.bed.is_interrupted() {
                    return Err(DedupError::Interrupted);
                }
                self.look_at(batch, reader.read(batch).map_err(io)?, &mut finder);
            }
        }
        Ok(self)
    }

    /// Finds base pages for the new ones among `pages`, which lie at `ranges`, and learns from them.
    fn look_at(&mut self, ranges: &[PageRange], pages: &[Page], finder: &mut BaseFinder<'_>) {
        let is_kept = self.bed.store.probably_has(self.bed.domain, pages);
        let addrs = ranges.iter().flat_map(|range| range.addrs());
        let new: Vec<(PageAddr, &Page)> =
            addrs.zip(pages).zip(is_kept).filter(|(_, is_kept)| !is_kept).map(|(page, _)| page).collect();
        let wanted: Vec<_> = new.iter().map(|(_, page)| self.fingerprinter.fingerprint(page)).collect();
        for ((addr, page), hit) in new.into_iter().zip(self.base.lookup(self.place, &wanted)) {
            let hit = hit.map(|(number, _)| number);
            let Some(number) = finder.find(&mut self.content, addr, page, hit) else { continue };
            let number = number as usize;
            if let Some(base) = self.content.page(number) {
                self.learned.learn(base, page);
            }
            if let (Some(group), Some(slot)) = (self.pages.group(number), self.pages.slot(number)) {
                self.twins.push(Twin { group, addr, slot });
            }
        }
    }
}
