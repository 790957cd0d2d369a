//! One address space whose memory is on its way back while its process runs.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use linux::userfault::{Event, Filled, Note, Userfault};
use pages::{FillError, PAGE_SIZE, PageAddr, PageRange, PlanError, Scratch};

use crate::PageStore;
use crate::asleep::{Planted, Space};
use crate::guard::{Entrusted, Guard};
use crate::ranges::{joined, without};
use crate::remaining::Remaining;
use crate::shadow::Noting;
use crate::source::Source;

/// Memory that could not be brought back. The sandbox must die.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LazyError {
    /// A page is not what it was.
    #[error("rebuild the page at {addr}")]
    Damaged { addr: PageAddr },
    /// The manifest is not one of this store.
    #[error("read the manifest")]
    Manifest { source: PlanError },
    /// The kernel refused.
    #[error("fill the page at {addr}")]
    Fill { addr: PageAddr, source: io::Error },
    /// Events could not be read, or mappings not be let go.
    #[error("follow the process")]
    Follow { source: io::Error },
}

/// Decoded groups that are kept while single pages are served: 16 MiB, for as long as one request.
const DECODED_GROUPS_MAX: usize = 256;

/// Pages of zeros that are given at once: they cost nothing until they are written.
const ZERO_PAGES_MAX: u64 = 64;

/// What is out of one address space.
pub(crate) struct LazySpace {
    pub(crate) watched: Watched,
    /// Will note which pages are written.
    pub(crate) noting: Option<Noting>,
    pub(crate) source: Arc<Source>,
    remaining: Remaining,
    /// Where pages stand now that came from other addresses.
    moved: Vec<PageRange>,
    /// Faults that could not be served while the process was changing its mappings.
    waiting: Vec<PageAddr>,
    /// Groups that single pages were taken from, by job: their content, by the addresses that the manifest knows.
    decoded: HashMap<usize, Decoded>,
}

/// The pages of one group.
type Decoded = Vec<(PageAddr, Box<[u8]>)>;

/// How the process is watched.
pub(crate) enum Watched {
    /// By a userfaultfd that it has, too.
    Planted(Planted),
    /// As the child of one that is, made meanwhile. Nobody but we has its userfaultfd, so the guard gets it too.
    Child(Userfault, #[expect(dead_code, reason = "held until the watch ends")] Option<Entrusted>),
}

/// How much comes back with a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Portion {
    /// The page alone: so each page that is touched is seen to be.
    Page,
    /// All of its group, which is decoded for it anyhow.
    Group,
}

impl LazyError {
    /// Whether a page, or what is known of it, is not what it was.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, LazyError::Damaged { .. } | LazyError::Manifest { .. })
    }
}

impl From<PlanError> for LazyError {
    fn from(source: PlanError) -> Self {
        LazyError::Manifest { source }
    }
}

impl From<FillError<LazyError>> for LazyError {
    fn from(error: FillError<LazyError>) -> Self {
        match error {
            FillError::Damaged { addr } => LazyError::Damaged { addr },
            FillError::Fill(error) => error,
        }
    }
}

impl LazySpace {
    /// All of `space` that is not in `filled`. `None` where there is no userfaultfd.
    pub(crate) fn new(store: &Arc<PageStore>, space: Space, filled: &[PageRange]) -> Option<LazySpace> {
        let Space { manifest, planted, writes, .. } = space;
        let watched = Watched::Planted(planted?);
        let out = without(&manifest.content_ranges().collect::<Vec<_>>(), filled);
        let remaining = Remaining::of(out.iter().copied());
        let source = Arc::new(Source::new(store, manifest, out));
        let (moved, waiting, decoded) = (Vec::new(), Vec::new(), HashMap::new());
        let noting = writes.map(Noting::new);
        Some(LazySpace { watched, noting, source, remaining, moved, waiting, decoded })
    }

    /// Fills its pages.
    pub(crate) fn userfault(&self) -> &Userfault {
        match &self.watched {
            Watched::Planted(planted) => &planted.userfault,
            Watched::Child(userfault, _) => userfault,
        }
    }

    /// Where pages stand that came from other addresses.
    pub(crate) fn moved(&self) -> Vec<PageRange> {
        let mut moved = self.moved.clone();
        moved.sort_unstable();
        joined(moved) // What moved twice overlaps.
    }

