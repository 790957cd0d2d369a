//! Memory on its way back while the sandbox runs: faults first, the rest in the background.
//!
//! Two threads work on it: the driver, which reads faults and events, and a helper, which fills in the background.
//! A page may be filled only while no unread event can have changed what belongs there, so whoever fills, and
//! whoever reads events, holds the one lock. (The kernel holds the process in its system call until its event has
//! been read, and refuses to fill in between.)

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pages::{PageAddr, PageRange, Scratch};
use rustix::event::Timespec;

use crate::asleep::{Planted, Space};
use crate::guard::Guard;
use crate::lazy_space::{LazyError, LazySpace, Portion, Watched};
use crate::shadow::{Casting, Shadow, Whole};
use crate::source::Source;
use crate::unwatch::unwatch;
use crate::{PageStore, WorkingSet};

/// The background waits so long for the first answer: until then the processors belong to the request.
const HEAD_START: Duration = Duration::from_millis(50);

/// The same while nothing is known of the working set: what the background fills is never seen to be touched.
const HEAD_START_RECORDING: Duration = Duration::from_secs(2);

/// How long the driver looks for a next fault without sleeping, until the first answer: to be woken takes longer than
/// to serve.
const SPIN: Duration = Duration::from_micros(500);

/// And how long in all, before it looks whether somebody has told it something.
const SERVE_MAX: Duration = Duration::from_millis(5);

/// Who did not stand still is asked again after this time.
const HOLD_STILL_INTERVAL: Duration = Duration::from_millis(50);

/// The memory of one sandbox that is still out.
pub(crate) struct Lazy {
    work: Arc<Work>,
    background: Option<JoinHandle<()>>,
    started: Instant,
    /// Nothing was known of the working set when it woke.
    is_recording: bool,
    /// What is touched joins the working set.
    learns: bool,
    /// Pages touched by each process of the tree, until the first answer.
    touched: Vec<Vec<PageRange>>,
    answered: bool,
    faulted_pages: u64,
    /// Since when nothing is out.
    whole: Option<Instant>,
    /// When it was last asked to stand still.
    asked: Option<Instant>,
}

/// What remains of a wake when all memory is back.
#[derive(Default)]
pub(crate) struct Finished {
    /// Userfaultfds that stay open in their processes.
    pub(crate) planted: Vec<Planted>,
    /// What is known to be unchanged.
    pub(crate) shadows: Vec<Shadow>,
}

struct Work {
    spaces: Mutex<Spaces>,
    /// The driver wants the lock. Our locks are not fair, and a thread that yields on a busy machine may wait for
    /// milliseconds: the background makes way when somebody comes, and only then.
    is_wanted: AtomicBool,
    stop: AtomicBool,
}

struct Spaces {
    list: Vec<LazySpace>,
    guard: Option<Arc<Guard>>,
    failed: Option<LazyError>,
    scratch: Scratch,
}

impl Lazy {
    /// What is out of each space when `filled` is back; the sandbox still stands. All spaces have userfaultfds. If
    /// nothing is filled, nothing is known of its working set: it is recorded, unless part of the memory never left.
    pub(crate) fn new(
        spaces: Vec<Space>,
        filled: &WorkingSet,
        is_partial: bool,
        store: &Arc<PageStore>,
        guard: Option<Arc<Guard>>,
    ) -> Lazy {
        let touched = vec![Vec::new(); spaces.len()];
        let out = |(at, space)| LazySpace::new(store, space, filled.of_process(at));
        let list = spaces.into_iter().enumerate().filter_map(out).collect();
        let spaces = Mutex::new(Spaces { list, guard, failed: None, scratch: Scratch::new() });
        Lazy {
            work: Arc::new(Work { spaces, is_wanted: AtomicBool::new(false), stop: AtomicBool::new(false) }),
            background: None,
            started: Instant::now(),
            is_recording: filled.pages() == 0 && !is_partial,
            learns: filled.pages() > 0 || !is_partial,
            touched,
            answered: false,
            faulted_pages: 0,
            whole: None,
            asked: None,
        }
    }

