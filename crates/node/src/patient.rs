//! A stopped process that is to lose its memory: what of it can leave, the thread that empties it, and the userfaultfds
//! that will watch it. What it may refuse, it refuses before anything left.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use linux::inject::{InjectError, Vehicle};
use linux::pagemap::PageMap;
use linux::process::Process;
use linux::trace::{RseqArea, Stopped};
use linux::userfault::{Userfault, Watch};
use pages::{Manifest, PageRange};
use protocol::Depth;

use crate::asleep::{Planted, Space};
use crate::batch::gather;
use crate::body::Body;
use crate::dedup::{Bed, DedupError};
use crate::ranges::{common, without};
use crate::survey::{Kind, Survey, survey};

/// From the fork of a process to its own program it takes milliseconds.
const FREE_WITHIN: Duration = Duration::from_secs(2);

/// So much leaves before it is looked whether an invocation has come: half a millisecond.
const PAGES_PER_PORTION: u64 = 1024;

/// A process that is about to lose its memory.
pub(crate) struct Patient<'a> {
    /// Its thread that will empty it.
    vehicle: Vehicle<'a>,
    pub(crate) survey: Survey,
    planted: Option<Planted>,
    writes: Option<Userfault>,
}

/// Surveys a process and borrows the thread that will empty it.
pub(crate) fn prepare<'a>(
    stopped: &'a Stopped,
    at: usize,
    body: &Body,
    bed: &Bed<'_>,
) -> Result<Patient<'a>, DedupError> {
    let mut survey = survey(stopped, body.shadow(stopped.pid()), &|| bed.is_interrupted())?;
    let vehicle = Vehicle::borrow(stopped, &survey.mappings)?;
    // The kernel writes there when this thread returns from an injected call: that page never leaves.
    if let Some(RseqArea { address, len_bytes }) = vehicle.rseq_area() {
        survey.leave_bytes(address, len_bytes);
    }
    if bed.depth == Depth::Light {
        survey.leave_working_set(bed.working_set.of_process(at));
    }
    Ok(Patient { vehicle, survey, planted: None, writes: None })
}

impl Patient<'_> {
    /// Whatever the process may refuse, it refuses here or in `watch`, while all its memory is still there.
    pub(crate) fn make_ready(&mut self) -> Result<(), DedupError> {
        self.vehicle.scratch()?;
        Ok(())
    }

    /// Gets the userfaultfds that will watch it.
    pub(crate) fn watch(&mut self, body: &mut Body, bed: &Bed<'_>) -> Result<(), DedupError> {
        let pid = self.survey.pid;
        let io = |source| DedupError::Io { what: "watch", pid, source };
        self.planted = Some(match body.take_planted(pid) {
            Some(kept) => {
                self.vehicle.adopt(kept.fd);
                kept
            }
            None => {
                let fd = self.vehicle.create_userfaultfd(bed.device).map_err(|error| may_not(error, pid))?;
                plant(pid, fd, bed.lazy).map_err(io)?
            }
        });
        if bed.lazy {
            self.writes = self.note_writes(bed)?;
        }
        Ok(())
    }

    /// What was made for it is closed when its thread is put back.
    pub(crate) fn do_without_userfault(&mut self) {
        (self.planted, self.writes) = (None, None);
    }

    /// Gives memory back to the kernel, a little at a time, what is `hot` last, until `give_up` says that somebody waits for
    /// the process: then the rest stays in it. Returns what stays.
    pub(crate) fn lose(
        &mut self,
        hot: &[PageRange],
        give_up: &dyn Fn() -> bool,
    ) -> Result<Vec<PageRange>, DedupError> {
        let pid = self.survey.pid;
        let all = self.survey.anonymous_runs();
        let cold_first = without(&all, hot).into_iter().chain(common(&all, hot));
        let mut lost = Vec::new();
        for portion in gather(cold_first, PAGES_PER_PORTION) {
            if give_up() {
                lost.sort_unstable();
                let stay = without(&self.survey.runs(), &lost);
                self.survey.leave(&stay);
                return Ok(stay);
            }
            let ranges: Vec<_> = portion.iter().map(|r| (r.start().get(), r.end().get())).collect();
            let done = self.vehicle.empty(&ranges, &mut || {});
            done.map_err(|source| DedupError::HalfEmptied { pid, source: io::Error::other(source) })?;
            lost.extend(portion);
            fail_point::reach("emptied-some");
        }
        Ok(Vec::new())
    }

    /// Gets a userfaultfd that will note which pages are written. `None`: the kernel is older than 6.7, or refuses.
    fn note_writes(&mut self, bed: &Bed<'_>) -> Result<Option<Userfault>, DedupError> {
        let fd = match self.vehicle.create_userfaultfd(bed.device) {
            Err(InjectError::Refused { .. }) => return Ok(None),
            fd => fd?,
        };
        let ours = Process::open(self.survey.pid).and_then(|process| process.get_fd(fd));
        let writes = ours.and_then(|fd| Userfault::set_up(fd, Watch::Writes)).ok();
        self.vehicle.close(fd)?; // Ours is enough: if we die, nobody wants to know.
        Ok(writes)
    }
}

