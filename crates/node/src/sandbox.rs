//! A handle to one sandbox. The work is done by its driver, a thread of its own; these calls tell it what to do.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use linux::socket_owner::Witness;
use pages::Manifest;
use protocol::{
    CheckRecord, Depth, Event, Merge, Refused, SandboxId, SandboxRecord, SleepRecord, State, WakeRecord,
};
use tokio::sync::{oneshot, watch};

use crate::account;
use crate::family::Family;
use crate::lineage::Ties;
use crate::mailbox::Mailbox;
use crate::merge::Board;
use crate::node::Shared;
use crate::{Advice, Exit, Sockets};

/// One process tree that can sleep. Cloning gives another handle to the same sandbox.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) inner: Arc<Inner>,
}

/// What the driver and the handles share.
pub(crate) struct Inner {
    pub(crate) id: SandboxId,
    pub(crate) name: String,
    pub(crate) depth: Depth,
    pub(crate) ties: Ties,
    pub(crate) pid: i32,
    pub(crate) node: Arc<Shared>,
    pub(crate) family: Arc<Family>,
    pub(crate) mailbox: Mailbox<Command>,
    /// What its programs want merged, if they are asked.
    pub(crate) advice: Option<Board>,
    /// Wakes that were asked for and not yet handled: a sleep in progress breaks off.
    pub(crate) wakes_pending: AtomicUsize,
    /// Memory of it is on its way back, so that an answer is news to its driver. Else the driver sleeps on: a thread
    /// that wakes at each answer costs more than the answer.
    pub(crate) is_coming_back: AtomicBool,
    pub(crate) exit: watch::Sender<Option<Exit>>,
    facts: Mutex<Facts>,
    /// Until somebody takes them.
    sockets: Mutex<Option<Sockets>>,
}

/// What `ps` shows.
pub(crate) struct Facts {
    state: State,
    since: Instant,
    invocations: u64,
    pub(crate) sleeps: u64,
    pub(crate) wakes: u64,
    pub(crate) left_warm: Option<String>,
    pub(crate) last_sleep: Option<SleepRecord>,
    pub(crate) last_wake: Option<WakeRecord>,
    /// Private memory when it last went to sleep.
    pub(crate) warm_bytes: Option<u64>,
    /// Its memory while it is out, one manifest a process; given back to the store only after it was taken here.
    pub(crate) manifests: Vec<Arc<Manifest>>,
    /// The same of one that is awake, while it is noted which of it is unchanged.
    pub(crate) shadows: Vec<Arc<Manifest>>,
}

/// What a driver is told.
pub(crate) enum Command {
    /// Put it to sleep.
    Sleep(oneshot::Sender<Result<SleepRecord, SleepError>>),
    /// Wake it.
    Wake(oneshot::Sender<Result<Option<WakeRecord>, WakeError>>),
    /// Sleep and wake, comparing memory.
    Check(oneshot::Sender<Result<CheckRecord, CheckError>>),
    /// The first answer after a wake is out: what was touched until now is the working set.
    Answered,
    /// Kill it.
    Purge,
}

/// The sandbox did not fall asleep.
#[derive(Debug, thiserror::Error)]
pub enum SleepError {
    /// A wake came before its memory had left: it is warm and unharmed.
    #[error("interrupted by a wake")]
    Interrupted,
    /// It holds something that cannot be carried through a sleep; it is warm and unharmed.
    #[error("left warm: {why}")]
    LeftWarm {
        /// What, in words for `ps`.
        why: String,
    },
    /// It is not in a state from which it can sleep.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It died.
    #[error("the sandbox is gone")]
    Gone,
}

/// The sandbox did not wake.
#[derive(Debug, thiserror::Error)]
pub enum WakeError {
    /// It is not in a state from which it can wake.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It died, or its memory could not be rebuilt and it was killed.
    #[error("the sandbox is gone")]
    Gone,
}

/// The check of a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It did not fall asleep.
    #[error(transparent)]
    Sleep(#[from] SleepError),
    /// It did not wake.
    #[error(transparent)]
    Wake(#[from] WakeError),
}

/// Who is at the other end of a connection, as one sandbox sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// One of its processes.
    Own,
    /// A process that is not of it.
    Stranger,
    /// No process has the socket: it was closed, or nobody has accepted it yet.
    Nobody,
}

impl Sandbox {
    /// Its number.
    pub fn id(&self) -> SandboxId {
        self.inner.id
    }

    /// What it was launched as.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its first process.
    pub fn pid(&self) -> i32 {
        self.inner.pid
    }

