//! Reads pages back: those of a manifest in some ranges. Every page is checked before it is handed out; a damaged one
//! is an error that names its address, never wrong bytes.

use std::sync::Arc;

use super::Store;
use super::draft::Draft;
use super::group::Group;
use crate::codec::Scratch;
use crate::page_id::{Page, PageId};
use crate::{Arena, Manifest, PAGE_SIZE, PageAddr, PageRange};

/// Pages that are looked up before others may use the tables: about a tenth of a millisecond.
pub(super) const PAGES_PER_LOCK: usize = 1024;

/// The manifest names a slot that the store does not have: it is not a manifest of this store. The sandbox that it
/// belongs to cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has no slot for the page at {addr}")]
pub struct PlanError {
    /// The address.
    pub addr: PageAddr,
}

/// A job could not be finished. Pages that were handed out before were right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError<E> {
    /// The bytes are no longer those that were put. Nothing of the job was handed out.
    #[error("the page at {addr} is damaged")]
    Damaged {
        /// The address.
        addr: PageAddr,
    },
    /// Whoever filled could not.
    #[error(transparent)]
    Fill(E),
}

/// Takes the pages of a job: where they belong, and their bytes.
pub type Fill<'a, E> = dyn FnMut(PageAddr, &[u8]) -> Result<(), E> + 'a;

/// Pages to be filled, by address. Threads share it and take jobs by index.
///
/// It keeps the bytes alive by itself: the manifest may be released meanwhile.
pub struct FillPlan<A: Arena> {
    jobs: Vec<FillJob<A>>,
}

/// What is decoded together, and the addresses that want pages of it: one group, or what has one base group in common.
pub struct FillJob<A: Arena> {
    pub(super) groups: Vec<Arc<Group<A>>>,
    pub(super) wanted: Box<[Wanted]>, // By address.
}

/// One page address that wants a page of a group.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) addr: PageAddr,
    pub(super) id: PageId,
    /// Which of the groups of the job.
    pub(super) group: u8,
    /// Its place there.
    pub(super) index: u8,
}

impl<A: Arena> Store<A> {
    /// What is to be filled for all of `manifest`. Zero pages are in no job.
    pub fn plan_all(&self, manifest: &Manifest) -> Result<FillPlan<A>, PlanError> {
        self.plan(manifest, &manifest.content_ranges().collect::<Vec<_>>())
    }

    /// What is to be filled for the pages of `manifest` in `ranges`, which are sorted and do not overlap: one job for
    /// each group, by the first address that wants it; hot patches in one with their base group.
    pub fn plan(&self, manifest: &Manifest, ranges: &[PageRange]) -> Result<FillPlan<A>, PlanError> {
        let mut draft = Draft::new();
        let mut pages = manifest.pages_in(ranges).peekable();
        while pages.peek().is_some() {
            let tables = self.tables();
            for (addr, slot) in pages.by_ref().take(PAGES_PER_LOCK) {
                let (kept, group) = tables.find(slot).ok_or(PlanError { addr })?;
                draft.add(group, addr, kept.id, kept.place.index());
            }
        }
        Ok(FillPlan { jobs: draft.jobs() })
    }
}

impl<A: Arena> FillPlan<A> {
    /// All jobs, in order.
    pub fn jobs(&self) -> &[FillJob<A>] {
        &self.jobs
    }

    /// How many pages all jobs fill.
    pub fn pages(&self) -> u64 {
        self.jobs.iter().map(|job| job.wanted.len() as u64).sum()
    }

    /// How many pages are decoded for them: all of their groups, and for patches those of the base groups.
    pub fn decoded_pages(&self) -> u64 {
        self.jobs.iter().map(FillJob::decoded_pages).sum()
    }

    /// Finds the job of an address, for faults.
    pub fn index(&self) -> JobIndex {
        let mut runs: Vec<(PageRange, u32)> = Vec::new();
        for (nth, job) in self.jobs.iter().enumerate() {
            runs.extend(job.ranges().map(|range| (range, nth as u32)));
        }
        runs.sort_unstable_by_key(|(range, _)| range.start());
        JobIndex { runs }
    }
}

/// Which job fills which address.
pub struct JobIndex {
    runs: Vec<(PageRange, u32)>,
}

impl JobIndex {
    /// The index of the job that fills `addr`; `None` if its page is zero or not in the manifest.
    pub fn job_of(&self, addr: PageAddr) -> Option<usize> {
        let behind = self.runs.partition_point(|(range, _)| range.start() <= addr);
        let (range, job) = self.runs[..behind].last()?;
        range.contains(addr).then_some(*job as usize)
    }
}

impl<A: Arena> FillJob<A> {
    /// The addresses that it fills, upwards, as the longest ranges.
    pub fn ranges(&self) -> impl Iterator<Item = PageRange> {
        let runs = self.wanted.chunk_by(|a, b| a.addr + 1 == b.addr);
        runs.map(|run| PageRange::new(run[0].addr, run.len() as u64))
    }

    /// Decodes each group once and hands out the pages, by address: as many at a time as are consecutive, up to
    /// 64 KiB. Nothing is handed out unless every page that is wanted is right.
    pub fn decode<E>(&self, scratch: &mut Scratch, fill: &mut Fill<'_, E>) -> Result<(), FillError<E>> {
        let [group] = &self.groups[..] else { return self.decode_together(scratch, fill) };
        let (content, room) = group.decode(scratch).map_err(|_| damaged(self.wanted.first()))?;
        if let Some(wrong) = self.first_wrong(content, 0) {
            return Err(damaged(Some(wrong)));
        }
        let (room, _) = room.as_chunks_mut();
        for run in self.wanted.chunk_by(|a, b| a.addr + 1 == b.addr) {
            for run in run.chunks(room.len()) {
                fill(run[0].addr, in_order(content, run, room).as_flattened()).map_err(FillError::Fill)?;
            }
        }
        Ok(())
    }