/// A process without rights, or with a filter that is not ours to suspend, is not one that has just too many files open.
fn may_not(error: InjectError, pid: i32) -> DedupError {
    match &error {
        InjectError::Refused { source, .. }
            if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) =>
        {
            DedupError::NoUserfault { pid }
        }
        _ => error.into(),
    }
}

/// Shares the userfaultfd that the process was made to create.
fn plant(pid: i32, fd: i32, lazy: bool) -> io::Result<Planted> {
    let ours = Process::open(pid)?.get_fd(fd)?;
    let userfault = Userfault::set_up(ours, if lazy { Watch::AllEvents } else { Watch::Faults })?;
    Ok(Planted { userfault, pid, fd })
}

/// Gives the memory of one process back to the kernel. Everything in it is in `manifest`.
pub(crate) fn empty(
    body: &mut Body,
    patient: Patient<'_>,
    manifest: Arc<Manifest>,
    lazy: bool,
) -> Result<Space, DedupError> {
    let Patient { mut vehicle, survey, planted, writes } = patient;
    let pid = survey.pid;
    let broken = |source: InjectError| DedupError::HalfEmptied { pid, source: io::Error::other(source) };
    let broken_io = |source| DedupError::HalfEmptied { pid, source };
    let mut space = Space { pid, manifest, watched: Vec::new(), planted, writes };
    if space.planted.is_some() {
        make_anonymous(&mut vehicle, &survey).map_err(broken)?;
        fail_point::reach("converted");
    }
    // Before it is watched: else the kernel would tell us of each range, and wait until we have read it. The process
    // is stopped, and dies if we do.
    let ranges = emptied(&survey, &space.manifest, space.planted.is_some());
    vehicle.empty(&ranges, &mut || {}).map_err(broken)?;
    body.drop_shadow(pid); // Two cannot watch one mapping.
    fail_point::reach("dontneed");
    if let Some(Planted { userfault, .. }) = &space.planted {
        space.watched = watched(&survey, lazy);
        for range in &space.watched {
            register(userfault, *range).map_err(broken_io)?;
        }
        fail_point::reach("registered");
        empty_again(&mut vehicle, &space, userfault, &survey)?;
    }
    if let Some(Planted { userfault, fd, .. }) = &space.planted {
        if lazy {
            vehicle.leave_open(*fd);
        } else {
            for range in space.manifest.content_ranges().flat_map(|range| space.pieces(range)) {
                userfault.poison(range.start().get(), range.end().get()).map_err(broken_io)?;
            }
            vehicle.close(*fd).map_err(broken)?;
        }
    }
    vehicle.put_back().map_err(broken)?;
    Ok(space)
}

/// Watches a range. Where a shadow was, its userfaultfd may live a little longer than we do with it: a process that another
/// thread of ours is about to start has a copy, until it executes its program.
fn register(userfault: &Userfault, range: PageRange) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match userfault.register(range.start().get(), range.end().get()) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && started.elapsed() < FREE_WITHIN => {
                std::thread::yield_now();
            }
            done => return done,
        }
    }
}

