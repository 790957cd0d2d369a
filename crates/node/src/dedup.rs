//! Turns a warm sandbox into a dedup sandbox: its memory leaves, everything else of it stays.
//! Whether to dedup at all is not decided here: that is `brain`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use linux::inject::{InjectError, Vehicle};
use linux::pagemap::PageMap;
use linux::process::Process;
use linux::trace::{RseqArea, Stopped, TraceError};
use linux::userfault::{Userfault, Watch};
use pages::{Domain, Manifest, PageRange, StoreError};
use protocol::{Depth, SleepRecord};

use crate::asleep::{Asleep, Hold, Planted, Space};
use crate::base::Portrait;
use crate::body::{Body, Means};
use crate::encode::encode;
use crate::fail_point;
use crate::lineage::Role;
use crate::memory_hash::{self, MemoryHash};
use crate::ranges::{common, pages as pages_of};
use crate::stopped_tree::StoppedTree;
use crate::survey::{Kind, Survey, survey};
use crate::{PageStore, WorkingSet};

/// What a sleep is given.
pub(crate) struct Bed<'a> {
    /// Where the pages go.
    pub(crate) store: &'a PageStore,
    /// With whom they may be shared.
    pub(crate) domain: &'a Domain,
    /// What it is to sandboxes like it.
    pub(crate) role: Role,
    /// Pages that the last wakes touched: kept so that they come back fast.
    pub(crate) working_set: &'a WorkingSet,
    /// Invocations that wait: one is enough to break off.
    pub(crate) wakes_pending: &'a AtomicUsize,
    /// Whether the wake will let it run before all its memory is back.
    pub(crate) lazy: bool,
    /// Whether the working set stays.
    pub(crate) depth: Depth,
    /// Whether to hash all memory first.
    pub(crate) hash: bool,
}

impl Bed<'_> {
    pub(crate) fn is_interrupted(&self) -> bool {
        self.wakes_pending.load(Ordering::Relaxed) > 0
    }
}

/// The sandbox did not fall asleep.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DedupError {
    /// An invocation came first. The sandbox runs, unharmed.
    #[error("interrupted")]
    Interrupted,
    /// It cannot sleep as it is. It runs, unharmed.
    #[error("{why}")]
    LeftWarm { why: String },
    /// Something failed before anything was emptied. It runs, unharmed.
    #[error("{what} process {pid}")]
    Io { what: &'static str, pid: i32, source: io::Error },
    /// The store refused. It runs, unharmed.
    #[error("store pages")]
    Store(#[from] StoreError),
    /// A process died.
    #[error("process {pid} died")]
    Died { pid: i32 },
    /// Something failed when part of the memory had left already. The caller kills it.
    #[error("empty process {pid}")]
    HalfEmptied { pid: i32, source: io::Error },
}

impl From<TraceError> for DedupError {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Died { pid } => DedupError::Died { pid },
            TraceError::BrokenOff { .. } => DedupError::Interrupted,
            other => DedupError::LeftWarm { why: crate::causes(&other) },
        }
    }
}

impl From<InjectError> for DedupError {
    fn from(error: InjectError) -> Self {
        match error {
            InjectError::Trace(TraceError::Died { pid }) => DedupError::Died { pid },
            other => DedupError::LeftWarm { why: crate::causes(&other) },
        }
    }
}

/// A sandbox that fell asleep.
pub(crate) struct Slept {
    pub(crate) asleep: Asleep,
    pub(crate) record: SleepRecord,
    /// Of each process, if it was put as a base.
    pub(crate) portraits: Option<Vec<Portrait>>,
}

