//! The driver: one thread that owns one sandbox from its first instruction to its last.
//!
//! It starts the process (the kernel kills the sandbox when this thread ends), traces it, empties and fills it.
//! Everybody else asks through the mailbox.

mod finish;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::{CheckRecord, Event, SleepRecord, State, WakeRecord};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::asleep::{Asleep, Hold};
use crate::body::Body;
use crate::dedup::{Bed, DedupError, Slept, dedup};
use crate::encode::Put;
use crate::lazy::Lazy;
use crate::lineage::Role;
use crate::restore::{Restored, restore};
use crate::sandbox::{CheckError, Command, Inner, SleepError, WakeError};
use crate::{Exit, WorkingSet, causes, regroup};

/// A process that dies while it is held by ptrace, or by the freezer of version 1, is noticed by looking.
const HELD_LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// A thread that did not stop in time, as its call would not end, must not stand still for long when it does stop.
const LATE_LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// The driver's own state.
pub(crate) struct Driver {
    pub(crate) inner: Arc<Inner>,
    pub(crate) body: Body,
    pub(crate) working_set: WorkingSet,
    pub(crate) asleep: Option<Asleep>,
    /// Memory that is still on its way back while the sandbox runs.
    pub(crate) lazy: Option<Lazy>,
    /// What the last sleep put in vain, until there is time to give it back.
    pub(crate) leftover: Option<Put>,
}

impl Driver {
    /// Serves the sandbox until it is dead, and cleans up behind it.
    pub(crate) fn run(mut self) {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        if served.is_err() {
            self.give_up();
        }
        self.bury();
    }

    fn serve(&mut self) {
        while !self.wait() {
            while let Some(command) = self.inner.mailbox.take() {
                self.obey(command);
                linux::trace::release_late(); // Who stopped too late for one command must not stand in the next.
            }
        }
    }

