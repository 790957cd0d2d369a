//! Turns a dedup sandbox into a running one: its memory comes back, every page checked.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use linux::arena::MemfdArena;
use linux::memory::Memory;
use linux::userfault::{self, Userfault};
use pages::{FillError, FillJob, FillPlan, PAGE_SIZE, PageAddr, PageRange, Scratch};
use protocol::WakeRecord;

use crate::WorkingSet;
use crate::asleep::{Asleep, Hold, Planted, Space};
use crate::body::Body;
use crate::lazy::Lazy;
use crate::memory_hash::{self, MemoryHash};
use crate::node::Shared;
use crate::parallel::on_threads;

/// So few pages are planned before a thread has started.
const PLANNED_ALONE_MAX: u64 = 1024;

/// A frozen process changes no mappings; still, its kernel may be busy with one for a moment.
const CHANGING_TRIES_MAX: u32 = 10_000;

/// The sandbox did not wake. The caller kills it: it must never run with part of its memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// A page is not what it was.
    #[error("rebuild the page at {addr:?} of process {pid}")]
    Damaged { pid: i32, addr: PageAddr },
    /// The manifest is not one of this store.
    #[error("read the manifest of process {pid}")]
    Manifest { pid: i32, source: pages::PlanError },
    /// A process died.
    #[error("process {pid} died")]
    Died { pid: i32 },
    /// The kernel refused.
    #[error("fill process {pid}")]
    Fill { pid: i32, source: io::Error },
    /// It could not be let go.
    #[error("thaw process {pid}")]
    Thaw { pid: i32, source: io::Error },
}

impl RestoreError {
    /// Whether a page failed its check.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, RestoreError::Damaged { .. } | RestoreError::Manifest { .. })
    }
}

/// A sandbox that runs again.
pub(crate) struct Restored {
    /// Memory that is still out.
    pub(crate) lazy: Option<Lazy>,
    /// Hash of all memory before and after, where one was asked for.
    pub(crate) hashes: Option<(MemoryHash, MemoryHash)>,
}

/// Restores one sandbox and lets it run. On error `asleep` still holds it, and the caller kills it.
pub(crate) fn restore(
    body: &Body,
    asleep: &mut Asleep,
    node: &Arc<Shared>,
    working_set: &WorkingSet,
) -> Result<(Restored, WakeRecord), RestoreError> {
    let started = Instant::now();
    let threads = node.config.fill_threads;
    if let Some(space) = asleep.spaces.iter().find(|space| asleep.lazy && space.planted.is_none()) {
        let source = io::Error::other("what is missing in it would read as zeros: nobody watches it");
        return Err(RestoreError::Fill { pid: space.pid, source });
    }
    let first = || plan(&asleep.spaces, node, asleep.lazy.then_some(working_set));
    let content_pages: u64 = asleep.spaces.iter().map(|space| space.manifest.content_page_count()).sum();
    let wanted_pages = if asleep.lazy { working_set.pages() } else { content_pages };
    let plans = Plans { made: OnceLock::new(), make: first };
    if wanted_pages <= PLANNED_ALONE_MAX {
        plans.get(); // Before threads are started: it takes less time than they do.
    }
    let Filled { pages: filled_pages, decoded_pages } = fill_all(&asleep.spaces, plans, threads)?;
    fail_point::reach("filled");
    let fill_us = started.elapsed().as_micros() as u64;
    let spaces = std::mem::take(&mut asleep.spaces);
    let pids: Vec<_> = spaces.iter().map(|space| space.pid).collect();
    let lazy = match asleep.lazy {
        true => Some(Lazy::new(spaces, working_set, asleep.is_partial, &node.store, node.guard.clone())),
        false => unwatch(spaces).map(|()| None)?,
    };
    fail_point::reach("unwatched");
    // Now that nobody is watched: reading a missing page would wait for us.
    let after = asleep.hash.as_ref().map(|before| hash_again(&pids, &asleep.rseq, before)).transpose()?;
    let hashes = asleep.hash.take().zip(after);
    let pid = body.pid();
    let hold = std::mem::replace(&mut asleep.hold, Hold::Frozen);
    body.release(hold).map_err(|source| RestoreError::Thaw { pid, source })?;
    fail_point::reach("thawed");
    let record = WakeRecord {
        total_us: started.elapsed().as_micros() as u64,
        fill_us,
        filled_pages,
        decoded_pages,
        lazy_pages: content_pages - filled_pages,
        faulted_pages: 0,
        working_set_pages: working_set.pages(),
    };
    Ok((Restored { lazy, hashes }, record))
}

fn hash_again(
    pids: &[i32],
    rseq: &[linux::trace::RseqArea],
    before: &MemoryHash,
) -> Result<MemoryHash, RestoreError> {
    memory_hash::again(pids, rseq, before).map_err(|source| RestoreError::Fill { pid: pids[0], source })
}

/// All content is back: missing pages read as zeros again.
fn unwatch(spaces: Vec<Space>) -> Result<(), RestoreError> {
    for Space { pid, watched, planted, .. } in spaces {
        let Some(Planted { userfault, .. }) = planted else { continue };
        for range in watched {
            let done = userfault.unregister(range.start().get(), range.end().get());
            done.map_err(|source| RestoreError::Fill { pid, source })?;
        }
    }
    Ok(())
}