    /// Whether nothing is out any more.
    pub(crate) fn is_whole(&self) -> bool {
        self.remaining.is_empty()
    }

    /// Whether this is a child that is dead, or of which nothing is out.
    pub(crate) fn is_finished_child(&self) -> bool {
        matches!(&self.watched, Watched::Child(userfault, _) if self.is_whole() || userfault.is_orphaned())
    }

    /// Whether faults wait for `serve`.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Reads what the process did. Children that it made are given back; faults wait for `serve`.
    pub(crate) fn follow(&mut self, guard: Option<&Arc<Guard>>) -> Result<Vec<LazySpace>, LazyError> {
        let mut events = Vec::new();
        self.userfault().events(&mut events).map_err(|source| LazyError::Follow { source })?;
        let mut children = Vec::new();
        for event in events {
            match event {
                Event::Fault(addr) => self.waiting.push(addr),
                Event::Remove { start, end } => self.remaining.remove(start, end),
                Event::Unmap { start, end } => self.remaining.unmapped(start, end),
                Event::Remap { from, to, len_bytes } => {
                    self.remaining.moved(from, to, len_bytes);
                    let (start, end) = (PageAddr::containing(to), PageAddr::containing(to + len_bytes));
                    self.moved.push(PageRange::from_bounds(start, end));
                }
                Event::Fork(userfault) => {
                    // The child runs in a moment: whatever else there is to do, this comes first.
                    let entrust =
                        |guard: &Arc<Guard>| Ok(guard.entrust(userfault.as_fd().try_clone_to_owned()?));
                    let entrusted =
                        guard.map(entrust).transpose().map_err(|source| LazyError::Follow { source })?;
                    fail_point::reach("forked");
                    children.push(LazySpace {
                        watched: Watched::Child(userfault, entrusted),
                        noting: None,
                        source: Arc::clone(&self.source),
                        remaining: self.remaining.of_child(),
                        moved: Vec::new(),
                        waiting: Vec::new(),
                        decoded: HashMap::new(),
                    });
                }
            }
        }
        Ok(children)
    }

    /// Serves the faults that wait; calls `note` for each that was served with content, with the address under which
    /// the manifest knows the page.
    pub(crate) fn serve(
        &mut self,
        portion: Portion,
        scratch: &mut Scratch,
        mut note: impl FnMut(PageAddr),
    ) -> Result<(), LazyError> {
        for addr in std::mem::take(&mut self.waiting) {
            let Some(known) = self.remaining.source_of(addr) else {
                self.serve_zero(addr)?;
                continue;
            };
            match portion {
                Portion::Page => self.fill_one(addr, known, scratch)?,
                Portion::Group => self.fill_with(addr, known, scratch)?,
            }
            match self.remaining.source_of(addr) {
                Some(_) => self.waiting.push(addr), // The process is changing its mappings.
                None => note(known),
            }
        }
        Ok(())
    }

    /// The page never had content, or was given back; or it came back meanwhile, and only the waiter must be told.
    /// A program that touches one such page is mostly about to fill fresh memory with more.
    fn serve_zero(&mut self, addr: PageAddr) -> Result<(), LazyError> {
        let room = (1..ZERO_PAGES_MAX).take_while(|page| self.remaining.source_of(addr + *page).is_none());
        let pages = 1 + room.count() as u64;
        let failed = |source| LazyError::Fill { addr, source };
        let filled = match self.userfault().fill_zero_and_wake(addr, pages).map_err(failed)? {
            // The mapping ends before so many pages.
            Filled::Unmapped => self.userfault().fill_zero_and_wake(addr, 1).map_err(failed)?,
            filled => filled,
        };
        match filled {
            Filled::Changing(_) => self.waiting.push(addr),
            Filled::Done | Filled::Occupied(_) | Filled::Unmapped | Filled::Dead => {}
        }
        Ok(())
    }

    /// Fills some pages, in the background. `false`: nothing was out.
    pub(crate) fn fill_some(&mut self, scratch: &mut Scratch) -> Result<bool, LazyError> {
        let Some((addr, known)) = self.remaining.first() else { return Ok(false) };
        self.fill_with(addr, known, scratch)?;
        Ok(true)
    }

