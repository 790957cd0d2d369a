//! One address space whose memory is on its way back while its process runs.

use std::io;
use std::sync::Arc;

use linux::arena::MemfdArena;
use linux::userfault::{Event, Filled, Userfault};
use pages::{FillError, FillPlan, JobIndex, PAGE_SIZE, PageAddr, PageRange, Scratch};

use crate::remaining::Remaining;

/// Memory that could not be brought back. The sandbox must die.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LazyError {
    /// A page is not what it was.
    #[error("rebuild the page at {addr}")]
    Damaged { addr: PageAddr },
    /// The kernel refused.
    #[error("fill the page at {addr}")]
    Fill { addr: PageAddr, source: io::Error },
    /// Events could not be read, or mappings not be let go.
    #[error("follow the process")]
    Follow { source: io::Error },
}

/// What is out of one address space. All pages of a group come back together, for they are decoded together.
pub(crate) struct LazySpace {
    /// Process, and the number of its userfaultfd in it; children made meanwhile have none.
    pub(crate) owner: Option<(i32, i32)>,
    pub(crate) userfault: Userfault,
    source: Arc<Source>,
    remaining: Remaining,
    /// Faults that could not be served while the process was changing its mappings.
    waiting: Vec<PageAddr>,
}

/// Where the content stands, by the addresses that the manifest knows.
struct Source {
    plan: FillPlan<MemfdArena>,
    index: JobIndex,
}

/// How a fault was served.
pub(crate) enum Served {
    /// With pages of these ranges, by the addresses that the manifest knows.
    Content(Vec<PageRange>),
    /// With zeros, or not yet.
    Nothing,
}

impl LazySpace {
    /// Everything in `plan` but its hot part, which is filled already.
    pub(crate) fn new(owner: (i32, i32), userfault: Userfault, plan: FillPlan<MemfdArena>) -> LazySpace {
        let remaining = Remaining::of(plan.rest().iter().flat_map(|job| job.ranges()));
        let index = plan.index();
        let source = Arc::new(Source { plan, index });
        LazySpace { owner: Some(owner), userfault, source, remaining, waiting: Vec::new() }
    }

    /// Whether nothing is out any more.
    pub(crate) fn is_whole(&self) -> bool {
        self.remaining.is_empty()
    }

    /// Reads what the process did. Children that it made are given back; faults wait for `serve`.
    pub(crate) fn follow(&mut self) -> Result<Vec<LazySpace>, LazyError> {
        let mut events = Vec::new();
        self.userfault.events(&mut events).map_err(|source| LazyError::Follow { source })?;
        let mut children = Vec::new();
        for event in events {
            match event {
                Event::Fault(addr) => self.waiting.push(addr),
                Event::Remove { start, end } | Event::Unmap { start, end } => {
                    self.remaining.remove(start, end)
                }
                Event::Remap { from, to, len_bytes } => self.remaining.shift(from, to, len_bytes),
                Event::Fork(userfault) => children.push(LazySpace {
                    owner: None,
                    userfault,
                    source: Arc::clone(&self.source),
                    remaining: self.remaining.clone(),
                    waiting: Vec::new(),
                }),
            }
        }
        Ok(children)
    }

    /// Serves the faults that wait; calls `note` for each.
    pub(crate) fn serve(
        &mut self,
        scratch: &mut Scratch,
        mut note: impl FnMut(Served),
    ) -> Result<(), LazyError> {
        for addr in std::mem::take(&mut self.waiting) {
            note(self.serve_one(addr, scratch)?);
        }
        Ok(())
    }

    fn serve_one(&mut self, addr: PageAddr, scratch: &mut Scratch) -> Result<Served, LazyError> {
        if let Some(known) = self.remaining.source_of(addr) {
            let job = self.fill_with(addr, known, scratch)?;
            if self.remaining.source_of(addr).is_some() {
                self.waiting.push(addr);
                return Ok(Served::Nothing);
            }
            return Ok(Served::Content(self.source.plan.jobs()[job].ranges().collect()));
        }
        // It never had content, or was given back; or it came back meanwhile, and only the waiter must be told.
        match self.userfault.fill_zero_and_wake(addr).map_err(|source| LazyError::Fill { addr, source })? {
            Filled::Changing(_) => self.waiting.push(addr),
            Filled::Done | Filled::Occupied(_) | Filled::Unmapped | Filled::Dead => {}
        }
        Ok(Served::Nothing)
    }

    /// Fills some pages, in the background. `false`: nothing was out.
    pub(crate) fn fill_some(&mut self, scratch: &mut Scratch) -> Result<bool, LazyError> {
        let Some((addr, known)) = self.remaining.first() else { return Ok(false) };
        self.fill_with(addr, known, scratch)?;
        Ok(true)
    }

    /// Fills the page at `addr`, which the manifest knows as `known`, and what lies in its group and has moved as
    /// far as it. Returns the job's number.
    fn fill_with(
        &mut self,
        addr: PageAddr,
        known: PageAddr,
        scratch: &mut Scratch,
    ) -> Result<usize, LazyError> {
        let source = Arc::clone(&self.source);
        // What is out stands in the plan: `remaining` was made from it.
        let job = source.index.job_of(known).ok_or(LazyError::Damaged { addr: known })?;
        let moved = addr.get().wrapping_sub(known.get());
        let filled = source.plan.jobs()[job].decode(scratch, &mut |known, bytes| {
            let mut rest = bytes;
            let mut known = known;
            while !rest.is_empty() {
                let addr = PageAddr::containing(known.get().wrapping_add(moved));
                let pages = self.still_out(addr, known, rest.len() / PAGE_SIZE).max(1);
                let (now, later) = rest.split_at(pages * PAGE_SIZE);
                if self.remaining.source_of(addr) == Some(known) {
                    self.fill(addr, now)?;
                }
                (rest, known) = (later, known + pages as u64);
            }
            Ok(())
        });
        match filled {
            Ok(()) => Ok(job),
            Err(FillError::Damaged { addr }) => Err(LazyError::Damaged { addr }),
            Err(FillError::Fill(error)) => Err(error),
        }
    }

    /// How many pages from `addr` on are out and known as those from `known` on.
    fn still_out(&self, addr: PageAddr, known: PageAddr, pages: usize) -> usize {
        (0..pages as u64)
            .take_while(|page| self.remaining.source_of(addr + *page) == Some(known + *page))
            .count()
    }

    fn fill(&mut self, addr: PageAddr, bytes: &[u8]) -> Result<(), LazyError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr + (done / PAGE_SIZE) as u64;
            let filled = self.userfault.fill_and_wake(at, &bytes[done..]);
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
                    self.fill(at, page)?;
                    return self.fill(at + 1, rest);
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
