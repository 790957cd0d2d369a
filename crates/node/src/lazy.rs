//! Memory on its way back while the sandbox runs: faults first, the rest in the background.
//!
//! Two threads work on it: the driver, which reads faults and events, and a helper, which fills in the background.
//! A page may be filled only while no unread event can have changed what belongs there, so whoever fills, and
//! whoever reads events, holds the one lock. (The kernel holds the process in its system call until its event has
//! been read, and refuses to fill in between.)

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linux::maps::Flags;
use linux::userfault::{Event, Filled, Userfault};
use pages::{Manifest, PAGE_SIZE, PageAddr, PageRange, Scratch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::asleep::Space;
use crate::node::Shared;
use crate::remaining::Remaining;
use crate::{WorkingSet, fail_point};

/// The background waits so long for the first answer: until then the processors belong to the request.
const HEAD_START: Duration = Duration::from_millis(50);

/// Pages that are filled without letting a fault in between.
const PAGES_PER_TURN: u64 = 16;

/// Mappings that change between looking and letting go are looked at again so often.
const UNWATCH_TRIES_MAX: u32 = 20;

/// While an own call empties memory, its events are looked for at least this often.
const DRAIN_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000 };

/// Memory that could not be brought back. The sandbox must die.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LazyError {
    /// A page is not what it was.
    #[error("rebuild the page at {addr:?}")]
    Damaged { addr: PageAddr },
    /// The kernel refused.
    #[error("fill the page at {addr:?}")]
    Fill { addr: PageAddr, source: io::Error },
    /// Events could not be read, or ranges not be let go.
    #[error("follow the process")]
    Follow { source: io::Error },
}

/// The memory of one sandbox that is still out.
pub(crate) struct Lazy {
    work: Arc<Work>,
    background: Option<JoinHandle<()>>,
    started: Instant,
}

struct Work {
    node: Arc<Shared>,
    spaces: Mutex<Spaces>,
    /// The background may go ahead.
    answered: AtomicBool,
    stop: AtomicBool,
    faulted_pages: AtomicU64,
}

struct Spaces {
    list: Vec<LazySpace>,
    failed: Option<LazyError>,
    /// Pages touched by each process of the tree, until the first answer.
    touched: Option<Vec<Vec<PageAddr>>>,
    scratch: Scratch,
}

/// One address space that waits for pages.
struct LazySpace {
    /// Process, and the descriptor's number in it; children made meanwhile have none.
    owner: Option<(i32, i32)>,
    /// Place in the tree, for the working set.
    place: usize,
    userfault: Userfault,
    manifest: Arc<Manifest>,
    remaining: Remaining,
}

impl Lazy {
    /// What is out of `spaces` after the ranges in `filled`, by space, came back; the sandbox still stands. All
    /// `spaces` have userfaultfds.
    pub(crate) fn new(node: &Arc<Shared>, spaces: Vec<Space>, filled: &[Vec<PageRange>]) -> Lazy {
        let touched = Some(vec![Vec::new(); spaces.len()]);
        let list = spaces.into_iter().enumerate().filter_map(|(place, space)| {
            let Space { pid, manifest, userfault, .. } = space;
            let (userfault, fd) = userfault?;
            let mut remaining = Remaining::of(manifest.content_ranges());
            for range in filled.get(place).into_iter().flatten() {
                remaining.remove(range.start().get(), range.end().get());
            }
            Some(LazySpace { owner: Some((pid, fd)), place, userfault, manifest, remaining })
        });
        let spaces = Spaces { list: list.collect(), failed: None, touched, scratch: Scratch::new() };
        let work = Arc::new(Work {
            node: Arc::clone(node),
            spaces: Mutex::new(spaces),
            answered: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            faulted_pages: AtomicU64::new(0),
        });
        Lazy { work, background: None, started: Instant::now() }
    }