    /// We have panicked: nothing is known of its memory any more, so it must not run on. Returns when it is dead.
    fn give_up(&mut self) {
        loop {
            self.kill("a bug in dormouse");
            linux::trace::release_late();
            let root = &mut [PollFd::new(&self.body.root, PollFlags::IN)];
            if poll(root, Some(&HELD_LOOK_INTERVAL)).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }

    /// Waits for a command, for memory to move, or for death (`true`).
    fn wait(&mut self) -> bool {
        if let Some(lazy) = &mut self.lazy
            && lazy.serve()
        {
            self.finish_when_idle();
        }
        if self.lazy.is_none() {
            self.tidy_up();
        }
        self.note_lazy();
        let held = self.is_held();
        let is_late = linux::trace::release_late();
        let mut fds = vec![
            PollFd::new(&self.inner.mailbox, PollFlags::IN),
            PollFd::new(&self.body.root, PollFlags::IN),
        ];
        let faults = self.lazy.as_ref().map(Lazy::descriptors).unwrap_or_default();
        fds.extend(faults.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout = match &self.lazy {
            Some(lazy) => Some(lazy.patience()),
            None if is_late => Some(LATE_LOOK_INTERVAL),
            None => held.then_some(HELD_LOOK_INTERVAL),
        };
        // EINTR and the like: look again.
        let _ = poll(&mut fds, timeout.as_ref());
        fds[1].revents().contains(PollFlags::IN)
    }

    fn note_lazy(&self) {
        self.inner.is_coming_back.store(self.lazy.is_some(), Ordering::SeqCst);
    }

    /// Gives back what the last sleep needed and nobody needs now. Takes milliseconds.
    fn tidy_up(&mut self) {
        if self.leftover.take().is_some() {
            linux::heap::give_back();
        }
    }

    /// Whether it sleeps in a way that hides its death. If it died there, it is let go, so that its death shows.
    fn is_held(&mut self) -> bool {
        match &self.asleep {
            Some(Asleep { hold: Hold::Traced(tree), .. }) => {
                if tree.has_died() {
                    self.asleep = None;
                }
                true
            }
            Some(Asleep { hold: Hold::Frozen, .. }) if self.body.family.cgroup.keeps_killed() => {
                if linux::process::is_killed(self.body.pid()) {
                    self.kill("killed while frozen");
                }
                true
            }
            _ => false,
        }
    }

    fn obey(&mut self, command: Command) {
        // A caller that no longer waits for the answer is no error.
        match command {
            Command::Sleep(reply) => drop(reply.send(self.sleep(false))),
            Command::Wake(reply) => {
                let woken = self.wake().map(|woken| woken.map(|(record, _)| record));
                self.inner.wakes_pending.fetch_sub(1, Ordering::SeqCst);
                let _ = reply.send(woken);
            }
            Command::Check(reply) => drop(reply.send(self.check())),
            Command::Answered => self.answered(),
            Command::Purge => self.kill("purged"),
        }
    }

    fn sleep(&mut self, hash: bool) -> Result<SleepRecord, SleepError> {
        self.inner.step(Event::Freeze)?;
        if !self.finish_lazy_now() {
            return Err(self.stay_warm(DedupError::Interrupted));
        }
        let result = self.try_sleep(hash);
        match result {
            Ok(Slept { asleep, record, portraits }) => {
                tracing::debug!(sandbox = %self.inner.id, ?record, "asleep");
                let mut facts = self.inner.facts();
                facts.manifests = asleep.spaces.iter().map(|space| Arc::clone(&space.manifest)).collect();
                facts.warm_bytes = Some(pages::PAGE_SIZE as u64 * record.own_pages());
                facts.sleeps += 1;
                facts.left_warm = None;
                facts.last_sleep = Some(record.clone());
                let manifests = facts.manifests.clone();
                drop(facts);
                if let Some(lineage) = &self.inner.ties.lineage {
                    self.inner.node.lineages.slept(lineage, &manifests, portraits);
                }
                drop(manifests); // Others have them: the sleeper itself.
                self.asleep = Some(asleep);
                self.forget_shadows(); // What was unchanged has new references.
                let _ = self.inner.step(Event::Emptied); // From `Freezing`: always fits.
                self.inner.node.counters.sleeps.fetch_add(1, Ordering::Relaxed);
                Ok(record)
            }
            Err(error) => {
                if !matches!(error, DedupError::Interrupted) {
                    self.forget_shadows(); // It may have lost some of them half-way.
                }
                Err(self.stay_warm(error))
            }
        }
    }

    fn try_sleep(&mut self, hash: bool) -> Result<Slept, DedupError> {
        self.learn_working_set();
        let node = Arc::clone(&self.inner.node);
        let wakes_pending = &self.inner.wakes_pending;
        let interrupted = || wakes_pending.load(Ordering::SeqCst) > 0;
        let Some(_slot) = node.slots.acquire(interrupted) else { return Err(DedupError::Interrupted) };
        let lazy = !hash && self.body.private_bytes() > node.config.lazy_above_bytes;
        let bed = Bed {
            store: &node.store,
            domain: &self.inner.ties.domain,
            role: self.inner.ties.lineage.as_ref().map_or(Role::Alone, |lineage| node.lineages.role(lineage)),
            working_set: &self.working_set,
            wakes_pending,
            lazy,
            depth: self.inner.depth,
            hash,
            device: node.device.as_ref(),
        };
        let put = self.leftover.insert(Put::new(&bed));
        dedup(&mut self.body, &bed, put)
    }

    /// Sandboxes with the same layout touch the same pages: what one has learned serves all.
    fn learn_working_set(&mut self) {
        if let Some(key) = self.inner.ties.layout_key {
            self.working_set = self.inner.node.working_set(key);
        }
    }

    /// What a failed sleep means for the sandbox.
    fn stay_warm(&mut self, error: DedupError) -> SleepError {
        let node = Arc::clone(&self.inner.node);
        let why = match &error {
            DedupError::Interrupted => {
                node.counters.sleeps_interrupted.fetch_add(1, Ordering::Relaxed);
                let _ = self.inner.step(Event::Thaw); // From `Freezing`: always fits.
                return SleepError::Interrupted;
            }
            DedupError::Died { .. } | DedupError::HalfEmptied { .. } => {
                self.kill(&causes(&error));
                return SleepError::Gone;
            }
            DedupError::LeftWarm { why } => why.clone(),
            DedupError::Io { .. } | DedupError::NoUserfault { .. } | DedupError::Store(_) => causes(&error),
        };
        tracing::info!(sandbox = %self.inner.id, %why, "left warm");
        node.counters.sleeps_refused.fetch_add(1, Ordering::Relaxed);
        self.inner.facts().left_warm = Some(why.clone());
        let _ = self.inner.step(Event::Thaw); // From `Freezing`: always fits.
        SleepError::LeftWarm { why }
    }

    /// `Ok(None)`: it is awake already.
    fn wake(&mut self) -> Result<Option<(WakeRecord, Restored)>, WakeError> {
        if matches!(self.inner.state(), State::Starting | State::Warm | State::Busy) {
            return Ok(None);
        }
        self.inner.step(Event::Restore)?;
        let Some(mut asleep) = self.asleep.take() else { return Err(WakeError::Gone) };
        let node = Arc::clone(&self.inner.node);
        self.learn_working_set();
        fail_point::reach("waking");
        match restore(&self.body, &mut asleep, &node, &self.working_set) {
            Ok((mut restored, record)) => {
                tracing::debug!(sandbox = %self.inner.id, ?record, "awake");
                self.lazy = restored.lazy.take();
                self.note_lazy(); // Before anybody can give it an invocation.
                let _ = self.inner.step(Event::Restored); // From `Restoring`: always fits.
                let mut facts = self.inner.facts();
                facts.wakes += 1;
                facts.last_wake = Some(record.clone());
                if self.lazy.is_none() {
                    self.forget_manifests(&mut facts.manifests);
                }
                drop(facts);
                node.counters.wakes.fetch_add(1, Ordering::Relaxed);
                Ok(Some((record, restored)))
            }
            Err(error) => {
                if error.is_damage() {
                    node.counters.pages_damaged.fetch_add(1, Ordering::Relaxed);
                }
                self.kill(&causes(&error));
                Err(WakeError::Gone)
            }
        }
    }

    fn check(&mut self) -> Result<CheckRecord, CheckError> {
        let sleep = self.sleep(true)?;
        let Some((wake, restored)) = self.wake()? else { return Err(WakeError::Gone.into()) };
        let Some((before, after)) = restored.hashes else { return Err(WakeError::Gone.into()) };
        Ok(CheckRecord {
            hash_before: format!("{:032x}", before.hash),
            hash_after: format!("{:032x}", after.hash),
            pages_before: before.pages,
            pages_after: after.pages,
            sleep,
            wake,
        })
    }

    fn answered(&mut self) {
        if let Some(lazy) = &mut self.lazy {
            lazy.close_recording(&mut self.working_set);
            if let Some(key) = self.inner.ties.layout_key {
                let pages = self.inner.node.remember_working_set(key, &self.working_set);
                regroup::begin(&self.inner.node, key, pages);
            }
        }
    }

    fn forget_manifests(&self, manifests: &mut Vec<Arc<pages::Manifest>>) {
        if manifests.is_empty() {
            return; // It does not sleep.
        }
        let node = &self.inner.node;
        node.release(manifests.drain(..));
        if let Some(lineage) = &self.inner.ties.lineage {
            node.lineages.woke(lineage);
        }
    }

    /// Kills the tree. Its death is noticed by `wait`.
    fn kill(&mut self, why: &str) {
        tracing::info!(sandbox = %self.inner.id, why, "killing the sandbox");
        self.body.kill();
        self.asleep = None; // Traced processes are collected by their tracer, or never.
        if let Err(error) = self.body.clear_away() {
            tracing::error!(sandbox = %self.inner.id, %error, "cannot kill all of the sandbox");
        }
    }

    /// The first process is dead: the rest follows, and nothing of it is kept.
    fn bury(mut self) {
        self.kill("its first process ended");
        self.lazy = None; // After the kill: children of it may still wait for pages.
        self.leftover = None;
        let exit = match self.body.ended() {
            Some(signal @ ..0) => Exit::Signal(-signal),
            Some(code) => Exit::Code(code),
            None => Exit::Unknown,
        };
        self.forget_manifests(&mut self.inner.facts().manifests);
        self.forget_shadows();
        let _ = self.inner.step(Event::Die); // From anywhere but `Gone`, which only this line makes.
        self.inner.node.forget(&self.inner);
        self.inner.exit.send_replace(Some(exit));
        // Whoever asked last finds out: dropping the senders in the mailbox tells them.
        while self.inner.mailbox.take().is_some() {}
    }
}