    /// Serves what the process waits for. `true`: nothing is out any more, or all is lost.
    pub(crate) fn serve(&mut self) -> bool {
        let head_start = if self.is_recording { HEAD_START_RECORDING } else { HEAD_START };
        if self.background.is_none()
            && self.whole.is_none()
            && (self.answered || self.started.elapsed() > head_start)
        {
            let work = Arc::clone(&self.work);
            let thread = std::thread::Builder::new().name("lazy-fill".to_owned());
            match thread.spawn(move || work.fill_in_background()) {
                Ok(thread) => self.background = Some(thread),
                Err(error) => tracing::warn!(%error, "no thread for the background: faults alone fill"),
            }
        }
        let portion = if self.is_recording && !self.answered { Portion::Page } else { Portion::Group };
        let mut spaces = self.work.lock_first();
        if self.background.as_ref().is_some_and(JoinHandle::is_finished) && !spaces.is_whole() {
            let source = io::Error::other("the thread that fills in the background has ended");
            spaces.failed.get_or_insert(LazyError::Follow { source });
        }
        let started = Instant::now();
        let mut last = started;
        // One fault is mostly followed by another within microseconds; a sleep in between would cost more.
        while last.elapsed() < SPIN && started.elapsed() < SERVE_MAX {
            let is_served = spaces.serve(portion, |place, page| {
                self.faulted_pages += 1;
                if let Some(touched) = self.touched.get_mut(place).filter(|_| !self.answered) {
                    touched.push(PageRange::new(page, 1));
                }
            });
            if is_served && !self.answered {
                last = Instant::now();
            } else if self.answered || spaces.failed.is_some() || spaces.is_whole() {
                break;
            }
            drop(spaces);
            std::hint::spin_loop();
            spaces = self.work.lock_first(); // The background may have its turn.
        }
        spaces.failed.is_some() || spaces.is_whole()
    }

    /// Descriptors that are readable when a process waits for something.
    pub(crate) fn descriptors(&self) -> Vec<OwnedFd> {
        let spaces = self.work.lock();
        let copies = spaces.list.iter().map(|space| space.userfault().as_fd().try_clone_to_owned());
        copies.filter_map(Result::ok).collect()
    }

    /// How long the driver may wait for them before it must look again: for the background, which may have brought
    /// the last page, and for its start.
    pub(crate) fn patience(&self) -> Timespec {
        Timespec { tv_sec: 0, tv_nsec: if self.background.is_some() { 5_000_000 } else { 1_000_000 } }
    }

    /// The first answer is out: what was touched until now joins the working set, and the background may begin.
    pub(crate) fn close_recording(&mut self, working_set: &mut WorkingSet) {
        if !self.answered && self.learns {
            self.touched.iter().enumerate().for_each(|(place, ranges)| working_set.add(place, ranges));
        }
        self.answered = true;
    }

    /// Faults that were served with content.
    pub(crate) fn faulted_pages(&self) -> u64 {
        self.faulted_pages
    }

    /// Fills everything that is out, now, or until `give_up` (`false`: some is still out).
    pub(crate) fn fill_all(&mut self, give_up: impl Fn() -> bool) -> bool {
        while !give_up() {
            let mut spaces = self.work.lock_first();
            let _ = spaces.serve(Portion::Group, |_, _| {}); // Served or not, the rest is filled now.
            if !spaces.fill_some() {
                return true;
            }
        }
        false
    }

    /// Reads what the processes did, and serves them, without waiting: for one that is to stand still but waits for us.
    pub(crate) fn follow(&mut self) {
        let _ = self.work.lock_first().serve(Portion::Group, |_, _| {});
    }

    /// For how long nothing has been out.
    pub(crate) fn whole_since(&mut self) -> Duration {
        self.whole.get_or_insert_with(Instant::now).elapsed()
    }

    /// Whether it may be asked to stand still now: not all the time, for each time it stands still for a moment.
    pub(crate) fn may_hold_still(&mut self) -> bool {
        let is_time = self.asked.is_none_or(|asked| asked.elapsed() > HOLD_STILL_INTERVAL);
        if is_time {
            self.asked = Some(Instant::now());
        }
        is_time
    }

    /// Whether it could not be brought back.
    pub(crate) fn has_failed(&self) -> bool {
        self.work.lock().failed.is_some()
    }

