//! What merging by KSM does to one process: its pages are looked at while it runs, and ranges of it are marked, or taken
//! back, in stops of some milliseconds. When KSM works, and for whom, is not decided here.

use std::io;
use std::time::{Duration, Instant};

use linux::inject::{InjectError, Vehicle};
use linux::maps::{Flags, Mapping};
use linux::memory::Memory;
use linux::pagemap::PageMap;
use linux::trace::{Stopped, TraceError};
use linux::{ksm, maps};
use merge::{Index, PageHash};
use pages::{PAGE_SIZE, PageRange};

use crate::ranges;

/// Read at once.
const CHUNK_PAGES: u64 = 64;

/// Marked in one stop: some thirty microseconds each.
const RANGES_PER_STOP: usize = 64;

/// Un-merged in one stop: each page that was merged is copied, at about two microseconds.
const PAGES_PER_STOP: u64 = 2048;

/// A process all of whose threads are in restartable sequences is stopped again so often.
const TRIES_MAX: u32 = 100;

/// Between two such stops.
const TRY_EVERY: Duration = Duration::from_millis(1);

/// Memory of a process cannot be marked, or taken back. The process is as it was, but for ranges that were marked before.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// It was not looked at.
    #[error("look at the memory of process {pid}")]
    Look {
        /// The process.
        pid: i32,
        /// What the system said.
        source: io::Error,
    },
    /// It is in a frozen cgroup: system calls run in it would not return.
    #[error("process {pid} is frozen")]
    Frozen {
        /// The process.
        pid: i32,
    },
    /// It cannot be stopped.
    #[error(transparent)]
    Stop(#[from] TraceError),
    /// No system call can be run in it.
    #[error(transparent)]
    Inject(#[from] InjectError),
}

/// What a look at a process has found.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Memory that may be marked.
    pub mappings: Vec<Mapping>,
    /// Pages of the process' own in it.
    pub pages: u64,
    /// Those of them that were put into the index.
    pub indexed_pages: u64,
}

/// What was marked, or taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Ranges.
    pub ranges: u64,
    /// Pages in them.
    pub pages: u64,
    /// Times that the process was stopped.
    pub stops: u64,
    /// The longest of these stops.
    pub longest_stop: Duration,
}

/// Looks at all memory of a process that may be merged, and notes in `index` what its pages hold. The process runs on. An
/// error if `give_up` says meanwhile that it is no longer wanted.
pub fn look(pid: i32, index: &mut Index, give_up: &dyn Fn() -> bool) -> Result<Looked, MergeError> {
    let failed = |source| MergeError::Look { pid, source };
    let mut mappings = maps::read_unless(pid, give_up).map_err(failed)?;
    mappings.retain(ksm::may_mark);
    let mut page_map = PageMap::open(pid).map_err(failed)?;
    page_map.look_over(&mappings, give_up).map_err(failed)?;
    let memory = Memory::open(pid).map_err(failed)?;
    let (mut runs, mut indexed_pages) = (Vec::new(), 0);
    for mapping in &mappings {
        page_map.own_pages(mapping, &mut runs).map_err(failed)?;
    }
    index.keep_only(pid, &runs);
    let mut buffer = vec![0; CHUNK_PAGES as usize * PAGE_SIZE];
    for chunk in runs.iter().flat_map(|run| chunks(*run, CHUNK_PAGES)) {
        if give_up() {
            return Err(failed(io::ErrorKind::Interrupted.into()));
        }
        let content = &mut buffer[..chunk.len_bytes() as usize];
        if memory.read(chunk.start().get(), content).is_err() {
            index.remove(pid, chunk); // It is unmapped by now.
            continue;
        }
        for (page, content) in chunk.addrs().zip(content.chunks_exact(PAGE_SIZE)) {
            indexed_pages += u64::from(index.insert(pid, page, PageHash::of(content)));
        }
    }
    Ok(Looked { pages: ranges::pages(&runs), mappings, indexed_pages })
}

/// Marks ranges of a process for KSM; each lies in a mapping of `looked`. What is marked already is left as it is, and what
/// has been mapped otherwise meanwhile is left out.
pub fn mark(
    pid: i32,
    looked: &Looked,
    wanted: &[PageRange],
    give_up: &dyn Fn() -> bool,
) -> Result<Marked, MergeError> {
    let is_marked = |range: &PageRange| {
        mapping_of(*range, &looked.mappings).is_some_and(|mapping| mapping.flags.any(&[Flags::MERGEABLE]))
    };
    let (before, new): (Vec<PageRange>, Vec<PageRange>) = wanted.iter().partition(|range| is_marked(range));
    let mut marked =
        Marked { ranges: before.len() as u64, pages: ranges::pages(&before), ..Marked::default() };
    for some in new.chunks(RANGES_PER_STOP) {
        marked.add(stop_and(pid, give_up, &|vehicle, mappings| {
            let ranges = still_mapped(some, looked, mappings);
            vehicle.mark_mergeable(&bounds(&ranges)).map(|()| ranges)
        })?);
    }
    Ok(marked)
}

/// Takes all of a process back that is marked: it has pages of its own again.
pub fn unmark(pid: i32, give_up: &dyn Fn() -> bool) -> Result<Marked, MergeError> {
    let mappings = maps::read_unless(pid, give_up).map_err(|source| MergeError::Look { pid, source })?;
    let is_marked = |mapping: &&Mapping| mapping.flags.any(&[Flags::MERGEABLE]);
    let mut marked = Marked::default();
    for some in mappings.iter().filter(is_marked).flat_map(|mapping| chunks(mapping.range(), PAGES_PER_STOP))
    {
        marked.add(stop_and(pid, give_up, &|vehicle, _| {
            vehicle.unmark_mergeable(&bounds(&[some])).map(|()| vec![some])
        })?);
    }
    Ok(marked)
}