    /// Serves what the process waits for. `true`: nothing is out any more, or all is lost.
    pub(crate) fn serve(&mut self) -> bool {
        if self.background.is_none()
            && (self.work.answered.load(Ordering::Relaxed) || self.started.elapsed() > HEAD_START)
        {
            let work = Arc::clone(&self.work);
            let thread = std::thread::Builder::new().name("lazy-fill".to_owned());
            match thread.spawn(move || work.fill_in_background()) {
                Ok(thread) => self.background = Some(thread),
                Err(error) => tracing::warn!(%error, "no thread for the background: faults alone fill"),
            }
        }
        let mut spaces = self.work.lock();
        spaces.serve_events(&self.work);
        spaces.failed.is_some() || spaces.list.iter().all(|space| space.remaining.is_empty())
    }

    /// Descriptors that are readable when the process waits for something.
    pub(crate) fn descriptors(&self) -> Vec<OwnedFd> {
        let spaces = self.work.lock();
        let copies = spaces.list.iter().map(|space| space.userfault.as_fd().try_clone_to_owned());
        copies.filter_map(Result::ok).collect()
    }

    /// How long the driver may wait for them before it must look again.
    pub(crate) fn patience_ns(&self) -> i64 {
        if self.background.is_some() { 5_000_000 } else { 1_000_000 }
    }

    /// The first answer is out: what was touched until now joins the working set, and the background may begin.
    pub(crate) fn close_recording(&mut self, working_set: &mut WorkingSet) {
        let touched = self.work.lock().touched.take().unwrap_or_default();
        touched.iter().enumerate().for_each(|(place, pages)| working_set.add(place, pages));
        self.work.answered.store(true, Ordering::Relaxed);
    }

    /// Pages that were fetched by a fault.
    pub(crate) fn faulted_pages(&self) -> u64 {
        self.work.faulted_pages.load(Ordering::Relaxed)
    }

    /// Fills everything that is out, now.
    pub(crate) fn fill_all(&mut self) {
        loop {
            let mut spaces = self.work.lock();
            spaces.serve_events(&self.work);
            if spaces.failed.is_some() || !spaces.fill_some(&self.work) {
                break;
            }
        }
    }

    /// All is back: stops watching. Gives back the userfaultfds that stay open in their processes.
    pub(crate) fn finish(mut self) -> Result<Vec<(i32, (Userfault, i32))>, LazyError> {
        self.stop_background();
        let mut spaces = self.work.lock();
        if let Some(error) = spaces.failed.take() {
            return Err(error);
        }
        let mut kept = Vec::new();
        for space in std::mem::take(&mut spaces.list) {
            // A child that was made meanwhile has no copy of its userfaultfd: dropping ours ends the watch.
            let Some((pid, fd)) = space.owner else { continue };
            unwatch(pid, &space.userfault).map_err(|source| LazyError::Follow { source })?;
            fail_point::reach("lazy-finished");
            kept.push((pid, (space.userfault, fd)));
        }
        Ok(kept)
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

    fn fill_in_background(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut spaces = self.lock();
            if spaces.failed.is_some() || !spaces.fill_some(self) {
                break;
            }
            drop(spaces);
            std::thread::yield_now(); // A fault may wait for the lock.
            fail_point::reach("lazy-filling");
        }
    }
}

impl Spaces {
    /// Reads what the processes did, and fills what they wait for.
    fn serve_events(&mut self, work: &Work) {
        let mut at = 0;
        while at < self.list.len() && self.failed.is_none() {
            let mut events = Vec::new();
            if let Err(source) = self.list[at].userfault.events(&mut events) {
                self.failed = Some(LazyError::Follow { source });
            }
            // What changed the memory counts before the faults that were read with it.
            let (faults, changes): (Vec<_>, Vec<_>) =
                events.into_iter().partition(|event| matches!(event, Event::Fault(_)));
            changes.into_iter().for_each(|change| self.follow(at, change));
            for fault in faults {
                if let Event::Fault(addr) = fault
                    && let Err(error) = self.serve_fault(at, addr, work)
                {
                    self.failed = Some(error);
                }
            }
            at += 1;
        }
    }

    fn follow(&mut self, at: usize, event: Event) {
        let space = &mut self.list[at];
        match event {
            Event::Fault(_) => {}
            Event::Remove { start, end } | Event::Unmap { start, end } => space.remaining.remove(start, end),
            Event::Remap { from, to, len_bytes } => space.remaining.shift(from, to, len_bytes),
            Event::Fork(userfault) => {
                let (manifest, remaining) = (Arc::clone(&space.manifest), space.remaining.clone());
                let place = space.place;
                self.list.push(LazySpace { owner: None, place, userfault, manifest, remaining });
            }
        }
    }