    /// All is back: stops watching. `hot`: all of it stands still, and from now on it is noted what is written, but
    /// for these pages. `None`: `give_up` said that it may stand still no longer, and it is to be finished later. On error
    /// the caller kills the sandbox, and only then drops this: until then its children wait.
    pub(crate) fn finish(
        &mut self,
        hot: Option<&WorkingSet>,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Option<Finished>, LazyError> {
        self.stop_background();
        let mut spaces = self.work.lock();
        if let Some(error) = spaces.failed.take() {
            return Err(error);
        }
        let failed = |source| LazyError::Follow { source };
        for (place, space) in spaces.list.iter_mut().enumerate() {
            let moved = space.moved();
            let Watched::Planted(planted) = &space.watched else { continue };
            let (pid, faults) = (planted.pid, &planted.userfault);
            match hot {
                Some(hot) => {
                    let (manifest, hot) = (&space.source.manifest, hot.of_process(place));
                    let whole = Whole { pid, manifest, faults, moved: &moved, hot };
                    if whole.cast(&mut space.noting, give_up).map_err(failed)? == Casting::BrokenOff {
                        return Ok(None);
                    }
                }
                None => {
                    unwatch(pid, faults).map_err(failed)?;
                }
            }
            fail_point::reach("lazy-finished");
        }
        let mut finished = Finished::default();
        for LazySpace { watched, noting, source, .. } in std::mem::take(&mut spaces.list) {
            // A child has none of its own: dropping ours ends the watch.
            let Watched::Planted(planted) = watched else { continue };
            let noting = noting.filter(|_| hot.is_some());
            finished.shadows.extend(noting.and_then(|noting| noting.shadow(planted.pid, &source.manifest)));
            finished.planted.push(planted);
        }
        Ok(Some(finished))
    }

    fn stop_background(&mut self) {
        self.work.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.background.take() {
            let _ = thread.join(); // A panic there was a bug; the lock it held tells us nothing wrong.
        }
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        self.stop_background();
    }
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, Spaces> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out where everything stands; meanwhile faults are served.
    fn prepare(&self) {
        let sources: Vec<Arc<Source>> =
            self.lock().list.iter().map(|space| Arc::clone(&space.source)).collect();
        for source in sources {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = source.prepare() {
                self.lock().failed.get_or_insert(error.into());
            }
        }
    }

    /// The lock, for the driver: a fault waits for it.
    fn lock_first(&self) -> MutexGuard<'_, Spaces> {
        self.is_wanted.store(true, Ordering::SeqCst);
        let spaces = self.lock();
        self.is_wanted.store(false, Ordering::SeqCst);
        spaces
    }

    fn fill_in_background(&self) {
        self.prepare();
        while !self.stop.load(Ordering::Relaxed) && self.lock().fill_some() {
            while self.is_wanted.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            fail_point::reach("lazy-filling");
        }
    }
}

impl Spaces {
    fn is_whole(&self) -> bool {
        self.list.iter().all(LazySpace::is_whole)
    }

    /// Adds children, and lets go of those that are dead or need nothing any more.
    fn adopt(&mut self, children: Vec<LazySpace>) {
        if !children.is_empty() {
            self.list.retain(|space| !space.is_finished_child());
            self.list.extend(children);
        }
    }

    /// Reads what the processes did, and fills what they wait for. `note` learns which page of which place in the
    /// tree was touched. Whether there was anything to do.
    fn serve(&mut self, portion: Portion, mut note: impl FnMut(usize, PageAddr)) -> bool {
        let mut at = 0;
        let mut is_served = false;
        while at < self.list.len() && self.failed.is_none() {
            let followed = self.list[at].follow(self.guard.as_ref());
            let served = followed.and_then(|children| {
                is_served |= self.list[at].has_waiting() || !children.is_empty();
                let served = self.list[at].serve(portion, &mut self.scratch, |page| note(at, page));
                self.adopt(children); // Those that go stood behind this one, or are looked at once more.
                served
            });
            self.failed = served.err();
            at += 1;
        }
        is_served
    }

    /// Fills some pages of somebody. `false`: nothing was out, or nothing more can be done.
    fn fill_some(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        for space in &mut self.list {
            match space.fill_some(&mut self.scratch) {
                Ok(false) => {}
                Ok(true) => return true,
                Err(error) => {
                    self.failed = Some(error);
                    return false;
                }
            }
        }
        false
    }
}
