//! The end of a lazy wake: all memory is back, the watch over missing pages ends, and from then on it is noted what is
//! written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocol::State;

use super::Driver;
use crate::causes;
use crate::lazy::Lazy;

/// The watch over memory that is all back ends between two invocations, or when it has lasted so long: then the next
/// sleep looks at every page.
const IDLE_PATIENCE: Duration = Duration::from_secs(1);

/// Who does not stand still within this time goes on, and is asked again a little later.
const HOLD_STILL_WITHIN: Duration = Duration::from_millis(2);

impl Driver {
    /// All memory is back, or it is lost and the sandbox dies.
    fn finish_lazy(&mut self, stands_still: bool) {
        self.answered(); // Nothing more can be seen to be touched.
        let Some(mut lazy) = self.lazy.take() else { return };
        let faulted_pages = lazy.faulted_pages();
        let started = Instant::now();
        let hot = stands_still.then_some(&self.working_set);
        match lazy.finish(hot, &|| stands_still && self.is_wanted()) {
            Ok(None) => {
                self.lazy = Some(lazy);
                return self.let_go(); // It is asked again when it is idle.
            }
            Ok(Some(finished)) => {
                let (shadows, pid) = (finished.shadows.len(), self.body.pid());
                let took_us = started.elapsed().as_micros() as u64;
                tracing::debug!(sandbox = %self.inner.id, pid, faulted_pages, stands_still, shadows, took_us, "all is back");
                finished.planted.into_iter().for_each(|planted| self.body.keep_planted(planted));
                self.body.set_shadows(finished.shadows);
            }
            Err(error) => {
                if error.is_damage() {
                    self.inner.node.counters.pages_damaged.fetch_add(1, Ordering::Relaxed);
                }
                self.kill(&causes(&error));
            }
        }
        if stands_still {
            self.let_go();
        }
        drop(lazy); // After the kill: children of it may still wait for pages.
        let mut facts = self.inner.facts();
        if let Some(wake) = &mut facts.last_wake {
            wake.faulted_pages = faulted_pages;
        }
        facts.shadows = self.body.shadow_manifests();
        self.forget_manifests(&mut facts.manifests);
    }

    /// All memory is back, or lost. To note what is written from now on, all must stand still for a moment, and that
    /// moment is not in the middle of an invocation. Where it does not come, the watch ends without it.
    pub(super) fn finish_when_idle(&mut self) {
        let is_busy = self.is_wanted();
        let Some(mut lazy) = self.lazy.take() else { return };
        let is_urgent = lazy.has_failed() || lazy.whole_since() > IDLE_PATIENCE || !self.body.means().freezer;
        let may_try = !is_urgent && !is_busy && lazy.may_hold_still();
        let stands_still = may_try && self.hold_still(&mut lazy);
        self.lazy = Some(lazy);
        if is_urgent || stands_still {
            self.finish_lazy(stands_still);
        }
    }

    /// Stops it for a moment, if that goes fast.
    fn hold_still(&mut self, lazy: &mut Lazy) -> bool {
        let cgroup = &Arc::clone(&self.body.family).cgroup;
        if cgroup.start_freezing().is_err() {
            return false;
        }
        let started = Instant::now();
        while started.elapsed() < HOLD_STILL_WITHIN {
            lazy.follow(); // Who waits for us does not stand still.
            if cgroup.is_frozen().unwrap_or(false) {
                if !self.is_wanted() {
                    return true;
                }
                break; // An invocation came: it shall not wait.
            }
            std::thread::yield_now();
        }
        self.let_go();
        false
    }

    /// Whether an invocation has come, or is about to.
    fn is_wanted(&self) -> bool {
        self.inner.state() == State::Busy || self.inner.wakes_pending.load(Ordering::SeqCst) > 0
    }

    /// Ends `hold_still`.
    fn let_go(&mut self) {
        if let Err(error) = self.body.family.cgroup.thaw() {
            self.kill(&format!("cannot thaw it: {error}"));
        }
    }

    /// Gives back to the store what was kept of an awake sandbox, now that nothing notes what it writes.
    pub(super) fn forget_shadows(&mut self) {
        self.body.set_shadows(Vec::new());
        let shadows = std::mem::take(&mut self.inner.facts().shadows);
        self.inner.node.release(shadows);
    }

    /// Brings back what is still out, at once. `false`: a wake came first.
    pub(super) fn finish_lazy_now(&mut self) -> bool {
        let Some(lazy) = &mut self.lazy else { return true };
        if !lazy.fill_all(|| self.inner.wakes_pending.load(Ordering::SeqCst) > 0) {
            return false;
        }
        self.finish_when_idle();
        if self.lazy.is_some() && !self.is_wanted() {
            self.finish_lazy(false); // There is no time to try again.
        }
        self.lazy.is_none()
    }
}