    /// Sockets in its network, if that is not the machine's and a port was asked for. The first call gets them.
    pub fn take_sockets(&self) -> Option<Sockets> {
        self.inner.sockets.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Who has the socket at `from` that is connected to `to`. Both ends are in the network that `witness` is of. Asks
    /// the kernel, and looks at what its processes have open: some tens of microseconds.
    pub fn peer(&self, witness: &Witness, from: SocketAddr, to: SocketAddr) -> io::Result<Peer> {
        Ok(match witness.of_connection(from, to)? {
            None => Peer::Nobody,
            Some(owner) if self.inner.family.has_socket(owner) => Peer::Own,
            Some(_) => Peer::Stranger,
        })
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.inner.facts().state
    }

    /// It asked for its first invocation (`Starting` to `Warm`).
    pub fn mark_ready(&self) -> Result<(), Refused> {
        self.inner.step(Event::Ready)
    }

    /// It gets an invocation (`Warm` to `Busy`).
    pub fn begin_invocation(&self) -> Result<(), Refused> {
        self.inner.step(Event::Invoke)
    }

    /// It answered (`Busy` to `Warm`). The first answer after a wake closes the recording of the working set.
    pub fn end_invocation(&self) -> Result<(), Refused> {
        self.inner.step(Event::Answer)?;
        self.inner.facts().invocations += 1;
        if self.inner.is_coming_back.load(Ordering::SeqCst) {
            self.inner.mailbox.post(Command::Answered);
        }
        Ok(())
    }

    /// Puts it to sleep. Returns when it sleeps, or stays warm.
    pub async fn sleep(&self) -> Result<SleepRecord, SleepError> {
        self.ask(Command::Sleep).await.unwrap_or(Err(SleepError::Gone))
    }

    /// Wakes it; breaks off a sleep that has begun. `Ok(None)`: it was warm already.
    pub async fn wake(&self) -> Result<Option<WakeRecord>, WakeError> {
        self.inner.wakes_pending.fetch_add(1, Ordering::SeqCst);
        self.inner.node.slots.stir();
        self.ask(Command::Wake).await.unwrap_or(Err(WakeError::Gone))
    }

    /// Puts it to sleep and wakes it, hashing all its private memory before and after.
    pub async fn check(&self) -> Result<CheckRecord, CheckError> {
        self.ask(Command::Check).await.unwrap_or(Err(CheckError::Wake(WakeError::Gone)))
    }

    /// Kills the whole tree and removes its cgroup, in the background; `exit` resolves when it is done.
    pub fn purge(&self) {
        self.inner.mailbox.post(Command::Purge);
    }

    /// The most memory it has used at once: all of its cgroup's, page cache included, or, where none counts it, the
    /// resident memory of its first process. 0 when it is gone. Reads one file: microseconds.
    pub fn peak_bytes(&self) -> u64 {
        let of_first = || linux::process::status(self.inner.pid).map_or(0, |status| status.peak_bytes);
        self.inner.family.cgroup.peak_bytes().unwrap_or_else(of_first)
    }

    /// What its programs have advised to merge, as it stands now.
    pub fn advised(&self) -> Vec<Advice> {
        self.inner.advice.as_ref().map(Board::advised).unwrap_or_default()
    }

    /// Resolves when its first process is dead and nothing of the tree is left.
    pub async fn exit(&self) -> Exit {
        let mut exit = self.inner.exit.subscribe();
        // The sender lives in `inner`, which this handle holds, so the wait ends with a value.
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|exit| *exit).unwrap_or(Exit::Unknown)
    }

    /// What it costs and what happened to it. Reads `/proc`: milliseconds, so not from an async task.
    pub fn record(&self) -> SandboxRecord {
        let account = account::of(&self.inner);
        let facts = self.inner.facts();
        SandboxRecord {
            id: self.inner.id,
            name: self.inner.name.clone(),
            state: facts.state,
            pid: self.inner.pid,
            depth: self.inner.depth,
            account,
            state_age_ms: facts.since.elapsed().as_millis() as u64,
            invocations: facts.invocations,
            sleeps: facts.sleeps,
            wakes: facts.wakes,
            left_warm: facts.left_warm.clone(),
            last_sleep: facts.last_sleep.clone(),
            last_wake: facts.last_wake.clone(),
        }
    }

    /// Whether it is awake, and some of its memory is still on its way back.
    pub(crate) fn is_coming_back(&self) -> bool {
        let facts = self.inner.facts();
        matches!(facts.state, State::Warm | State::Busy) && !facts.manifests.is_empty()
    }

    /// Whether it is awake, and it is known which of its pages are as they stand in the store.
    pub(crate) fn has_shadow(&self) -> bool {
        !self.inner.facts().shadows.is_empty()
    }

    /// Asks the driver; `None` when it is gone.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.inner.mailbox.post(command(reply));
        let mut exit = self.inner.exit.subscribe();
        tokio::select! {
            biased;
            answer = answer => answer.ok(),
            _ = exit.wait_for(Option::is_some) => None, // Nobody reads the mailbox any more.
        }
    }
}

impl Inner {
    pub(crate) fn new(
        (id, name, depth, merge): (SandboxId, String, Depth, Merge),
        ties: Ties,
        pid: i32,
        node: Arc<Shared>,
        family: Arc<Family>,
        mailbox: Mailbox<Command>,
    ) -> Inner {
        let facts = Facts {
            state: State::Starting,
            since: Instant::now(),
            invocations: 0,
            sleeps: 0,
            wakes: 0,
            left_warm: None,
            last_sleep: None,
            last_wake: None,
            warm_bytes: None,
            manifests: Vec::new(),
            shadows: Vec::new(),
        };
        let wakes_pending = AtomicUsize::new(0);
        let exit = watch::Sender::new(None);
        Inner {
            id,
            name,
            depth,
            ties,
            pid,
            node,
            family,
            mailbox,
            advice: (merge == Merge::Advised).then(Board::default),
            wakes_pending,
            is_coming_back: AtomicBool::new(false),
            exit,
            facts: Mutex::new(facts),
            sockets: Mutex::default(),
        }
    }

    pub(crate) fn keep_sockets(&self, sockets: Option<Sockets>) {
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = sockets;
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one step in the life cycle.
    pub(crate) fn step(&self, event: Event) -> Result<(), Refused> {
        let mut facts = self.facts();
        facts.state = facts.state.after(event)?;
        facts.since = Instant::now();
        Ok(())
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        self.facts().state
    }
}
