//! Where the content of an address space stands while it comes back, by the addresses that its manifest knows.

use std::sync::{Arc, OnceLock};

use linux::arena::MemfdArena;
use pages::{
    Fill, FillJob, FillPlan, JobIndex, Manifest, PAGE_SIZE, PAGES_PER_GROUP, PageAddr, PageRange, PlanError,
    Scratch,
};

use crate::PageStore;
use crate::lazy_space::LazyError;

/// The content of one address space.
pub(crate) struct Source {
    store: Arc<PageStore>,
    pub(crate) manifest: Arc<Manifest>,
    /// What was out when it began to run.
    out: Vec<PageRange>,
    plan: OnceLock<Plan>,
}

/// How all that was out comes back. To make it takes milliseconds for a large process, and no request should wait for
/// that.
struct Plan {
    plan: FillPlan<MemfdArena>,
    index: JobIndex,
}

impl Source {
    pub(crate) fn new(store: &Arc<PageStore>, manifest: Arc<Manifest>, out: Vec<PageRange>) -> Source {
        Source { store: Arc::clone(store), manifest, out, plan: OnceLock::new() }
    }

    /// Finds out where everything stands, before much of it is wanted.
    pub(crate) fn prepare(&self) -> Result<(), PlanError> {
        self.plan().map(|_| ())
    }

    fn plan(&self) -> Result<&Plan, PlanError> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan);
        }
        let plan = self.store.plan(&self.manifest, &self.out)?;
        let index = plan.index();
        Ok(self.plan.get_or_init(|| Plan { plan, index }))
    }

    /// Decodes the group of the page, and hands out what is wanted of it: all, or, before `prepare`, what lies near.
    pub(crate) fn decode(
        &self,
        known: PageAddr,
        scratch: &mut Scratch,
        fill: &mut Fill<'_, LazyError>,
    ) -> Result<(), LazyError> {
        if self.plan.get().is_some() {
            return Ok(self.job(known)?.1.decode(scratch, fill)?);
        }
        let near = self.store.plan(&self.manifest, &[neighbours(known)])?;
        let job = near.jobs().iter().find(|job| job.ranges().any(|range| range.contains(known)));
        Ok(job.ok_or(LazyError::Damaged { addr: known })?.decode(scratch, fill)?)
    }

    /// What brings the page, with its number.
    pub(crate) fn job(&self, known: PageAddr) -> Result<(usize, &FillJob<MemfdArena>), LazyError> {
        let Plan { plan, index } = self.plan()?;
        let nth = index.job_of(known).ok_or(LazyError::Damaged { addr: known })?;
        Ok((nth, &plan.jobs()[nth]))
    }
}

/// Where the other pages of its group mostly lie.
fn neighbours(page: PageAddr) -> PageRange {
    const REACH: u64 = PAGES_PER_GROUP as u64 - 1;
    let start = PageAddr::containing(page.get().saturating_sub(REACH * PAGE_SIZE as u64));
    PageRange::from_bounds(start, page + REACH + 1)
}