    fn serve_fault(&mut self, at: usize, addr: PageAddr, work: &Work) -> Result<(), LazyError> {
        let Some(source) = self.list[at].remaining.source_of(addr) else {
            let space = &self.list[at];
            let filled = space.userfault.fill_zero_and_wake(addr);
            filled.map_err(|source| LazyError::Fill { addr, source })?;
            return Ok(()); // `Changing`: the fault is told again.
        };
        if let Some(touched) = &mut self.touched
            && let Some(pages) = touched.get_mut(self.list[at].place)
        {
            pages.push(source);
        }
        work.faulted_pages.fetch_add(1, Ordering::Relaxed);
        self.fill(at, addr, source, 1, work)
    }

    /// Fills some pages of somebody. `false`: nothing was out, or nothing more can be done.
    fn fill_some(&mut self, work: &Work) -> bool {
        for at in 0..self.list.len() {
            if let Some((addr, source, pages)) = self.list[at].remaining.some(PAGES_PER_TURN) {
                let filled = self.fill(at, addr, source, pages, work);
                if let Err(error) = filled {
                    self.failed = Some(error);
                }
                return self.failed.is_none();
            }
        }
        false
    }

    fn fill(
        &mut self,
        at: usize,
        addr: PageAddr,
        source: PageAddr,
        pages: u64,
        work: &Work,
    ) -> Result<(), LazyError> {
        let space = &mut self.list[at];
        let mut bytes = [0u8; PAGES_PER_TURN as usize * PAGE_SIZE];
        let bytes = &mut bytes[..pages as usize * PAGE_SIZE];
        for (page, from) in bytes.as_chunks_mut().0.iter_mut().zip(PageRange::new(source, pages).addrs()) {
            let read = work.node.store.read_page(&space.manifest, from, &mut self.scratch, page);
            read.map_err(|_| LazyError::Damaged { addr: from })?;
        }
        let filled = space.userfault.fill_and_wake(addr, bytes);
        let done = match filled.map_err(|source| LazyError::Fill { addr, source })? {
            Filled::Done => bytes.len(),
            // That page is there: a page of zeros that a kernel access made, or nothing of ours. Never twice.
            Filled::Occupied(done) => done + PAGE_SIZE,
            Filled::Changing(done) => done, // Its event comes first; then whoever waits is told of again.
            Filled::Vanished => {
                space.remaining = Remaining::default();
                return Ok(());
            }
        };
        space.remaining.remove(addr.get(), addr.get() + done as u64);
        Ok(())
    }
}

/// Ends the watch over all mappings of a process. It runs, so its mappings may change under our eyes.
fn unwatch(pid: i32, userfault: &Userfault) -> io::Result<()> {
    for _ in 0..UNWATCH_TRIES_MAX {
        let Ok(mappings) = linux::maps::read(pid) else { return Ok(()) }; // It died.
        let watched = mappings.iter().filter(|mapping| mapping.flags.any(&[Flags::USERFAULT_MISSING]));
        let mut refused = None;
        let mut any = false;
        for mapping in watched {
            any = true;
            refused = userfault.unregister(mapping.start, mapping.end).err().or(refused);
        }
        match (any, refused) {
            (false, _) => return Ok(()),
            (true, Some(error)) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                return Ok(());
            }
            (true, _) => {} // Look again.
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "its mappings change faster than they can be let go"))
}

/// Runs `work`, which empties memory of a watched process, and reads the events that it waits for.
pub(crate) fn drain_while<T>(userfault: &Userfault, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = Vec::new();
            while !done.load(Ordering::Acquire) {
                let _ = poll(&mut [PollFd::new(userfault, PollFlags::IN)], Some(&DRAIN_INTERVAL));
                // Our own doing: nothing to follow. An error shows in `work`, which then does not come back empty.
                let _ = userfault.events(&mut events);
                events.clear();
            }
        });
        let result = work();
        done.store(true, Ordering::Release);
        result
    })
}