    /// The same for groups that have one base group in common, which is decoded once.
    fn decode_together<E>(&self, scratch: &mut Scratch, fill: &mut Fill<'_, E>) -> Result<(), FillError<E>> {
        let base = self.groups.first().map(|group| group.base.as_ref().map_or(group, |base| &base.group));
        let base = base.ok_or_else(|| damaged(None))?;
        base.decode_as_base(scratch).map_err(|_| damaged(self.wanted.first()))?;
        for (nth, group) in (0..).zip(&self.groups) {
            let mut wanted = self.wanted.iter().enumerate().filter(|(_, wanted)| wanted.group == nth);
            let first = wanted.clone().next().map(|(_, wanted)| wanted);
            let (content, room) = group.decode_at_hand(scratch).map_err(|_| damaged(first))?;
            if let Some(wrong) = self.first_wrong(content, nth) {
                return Err(damaged(Some(wrong)));
            }
            let (room, _) = room.as_chunks_mut::<PAGE_SIZE>();
            wanted.try_for_each(|(at, wanted)| {
                *room.get_mut(at)? = content[usize::from(wanted.index)];
                Some(())
            });
        }
        let mut at = 0;
        for run in self.wanted.chunk_by(|a, b| a.addr + 1 == b.addr) {
            let bytes = at * PAGE_SIZE..(at + run.len()) * PAGE_SIZE;
            fill(run[0].addr, &scratch.gathered[bytes]).map_err(FillError::Fill)?;
            at += run.len();
        }
        Ok(())
    }

    /// How many pages are decoded for it.
    pub fn decoded_pages(&self) -> u64 {
        let mut bases: Vec<_> = self.groups.iter().filter_map(|group| group.base.as_ref()).collect();
        bases.dedup_by_key(|base| Arc::as_ptr(&base.group));
        bases.retain(|base| !self.groups.iter().any(|group| Arc::ptr_eq(group, &base.group)));
        let pages = |group: &Arc<Group<A>>| u64::from(group.pages);
        self.groups.iter().chain(bases.into_iter().map(|base| &base.group)).map(pages).sum()
    }

    /// The first page of a group whose bytes are not those that were put. A page that is wanted often is checked once.
    fn first_wrong(&self, content: &[Page], group: u8) -> Option<&Wanted> {
        let hasher = &self.groups.first()?.shared.hasher;
        let mut checked = 0u16;
        self.wanted.iter().filter(|wanted| wanted.group == group).find(|wanted| {
            let bit = 1 << wanted.index;
            if checked & bit != 0 {
                return false;
            }
            checked |= bit;
            let page = content.get(usize::from(wanted.index));
            page.is_none_or(|page| hasher.page_id(page) != wanted.id)
        })
    }
}

fn damaged<E>(wanted: Option<&Wanted>) -> FillError<E> {
    FillError::Damaged { addr: wanted.map_or_else(PageAddr::default, |wanted| wanted.addr) }
}

/// The pages that `run` wants, one behind the other: as they lie in the group if they lie so, else copied.
fn in_order<'a>(content: &'a [Page], run: &[Wanted], room: &'a mut [Page]) -> &'a [Page] {
    let first = usize::from(run[0].index);
    if run.iter().enumerate().all(|(nth, wanted)| usize::from(wanted.index) == first + nth) {
        return &content[first..first + run.len()];
    }
    for (to, wanted) in room.iter_mut().zip(run) {
        *to = content[usize::from(wanted.index)];
    }
    &room[..run.len()]
}

/// Whether a job over `blob`, as a group of `pages` pages, tells that it is not what was put.
pub(crate) fn damaged_group_is_noticed(codec: u8, pages: u8, blob: &[u8]) -> bool {
    use super::group::{Base, Shared};
    use crate::codec::Codec;
    use crate::page_id::PageHasher;
    use crate::{Domain, HeapArena};

    let hasher = PageHasher::new(&[0; 32]);
    let id = hasher.page_id(&[0xa5; PAGE_SIZE]);
    let shared = Arc::new(Shared { arena: HeapArena::new(u64::MAX), hasher });
    let codec = [Codec::Whole, Codec::Lz4, Codec::Zstd, Codec::Patch][usize::from(codec) % 4];
    let whose = (&Domain::private(0), 0);
    let base = (codec == Codec::Patch)
        .then(|| Group::put(&shared, whose, (Codec::Whole, 1), None, &[0xa5; PAGE_SIZE]));
    let Ok(base) = base.transpose() else { return false };
    let base = base.map(|group| Base {
        group: Arc::new(group),
        number: 0,
        relocation: Arc::new(crate::PackedRelocation::none()),
    });
    let Ok(group) = Group::put(&shared, whose, (codec, pages), base, blob) else { return false };
    let wanted =
        (0..pages).map(|index| Wanted { addr: PageAddr::default() + u64::from(index), id, group: 0, index });
    let job =
        FillJob { groups: vec![Arc::new(group)], wanted: wanted.take(super::PAGES_PER_GROUP).collect() };
    let was_put = |page: &[u8]| page.iter().all(|&byte| byte == 0xa5);
    let mut wrong = 0;
    let filled = job.decode(&mut Scratch::new(), &mut |_, bytes| {
        wrong += usize::from(!was_put(bytes));
        Ok::<(), std::convert::Infallible>(())
    });
    wrong == 0 && (filled.is_ok() || matches!(filled, Err(FillError::Damaged { .. })))
}