/// What must be there before the sandbox runs, for each space: what it touches first, where that is said, else all.
fn plan(
    spaces: &[Space],
    node: &Shared,
    only: Option<&WorkingSet>,
) -> Result<Vec<FillPlan<MemfdArena>>, RestoreError> {
    let of = |(at, space): (usize, &Space)| {
        let plan = match only {
            Some(first) => node.store.plan(&space.manifest, first.of_process(at)),
            None => node.store.plan_all(&space.manifest),
        };
        plan.map_err(|source| RestoreError::Manifest { pid: space.pid, source })
    };
    spaces.iter().enumerate().map(of).collect()
}

/// The job of that number, counted through all plans, and the number of its plan.
fn nth_job(plans: &[FillPlan<MemfdArena>], mut nth: usize) -> Option<(usize, &FillJob<MemfdArena>)> {
    for (at, plan) in plans.iter().enumerate() {
        match plan.jobs().get(nth) {
            Some(job) => return Some((at, job)),
            None => nth -= plan.jobs().len(),
        }
    }
    None
}

/// What was filled, and how much was decoded for it.
#[derive(Default)]
struct Filled {
    pages: u64,
    decoded_pages: u64,
}

/// One plan for each space, made by the first who asks for them: where they are long, the other threads start meanwhile.
struct Plans<Make> {
    made: OnceLock<Result<Vec<FillPlan<MemfdArena>>, RestoreError>>,
    make: Make,
}

impl<Make: Fn() -> Result<Vec<FillPlan<MemfdArena>>, RestoreError>> Plans<Make> {
    /// `None`: they could not be made, and `filled` says why.
    fn get(&self) -> Option<&[FillPlan<MemfdArena>]> {
        self.made.get_or_init(&self.make).as_deref().ok()
    }

    /// What has been filled when all of their jobs are done.
    fn filled(self) -> Result<Filled, RestoreError> {
        let Some(plans) = self.made.into_inner() else { return Ok(Filled::default()) };
        let plans = plans?;
        let sum = |pages: fn(&FillPlan<MemfdArena>) -> u64| plans.iter().map(pages).sum();
        Ok(Filled { pages: sum(FillPlan::pages), decoded_pages: sum(FillPlan::decoded_pages) })
    }
}

/// Fills everything in the plans by several threads.
fn fill_all(
    spaces: &[Space],
    plans: Plans<impl Fn() -> Result<Vec<FillPlan<MemfdArena>>, RestoreError> + Sync>,
    threads: usize,
) -> Result<Filled, RestoreError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || -> Result<(), RestoreError> {
        let Some(plans) = plans.get() else { return Ok(()) };
        let mut scratch = Scratch::new();
        let mut hand: Option<Hand<'_>> = None;
        while let Some((at, job)) = nth_job(plans, next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                break; // Another thread has an error; the sandbox will be killed.
            }
            let space = &spaces[at];
            let mut current = match hand.take() {
                Some(hand) if hand.space.pid == space.pid => hand,
                _ => Hand::of(space)?,
            };
            let done = job.decode(&mut scratch, &mut |addr, bytes| current.fill(addr, bytes));
            done.map_err(|error| {
                failed.store(true, Ordering::Relaxed);
                match error {
                    FillError::Damaged { addr } => RestoreError::Damaged { pid: space.pid, addr },
                    FillError::Fill(error) => error,
                }
            })?;
            fail_point::reach("filling");
            hand = Some(current);
        }
        Ok(())
    };
    on_threads(threads, work)?;
    plans.filled() // Without an error each job was done.
}

/// Puts pages into one process that stands still.
struct Hand<'a> {
    space: &'a Space,
    memory: Memory,
}

impl Hand<'_> {
    fn of(space: &Space) -> Result<Hand<'_>, RestoreError> {
        let pid = space.pid;
        let memory = Memory::open(pid).map_err(|_| RestoreError::Died { pid })?;
        Ok(Hand { space, memory })
    }

    fn fill(&mut self, addr: PageAddr, bytes: &[u8]) -> Result<(), RestoreError> {
        let pid = self.space.pid;
        let Some(Planted { userfault, .. }) = &self.space.planted else {
            let written = self.memory.write(addr.get(), bytes);
            return written.map_err(|source| RestoreError::Fill { pid, source });
        };
        let whole = PageRange::new(addr, (bytes.len() / PAGE_SIZE) as u64);
        for piece in self.space.pieces(whole) {
            let from = (piece.start().get() - addr.get()) as usize;
            self.fill_piece(userfault, piece.start(), &bytes[from..from + piece.len_bytes() as usize])?;
        }
        Ok(())
    }

    /// Fills pages of one mapping.
    fn fill_piece(&self, userfault: &Userfault, addr: PageAddr, bytes: &[u8]) -> Result<(), RestoreError> {
        let pid = self.space.pid;
        let failed = |source| RestoreError::Fill { pid, source };
        let mut done = 0;
        let mut tries = 0;
        while done < bytes.len() {
            let at = PageAddr::containing(addr.get() + done as u64);
            match userfault.fill(at, &bytes[done..]).map_err(failed)? {
                userfault::Filled::Done => break,
                userfault::Filled::Occupied(filled) => {
                    // Somebody outside read the page while it was out and made it a page of zeros.
                    done += filled;
                    let page = &bytes[done..done + PAGE_SIZE];
                    self.memory.write(addr.get() + done as u64, page).map_err(failed)?;
                    done += PAGE_SIZE;
                }
                userfault::Filled::Changing(filled) if tries < CHANGING_TRIES_MAX => {
                    done += filled;
                    tries += 1;
                    std::thread::yield_now();
                }
                userfault::Filled::Changing(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
                userfault::Filled::Unmapped => return Err(failed(io::ErrorKind::NotFound.into())),
                userfault::Filled::Dead => return Err(RestoreError::Died { pid }),
            }
        }
        Ok(())
    }
}