    /// Fills the page at `addr` alone, which the manifest knows as `known`.
    fn fill_one(&mut self, addr: PageAddr, known: PageAddr, scratch: &mut Scratch) -> Result<(), LazyError> {
        let source = Arc::clone(&self.source);
        let (nth, job) = source.job(known)?;
        if !self.decoded.contains_key(&nth) {
            if self.decoded.len() >= DECODED_GROUPS_MAX {
                self.decoded.clear();
            }
            let mut pages = Vec::new();
            job.decode(scratch, &mut |start, bytes| {
                let addrs = PageRange::new(start, (bytes.len() / PAGE_SIZE) as u64).addrs();
                pages.extend(addrs.zip(bytes.chunks_exact(PAGE_SIZE).map(Box::from)));
                Ok::<(), LazyError>(())
            })?;
            self.decoded.insert(nth, pages);
        }
        let pages = self.decoded.remove(&nth).unwrap_or_default();
        let page = pages.iter().find(|(at, _)| *at == known).ok_or(LazyError::Damaged { addr: known })?;
        self.fill(addr, &page.1, note_of(addr, known))?;
        self.decoded.insert(nth, pages);
        Ok(())
    }

    /// Fills the page at `addr`, which the manifest knows as `known`, and what lies in its group and has moved as
    /// far as it.
    fn fill_with(&mut self, addr: PageAddr, known: PageAddr, scratch: &mut Scratch) -> Result<(), LazyError> {
        let source = Arc::clone(&self.source);
        let moved = addr.get().wrapping_sub(known.get());
        source.decode(known, scratch, &mut |start, bytes| {
            let nth = known.pages_since(start) as usize;
            if start <= known
                && nth < bytes.len() / PAGE_SIZE
                && self.remaining.source_of(addr) == Some(known)
            {
                // Whoever waits for it need not wait for the others.
                let page = &bytes[nth * PAGE_SIZE..][..PAGE_SIZE];
                self.fill(addr, page, note_of(addr, known))?;
            }
            let mut rest = bytes;
            let mut known = start;
            while !rest.is_empty() {
                let addr = PageAddr::containing(known.get().wrapping_add(moved));
                let pages = self.still_out(addr, known, rest.len() / PAGE_SIZE).max(1);
                let (now, later) = rest.split_at(pages * PAGE_SIZE);
                if self.remaining.source_of(addr) == Some(known) {
                    self.fill(addr, now, note_of(addr, known))?;
                }
                (rest, known) = (later, known + pages as u64);
            }
            Ok(())
        })
    }

    /// How many pages from `addr` on are out and known as those from `known` on.
    fn still_out(&self, addr: PageAddr, known: PageAddr, pages: usize) -> usize {
        (0..pages as u64)
            .take_while(|page| self.remaining.source_of(addr + *page) == Some(known + *page))
            .count()
    }

    fn fill(&mut self, addr: PageAddr, bytes: &[u8], note: Note) -> Result<(), LazyError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr + (done / PAGE_SIZE) as u64;
            let filled = self.userfault().fill_and_wake(at, &bytes[done..], note);
            done += match filled.map_err(|source| LazyError::Fill { addr: at, source })? {
                Filled::Done => bytes.len() - done,
                // A page that is out is not there, unless the process has just moved another there: its event is
                // on the way, and will say so.
                Filled::Occupied(filled) => filled + PAGE_SIZE,
                Filled::Changing(filled) => {
                    self.remaining.remove(at.get(), at.get() + filled as u64);
                    return Ok(()); // Its event comes first.
                }
                Filled::Unmapped if bytes.len() - done > PAGE_SIZE => {
                    // Several mappings by now: page by page.
                    let (page, rest) = bytes[done..].split_at(PAGE_SIZE);
                    self.fill(at, page, note)?;
                    return self.fill(at + 1, rest, note);
                }
                Filled::Unmapped => PAGE_SIZE, // In no mapping: its event is on the way.
                Filled::Dead => {
                    self.remaining = Remaining::default();
                    return Ok(());
                }
            };
        }
        self.remaining.remove(addr.get(), addr.get() + bytes.len() as u64);
        Ok(())
    }
}

/// What moved holds no longer what the manifest says of its address.
fn note_of(addr: PageAddr, known: PageAddr) -> Note {
    if addr == known { Note::Write } else { Note::Nothing }
}