/// Dedups one sandbox. On any error but `HalfEmptied` and `Died` it runs on, unharmed.
pub(crate) fn dedup(body: &mut Body, bed: &Bed<'_>) -> Result<Slept, DedupError> {
    let mut clock = Clock::start();
    let tree = body.stop(&|| bed.is_interrupted())?; // Dropping it lets them run on, unharmed,
    let mut record = SleepRecord { processes: tree.processes().len() as u32, ..SleepRecord::default() };
    record.freeze_us = clock.lap();
    fail_point::reach("frozen");
    let stopped = tree.processes().iter().enumerate();
    let mut patients: Vec<_> =
        stopped.map(|(at, one)| prepare(one, at, body, bed)).collect::<Result<_, _>>()?;
    let hash = bed.hash.then(|| hash(&tree)).transpose()?;
    record.scan_us = clock.lap();
    let surveys: Vec<&Survey> = patients.iter().map(|patient| &patient.survey).collect();
    let mut put = encode(&surveys, body, bed)?; // All of it is in the store, and checked,
    put.count(&mut record);
    record.unchanged_pages = surveys.iter().map(|survey| pages_of(&survey.unchanged_runs())).sum();
    record.same_pages -= record.unchanged_pages;
    let portraits = put.portraits.take();
    record.left_pages = surveys.iter().map(|survey| survey.left_pages).sum();
    record.encode_us = clock.lap();
    fail_point::reach("stored");
    if bed.is_interrupted() {
        return Err(DedupError::Interrupted); // The last moment at which turning back costs nothing.
    }
    let mut pinned = put.pin()?; // so it may leave,
    let means = body.means();
    patients.iter_mut().try_for_each(|patient| patient.make_ready(body, means, bed.lazy))?;
    fail_point::reach("planted");
    tree.memory_leaves(); // until here: from now on dropping it kills them.
    let mut spaces = Vec::new();
    for (patient, manifest) in patients.into_iter().zip(pinned.manifests.clone()) {
        spaces.push(empty(body, patient, manifest, bed.lazy)?);
        fail_point::reach("emptied-one");
    }
    record.empty_us = clock.lap();
    fail_point::reach("emptied");
    let rseq = tree.rseq_areas();
    let hold = hold(body, tree)?;
    fail_point::reach("asleep");
    pinned.manifests.clear(); // From here on they are the sleeper's.
    record.total_us = clock.total();
    let asleep = Asleep { hold, spaces, hash, rseq, lazy: bed.lazy && means.userfault };
    Ok(Slept { asleep, record, portraits })
}

/// A process that is about to lose its memory.
struct Patient<'a> {
    /// Its thread that will empty it.
    vehicle: Vehicle<'a>,
    survey: Survey,
    planted: Option<Planted>,
    writes: Option<Userfault>,
}

/// Surveys a process and borrows the thread that will empty it.
fn prepare<'a>(
    stopped: &'a Stopped,
    at: usize,
    body: &Body,
    bed: &Bed<'_>,
) -> Result<Patient<'a>, DedupError> {
    let mut survey = survey(stopped, body.shadow(stopped.pid()))?;
    let vehicle = Vehicle::borrow(stopped, &survey.mappings)?;
    // The kernel writes there when this thread returns from an injected call: that page never leaves.
    if let Some(RseqArea { address, len_bytes }) = vehicle.rseq_area() {
        survey.leave_bytes(address, len_bytes);
    }
    if bed.depth == Depth::Light {
        survey.leave(bed.working_set.of_process(at));
    }
    Ok(Patient { vehicle, survey, planted: None, writes: None })
}

impl Patient<'_> {
    /// Whatever the process may refuse, it refuses here, while all its memory is still there.
    fn make_ready(&mut self, body: &mut Body, means: Means, lazy: bool) -> Result<(), DedupError> {
        self.vehicle.scratch()?;
        if means.userfault {
            let pid = self.survey.pid;
            let io = |source| DedupError::Io { what: "watch", pid, source };
            self.planted = Some(match body.take_planted(pid) {
                Some(kept) => {
                    self.vehicle.adopt(kept.fd);
                    kept
                }
                None => {
                    let fd = self.vehicle.create_userfaultfd()?;
                    plant(pid, fd, lazy).map_err(io)?
                }
            });
            if lazy {
                self.writes = self.note_writes()?;
            }
        }
        Ok(())
    }
}

