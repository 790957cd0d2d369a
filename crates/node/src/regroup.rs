//! Sandboxes that fell asleep before it was known what a wake touches keep these pages scattered among others. When one
//! wakes and shows it, the pages move together in the store, also those of the others that sleep: so that the first wake
//! of each decodes hardly more than it needs. Their manifests stay as they are.
//!
//! One thread for the whole node does it, of low priority, some milliseconds at a time, and while it works it counts as
//! one of those that fall asleep: however many sleep, requests lose no more processor time to it than to one sleep.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pages::{Like, Manifest, PackedRelocation};
use protocol::State;

use crate::base::Base;
use crate::batch::gather;
use crate::node::Shared;
use crate::sandbox::Inner;
use crate::slots::Slot;
use crate::{WorkingSet, causes};

/// How long it waits after an answer: whoever has just woken has memory on its way back, and others may be waking too.
const DELAY: Duration = Duration::from_millis(100);

/// Where there was no place, it looks again after this time.
const SLOT_LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Not lower: it holds, for microseconds at a time, what requests need as well.
const NICENESS: i32 = 5;

/// Pages that are moved at a time: some milliseconds. Base groups are cut out of it, so it is a multiple of theirs.
const PAGES_PER_TURN: u64 = 64;

/// A working set that has grown by less than this part since is not worth it: each wake decodes at most some pages more.
const GROWTH_MIN: u64 = 50;

/// Layouts of which it is known how large their working sets were. Then all are forgotten, and looked at once more.
const LAYOUTS_MAX: usize = 10_000;

/// What is to be done, and what was done.
#[derive(Default)]
pub(crate) struct Regroups {
    state: Mutex<Asked>,
    /// Held by the thread while it holds anything of others.
    at_work: Mutex<()>,
}

#[derive(Default)]
struct Asked {
    /// Layouts whose sandboxes are to be looked at.
    layouts: VecDeque<u64>,
    /// Pages in the working set of a layout when it was last asked for.
    pages: HashMap<u64, u64>,
    is_running: bool,
}

impl Regroups {
    /// Returns when it does nothing any more, of a node that is closing.
    pub(crate) fn await_rest(&self) {
        drop(self.at_work.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a thread is to be started.
    fn ask(&self, layout: u64, pages: u64) -> bool {
        let mut asked = self.lock();
        let before = asked.pages.get(&layout).copied().unwrap_or(0);
        if pages <= before + before / GROWTH_MIN {
            return false;
        }
        if asked.pages.len() >= LAYOUTS_MAX {
            asked.pages.clear();
        }
        asked.pages.insert(layout, pages);
        if !asked.layouts.contains(&layout) {
            asked.layouts.push_back(layout);
        }
        !std::mem::replace(&mut asked.is_running, true)
    }

    fn next(&self) -> Option<u64> {
        let mut asked = self.lock();
        let next = asked.layouts.pop_front();
        asked.is_running = next.is_some();
        next
    }
}

/// The working set of a layout has now so many pages: if these are many more than before, those that sleep are looked at
/// soon.
pub(crate) fn begin(node: &Arc<Shared>, layout: u64, pages: u64) {
    if !node.regroups.ask(layout, pages) {
        return;
    }
    let weak = Arc::downgrade(node);
    let work = move || {
        let _running = Running(&weak);
        let _ = rustix::process::nice(NICENESS); // Without it, it is only quicker.
        loop {
            std::thread::sleep(DELAY);
            let Some(node) = weak.upgrade() else { return };
            let Some(layout) = node.regroups.next() else { return };
            regroup(&node, layout);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("regroup".to_owned()).spawn(work) {
        tracing::warn!(%error, "no thread to move pages together: first wakes are slower");
        node.regroups.lock().is_running = false;
    }
}

/// The thread, of which others must know that it has ended.
struct Running<'a>(&'a Weak<Shared>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(node) = self.0.upgrade()
        {
            node.regroups.lock().is_running = false;
        }
    }
}

/// Looks at all sandboxes of a layout that sleep.
fn regroup(node: &Shared, layout: u64) {
    let set = node.working_set(layout);
    let mut sleepers: Vec<_> = node.sandboxes().values().map(Arc::clone).collect();
    sleepers.retain(|sandbox| sandbox.ties.layout_key == Some(layout) && sandbox.state() == State::Dedup);
    for sandbox in sleepers {
        let _at_work = node.regroups.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let lineage = sandbox.ties.lineage.as_ref();
        let base = lineage.and_then(|lineage| node.lineages.base_by_place(lineage));
        let borrowed = Borrowed { node, manifests: sandbox.facts().manifests.clone() };
        let of = Of { node, sandbox: &sandbox, set: &set, base: base.as_deref() };
        for (place, manifest) in borrowed.manifests.iter().enumerate() {
            // Base pages first: the others then are patches against them.
            let base = of.base.and_then(|base| base.process(place));
            let turns = [base.map(|base| (base.manifest(), true)), Some((manifest, false))];
            for (manifest, is_base) in turns.into_iter().flatten() {
                of.move_pages(place, manifest, is_base);
            }
        }
        drop(borrowed);
        node.counters.regrouped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits for a place among those that fall asleep, but stands in nobody's way: they come first.
fn wait_for_slot<'a>(node: &'a Shared, is_over: &dyn Fn() -> bool) -> Option<Slot<'a>> {
    while !is_over() {
        if let Some(slot) = node.slots.try_acquire() {
            return Some(slot);
        }
        std::thread::sleep(SLOT_LOOK_INTERVAL);
    }
    None
}

/// Manifests of a sandbox, which may give them up meanwhile: then they are ours to release.
struct Borrowed<'a> {
    node: &'a Shared,
    manifests: Vec<Arc<Manifest>>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.node.release(self.manifests.drain(..));
    }
}

/// Whose pages move.
struct Of<'a> {
    node: &'a Shared,
    sandbox: &'a Inner,
    set: &'a WorkingSet,
    base: Option<&'a Base>,
}

impl Of<'_> {
    /// Moves what lies among cold pages, or until the sandbox is to wake.
    fn move_pages(&self, place: usize, manifest: &Manifest, is_base: bool) {
        let Of { node, sandbox, .. } = self;
        let none = Arc::new(PackedRelocation::none()); // The layout is pinned.
        let cold = node.store.cold_among(manifest, self.set.of_process(place));
        for ranges in gather(cold.into_iter(), PAGES_PER_TURN) {
            let is_over = || {
                node.closing.load(Ordering::SeqCst)
                    || sandbox.wakes_pending.load(Ordering::SeqCst) > 0
                    || sandbox.state() != State::Dedup
            };
            let Some(_slot) = wait_for_slot(node, &is_over) else { return };
            let slots = self.base.map(|base| base.slots_at(place, &ranges));
            let like = match &slots {
                _ if is_base => Like::BasePages,
                Some(slots) => Like::Slots(slots, &none),
                None => Like::Nothing,
            };
            if let Err(error) = node.store.make_hot(&sandbox.ties.domain, manifest, &ranges, like) {
                tracing::warn!(sandbox = %sandbox.id, error = causes(&error), "cannot move pages together");
                return;
            }
        }
    }
}
