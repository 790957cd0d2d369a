//! Turns a warm sandbox into a dedup sandbox: its memory leaves, everything else of it stays.
//! Whether to dedup at all is not decided here: that is `brain`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use linux::inject::InjectError;
use linux::trace::{Stopped, TraceError};
use linux::userfault_device::UserfaultDevice;
use pages::{Domain, StoreError};
use protocol::{Depth, SleepRecord};

use crate::asleep::{Asleep, Hold};
use crate::base::Portrait;
use crate::body::Body;
use crate::encode::{Put, encode};
use crate::lineage::Role;
use crate::memory_hash::{self, MemoryHash};
use crate::patient::{Patient, empty, prepare};
use crate::ranges::pages as pages_of;
use crate::stopped_tree::StoppedTree;
use crate::survey::Survey;
use crate::{PageStore, WorkingSet};

/// What a sleep is given.
pub(crate) struct Bed<'a> {
    /// Where the pages go.
    pub(crate) store: &'a Arc<PageStore>,
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
    /// For processes that may not make a userfaultfd themselves.
    pub(crate) device: Option<&'a UserfaultDevice>,
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
    /// It may not make a userfaultfd, nor can we help it to one. It runs, unharmed.
    #[error("process {pid} gets no userfaultfd")]
    NoUserfault { pid: i32 },
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

/// Dedups one sandbox. On any error but `HalfEmptied` and `Died` it runs on, unharmed. What was put in vain stays
/// in `put`.
pub(crate) fn dedup(body: &mut Body, bed: &Bed<'_>, put: &mut Put) -> Result<Slept, DedupError> {
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
    encode(&surveys, bed, put)?; // All of it is in the store, and checked,
    put.count(&mut record);
    record.unchanged_pages = surveys.iter().map(|survey| pages_of(&survey.unchanged_runs())).sum();
    record.same_pages -= record.unchanged_pages;
    let portraits = put.portraits.take();
    record.left_pages = surveys.iter().map(|survey| survey.left_pages).sum();
    if surveys.iter().any(|survey| survey.leaves_working_set) {
        record.depth = Depth::Light;
    }
    record.encode_us = clock.lap();
    fail_point::reach("stored");
    if bed.is_interrupted() {
        return Err(DedupError::Interrupted); // The last moment at which turning back costs nothing.
    }
    put.pin()?; // so it may leave,
    make_ready(&mut patients, body, bed)?;
    fail_point::reach("planted");
    tree.memory_leaves(); // until here: from now on dropping it kills them.
    let mut spaces = Vec::new();
    for (at, mut patient) in patients.into_iter().enumerate() {
        let stay = patient.lose(bed.working_set.of_process(at), &|| bed.is_interrupted())?;
        record.stayed_pages += pages_of(&stay);
        let Some(manifest) = put.next_manifest(&stay) else { break }; // There is one for each.
        spaces.push(empty(body, patient, manifest, bed.lazy)?);
        fail_point::reach("emptied-one");
    }
    record.empty_us = clock.lap();
    fail_point::reach("emptied");
    let rseq = tree.rseq_areas();
    let hold = hold(body, tree)?;
    fail_point::reach("asleep");
    put.hand_over();
    record.total_us = clock.total();
    let is_partial = record.stayed_pages > 0;
    let portraits = portraits.filter(|_| !is_partial); // A base has all that the others may have.
    let asleep = Asleep { hold, spaces, hash, rseq, lazy: bed.lazy && body.means().userfault, is_partial };
    Ok(Slept { asleep, record, portraits })
}

/// Where a process of the tree gets no userfaultfd, all of them do without from now on.
fn make_ready(patients: &mut [Patient<'_>], body: &mut Body, bed: &Bed<'_>) -> Result<(), DedupError> {
    if body.means().userfault {
        match patients.iter_mut().try_for_each(|patient| patient.watch(body, bed)) {
            Err(DedupError::NoUserfault { pid }) => {
                tracing::info!(
                    pid,
                    "it gets no userfaultfd: it will sleep in trace stops, and be filled by writing"
                );
                body.do_without_userfault();
                patients.iter_mut().for_each(Patient::do_without_userfault);
            }
            watched => watched?,
        }
    }
    patients.iter_mut().try_for_each(Patient::make_ready)
}

fn hash(tree: &StoppedTree) -> Result<MemoryHash, DedupError> {
    let pids: Vec<_> = tree.processes().iter().map(Stopped::pid).collect();
    memory_hash::of(&pids, &tree.rseq_areas()).map_err(|source| DedupError::Io {
        what: "hash",
        pid: pids[0],
        source,
    })
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