/// Does something to a stopped process, given its mappings (without flags): says to which ranges it was done.
type Act<'a> = dyn Fn(&mut Vehicle<'_>, &[Mapping]) -> Result<Vec<PageRange>, InjectError> + 'a;

/// Stops a process, has `act` done to it, and lets it go.
fn stop_and(pid: i32, give_up: &dyn Fn() -> bool, act: &Act<'_>) -> Result<Marked, MergeError> {
    for _ in 1..TRIES_MAX {
        match stop_once_and(pid, give_up, act) {
            Err(MergeError::Inject(InjectError::Busy { .. })) if !give_up() => {
                std::thread::sleep(TRY_EVERY);
            }
            outcome => return outcome,
        }
    }
    stop_once_and(pid, give_up, act)
}

fn stop_once_and(pid: i32, give_up: &dyn Fn() -> bool, act: &Act<'_>) -> Result<Marked, MergeError> {
    if is_frozen(pid) {
        return Err(MergeError::Frozen { pid });
    }
    let started = Instant::now();
    let stopped = Stopped::seize(pid, give_up)?;
    let mappings = maps::read_without_flags(pid).map_err(|source| MergeError::Look { pid, source })?;
    let mut vehicle = Vehicle::borrow_any(&stopped, &mappings)?;
    let done = act(&mut vehicle, &mappings);
    vehicle.put_back()?;
    stopped.release();
    let (longest_stop, ranges) = (started.elapsed(), done?);
    Ok(Marked { ranges: ranges.len() as u64, pages: ranges::pages(&ranges), stops: 1, longest_stop })
}

/// Whether its first thread is in the freezer, of cgroup version 2 or 1.
fn is_frozen(pid: i32) -> bool {
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    matches!(place.as_str(), "do_freezer_trap" | "__refrigerator")
}

impl Marked {
    /// Adds what was done in another stop.
    pub fn add(&mut self, other: Marked) {
        self.ranges += other.ranges;
        self.pages += other.pages;
        self.stops += other.stops;
        self.longest_stop = self.longest_stop.max(other.longest_stop);
    }
}

/// The ranges whose mapping is the one that was looked at: what has been mapped in its place may be locked, or shared.
fn still_mapped(ranges: &[PageRange], looked: &Looked, now: &[Mapping]) -> Vec<PageRange> {
    let is_same = |range: &&PageRange| {
        let (before, now) = (mapping_of(**range, &looked.mappings), mapping_of(**range, now));
        let kind = |mapping: &Mapping| (mapping.shared, mapping.inode, mapping.prot());
        matches!((before, now), (Some(before), Some(now)) if kind(before) == kind(now))
    };
    ranges.iter().filter(is_same).copied().collect()
}

/// The mapping that holds all of a range. `mappings` are in order.
fn mapping_of(range: PageRange, mappings: &[Mapping]) -> Option<&Mapping> {
    let at = mappings.partition_point(|mapping| mapping.end <= range.start().get());
    mappings
        .get(at)
        .filter(|mapping| mapping.start <= range.start().get() && range.end().get() <= mapping.end)
}

/// First and last address of each.
fn bounds(ranges: &[PageRange]) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (range.start().get(), range.end().get())).collect()
}

/// A range in pieces of at most so many pages.
fn chunks(range: PageRange, pages: u64) -> impl Iterator<Item = PageRange> {
    let chunk = move |at: u64| PageRange::new(range.start() + at, pages.min(range.pages() - at));
    (0..range.pages()).step_by(pages as usize).map(chunk)
}

#[cfg(test)]
mod tests {
    use pages::PageAddr;

    use super::*;

    fn mapping(start: u64, end: u64) -> Mapping {
        let text = format!("{:x}-{:x} rw-p 0 0:0 0\n", start << 12, end << 12);
        maps::parse(text.as_bytes()).unwrap().remove(0)
    }

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::from_bounds(PageAddr::containing(start << 12), PageAddr::containing(end << 12))
    }

    #[test]
    fn what_was_mapped_otherwise_meanwhile_is_left_out() {
        let looked = Looked { mappings: vec![mapping(1, 5), mapping(7, 9)], pages: 0, indexed_pages: 0 };
        let now = [mapping(1, 4), Mapping { shared: true, ..mapping(7, 9) }];
        let wanted = [range(2, 4), range(3, 5), range(7, 8)];
        assert_eq!(still_mapped(&wanted, &looked, &now), [range(2, 4)]);
        assert_eq!(still_mapped(&wanted, &looked, &looked.mappings), wanted);
    }

    #[test]
    fn pieces_cover_a_range() {
        assert_eq!(chunks(range(1, 6), 2).collect::<Vec<_>>(), [range(1, 3), range(3, 5), range(5, 6)]);
        assert_eq!(chunks(range(1, 1), 2).count(), 0);
    }

    #[test]
    fn our_own_pages_are_looked_at() {
        let alike: Vec<u8> = (0..64 * PAGE_SIZE).map(|at| (at % PAGE_SIZE) as u8 ^ 0x5a).collect();
        let (us, mut index) = (std::process::id() as i32, Index::new(1 << 20));
        let looked = look(us, &mut index, &|| false).unwrap();
        assert_eq!(looked.indexed_pages, index.pages() as u64);
        let page = PageAddr::containing(alike.as_ptr() as u64) + 1;
        assert!(index.candidates(us).iter().any(|run| run.contains(page)));
        assert!(look(us, &mut index, &|| true).is_err());
    }
}