impl Patient<'_> {
    /// Gets a userfaultfd that will note which pages are written. `None`: the kernel is older than 6.7, or refuses.
    fn note_writes(&mut self) -> Result<Option<Userfault>, DedupError> {
        let fd = match self.vehicle.create_userfaultfd() {
            Err(InjectError::Refused { .. }) => return Ok(None),
            fd => fd?,
        };
        let ours = Process::open(self.survey.pid).and_then(|process| process.get_fd(fd));
        let writes = ours.and_then(|fd| Userfault::set_up(fd, Watch::Writes)).ok();
        self.vehicle.close(fd)?; // Ours is enough: if we die, nobody wants to know.
        Ok(writes)
    }
}

/// Shares the userfaultfd that the process was made to create.
fn plant(pid: i32, fd: i32, lazy: bool) -> io::Result<Planted> {
    let ours = Process::open(pid)?.get_fd(fd)?;
    let userfault = Userfault::set_up(ours, if lazy { Watch::AllEvents } else { Watch::Faults })?;
    Ok(Planted { userfault, pid, fd })
}

fn hash(tree: &StoppedTree) -> Result<MemoryHash, DedupError> {
    let pids: Vec<_> = tree.processes().iter().map(Stopped::pid).collect();
    memory_hash::of(&pids, &tree.rseq_areas()).map_err(|source| DedupError::Io {
        what: "hash",
        pid: pids[0],
        source,
    })
}

/// Gives the memory of one process back to the kernel. Everything in it is in `manifest`.
fn empty(
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
            userfault.register(range.start().get(), range.end().get()).map_err(broken_io)?;
        }
        fail_point::reach("registered");
        empty_again(&mut vehicle, &space, userfault)?;
    }
    if let Some(Planted { userfault, fd, .. }) = &space.planted {
        if lazy {
            vehicle.leave_open(*fd);
        } else {
            for range in space.manifest.content_ranges().flat_map(|range| space.pieces(range)) {
                let _present = userfault.poison(range.start().get(), range.end().get()).map_err(broken_io)?;
            }
            vehicle.close(*fd).map_err(broken)?;
        }
    }
    vehicle.put_back().map_err(broken)?;
    Ok(space)
}

/// From when it is watched no page comes in but by us. Those that came before (somebody read them from outside, or the
/// kernel made a huge page around one that stayed) are zeros, and would be taken for content that is back.
fn empty_again(vehicle: &mut Vehicle<'_>, space: &Space, userfault: &Userfault) -> Result<(), DedupError> {
    let pid = space.pid;
    let broken_io = |source| DedupError::HalfEmptied { pid, source };
    let mut page_map = PageMap::open(pid).map_err(broken_io)?;
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

/// From being held by ptrace to being held by the freezer, where there is one; no code runs in between.
fn hold(body: &Body, tree: StoppedTree) -> Result<Hold, DedupError> {
    if !body.means().freezer {
        return Ok(Hold::Traced(tree));
    }
    let pid = body.pid();
    let broken = |source| DedupError::HalfEmptied { pid, source };
    body.family.cgroup.start_freezing().map_err(broken)?;
    tree.release();
    body.family.cgroup.await_frozen().map_err(broken)?;
    Ok(Hold::Frozen)
}

/// Measures the parts of a journey.
struct Clock {
    start: Instant,
    lap: Instant,
}

impl Clock {
    fn start() -> Clock {
        let now = Instant::now();
        Clock { start: now, lap: now }
    }

    /// Microseconds since the last lap.
    fn lap(&mut self) -> u64 {
        let now = Instant::now();
        let us = now.duration_since(self.lap).as_micros() as u64;
        self.lap = now;
        us
    }

    fn total(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}