/// From when it is watched no page comes in but by us. Those that came before (somebody read them from outside, or the
/// kernel made a huge page around one that stayed) are zeros, and would be taken for content that is back.
fn empty_again(
    vehicle: &mut Vehicle<'_>,
    space: &Space,
    userfault: &Userfault,
    survey: &Survey,
) -> Result<(), DedupError> {
    let pid = space.pid;
    let broken_io = |source| DedupError::HalfEmptied { pid, source };
    let mut page_map = PageMap::open(pid).map_err(broken_io)?;
    page_map.look_over(&survey.mappings, &|| false).map_err(broken_io)?;
    let mut present = Vec::new();
    for range in &space.watched {
        page_map.present(range.start().get(), range.end().get(), &mut present).map_err(broken_io)?;
    }
    let content: Vec<_> = space.manifest.content_ranges().collect();
    let present: Vec<_> =
        common(&present, &content).iter().map(|range| (range.start().get(), range.end().get())).collect();
    if present.is_empty() {
        return Ok(());
    }
    tracing::debug!(pid, runs = present.len(), "pages came in while it was emptied");
    let mut told = Vec::new();
    let mut read_events = || {
        let _ = userfault.events(&mut told); // An error shows in the call, which then does not come back.
        told.clear(); // Our own doing: nothing to follow.
    };
    vehicle
        .empty(&present, &mut read_events)
        .map_err(|source| DedupError::HalfEmptied { pid, source: io::Error::other(source) })
}

/// A userfaultfd watches anonymous memory only: private copies of file pages become that, once.
fn make_anonymous(vehicle: &mut Vehicle<'_>, survey: &Survey) -> Result<(), InjectError> {
    let parts = survey.parts.iter().filter(|part| part.kind == Kind::FileCopies);
    for (run, prot) in parts.flat_map(|part| part.runs.iter().map(|run| (run, part.prot))) {
        vehicle.replace_by_anonymous(run.start().get(), run.end().get(), prot)?;
    }
    Ok(())
}

/// From the first to the last page that leaves, by mapping: what lies between is not there, or never held content.
fn hull(runs: &[PageRange]) -> Option<PageRange> {
    Some(PageRange::from_bounds(runs.first()?.start(), runs.last()?.end()))
}

/// Ranges in which missing pages will be ours to fill. While part of a mapping is watched, the kernel sees two: a
/// process that runs meanwhile could no longer `mremap` it, so then all of it is watched.
fn watched(survey: &Survey, lazy: bool) -> Vec<PageRange> {
    let of = |part: &crate::survey::Part| match part.kind {
        Kind::Anonymous if lazy && !part.runs.is_empty() => vec![part.mapping],
        Kind::Anonymous => hull(&part.runs).into_iter().collect::<Vec<_>>(),
        Kind::FileCopies => part.runs.clone(),
    };
    survey.parts.iter().flat_map(of).collect()
}

/// Ranges to give back: whole mappings but for the pages that stay, for a page table goes back only with a range
/// that covers all of it. Copies of file pages go run by run, where they were not replaced; those full of zeros stay,
/// for the file's own bytes would show in their place, and nobody writes zeros over them.
fn emptied(survey: &Survey, manifest: &Manifest, converted: bool) -> Vec<(u64, u64)> {
    let content: Vec<_> = manifest.content_ranges().collect();
    let of = |part: &crate::survey::Part| match part.kind {
        Kind::Anonymous => survey.without_left(part.mapping),
        // Anonymous by now; what somebody has read from outside since then is a page of zeros.
        Kind::FileCopies if converted => part.runs.clone(),
        Kind::FileCopies => common(&part.runs, &content),
    };
    let parts = survey.parts.iter().filter(|part| !part.runs.is_empty()); // All that is left of the others stays.
    parts.flat_map(of).map(|range| (range.start().get(), range.end().get())).collect()
}
