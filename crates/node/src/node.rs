//! The node: all sandboxes of this machine, and what they share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use linux::arena::MemfdArena;
use linux::cgroup::Hierarchy;
use linux::process;
use linux::userfault_device::UserfaultDevice;
use pages::Manifest;
use protocol::{Account, NodeRecord, SandboxId, State};

use crate::body::Means;
use crate::data_dir;
use crate::guard::Guard;
use crate::launch;
use crate::leftovers;
use crate::lineage::Lineages;
use crate::merge::{AdviceCounts, Desk};
use crate::node_config::{FillBy, NodeConfig, StopBy};
use crate::regroup::Regroups;
use crate::sandbox::Inner;
use crate::slots::Slots;
use crate::{LaunchError, LaunchSpec, PageStore, Sandbox, WorkingSet};

/// Orphans of sandboxes are collected this often.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// Working sets of this many function versions are remembered.
const WORKING_SETS_MAX: usize = 10_000;

/// The node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Another node uses the same data directory.
    #[error("{path:?} is in use by another dormouse: stop it, or name another --data directory")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("use {path:?} as data directory")]
    DataDir {
        /// The data directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something of a node that died before is still there.
    #[error("clean up after a node that died")]
    Leftovers {
        /// What the system said.
        source: io::Error,
    },
    /// Memory for the page store, a key for it, or the guard cannot be had.
    #[error("set up {what}")]
    Setup {
        /// What was to be set up.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// All sandboxes of this process. Cloning gives another handle to the same node.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
}

/// What all drivers share.
pub(crate) struct Shared {
    pub(crate) config: NodeConfig,
    /// Names its cgroups, and marks its processes where there are none.
    pub(crate) instance: String,
    pub(crate) store: Arc<PageStore>,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) means: Means,
    /// For sandboxes that may not make a userfaultfd themselves.
    pub(crate) device: Option<UserfaultDevice>,
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) slots: Slots,
    pub(crate) counters: Counters,
    pub(crate) next_id: AtomicU64,
    pub(crate) closing: AtomicBool,
    sandboxes: Mutex<BTreeMap<SandboxId, Arc<Inner>>>,
    sandbox_gone: Condvar,
    working_sets: Mutex<HashMap<u64, WorkingSet>>,
    pub(crate) lineages: Lineages,
    pub(crate) regroups: Regroups,
    /// Hears what programs want merged.
    pub(crate) advice: Desk,
    /// Held while we live: its lock keeps others out of the data directory.
    _lock: File,
}

/// What has happened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) sleeps: AtomicU64,
    pub(crate) sleeps_interrupted: AtomicU64,
    pub(crate) sleeps_refused: AtomicU64,
    pub(crate) wakes: AtomicU64,
    pub(crate) regrouped: AtomicU64,
    pub(crate) pages_damaged: AtomicU64,
    pub(crate) deaths: AtomicU64,
}

impl Node {
    /// Cleans up after a dead node of the same data directory, then starts.
    pub fn start(config: NodeConfig) -> Result<Node, NodeError> {
        let lock = data_dir::lock(&config.data_dir)?;
        let name = data_dir::instance_name(&config.data_dir);
        leftovers::clean_up(&config.data_dir, &name).map_err(|source| NodeError::Leftovers { source })?;
        let hierarchy = match config.stop_by {
            StopBy::Best => Hierarchy::create(&name),
            StopBy::CgroupV1 => Hierarchy::create_v1(&name),
            StopBy::Ptrace => Hierarchy::none(),
        };
        let device = UserfaultDevice::open().ok().filter(|_| config.fill_by == FillBy::Best);
        let userfault =
            config.fill_by != FillBy::Write && linux::probe::can_userfault(device.as_ref()).is_ok();
        let means = Means { freezer: userfault && hierarchy.can_freeze(), userfault };
        let setup = |what| move |source| NodeError::Setup { what, source };
        let arena = MemfdArena::create().map_err(setup("memory for the page store"))?;
        let guard = config.guard.as_deref().map(Guard::start).transpose().map_err(setup("the guard"))?;
        let guard = guard.map(Arc::new);
        if let Some(guard) = &guard {
            guard.watch_ksm(&leftovers::ksm_kept(&config.data_dir));
            hierarchy.directories().for_each(|directory| guard.watch_tree(directory));
            if !hierarchy.can_freeze() {
                guard.watch_node(&name);
            }
        }
        process::become_subreaper().map_err(setup("the collection of orphans"))?;
        let store = PageStore::new(arena, random_key().map_err(setup("a key for the page store"))?);
        let store = Arc::new(store);
        let shared = Arc::new(Shared {
            slots: Slots::new(config.sleep_slots),
            lineages: Lineages::new(Arc::clone(&store), config.sleepers_per_base),
            store,
            config,
            instance: name,
            hierarchy,
            means,
            device,
            guard,
            counters: Counters::default(),
            next_id: AtomicU64::new(1),
            closing: AtomicBool::new(false),
            sandboxes: Mutex::default(),
            sandbox_gone: Condvar::new(),
            working_sets: Mutex::default(),
            regroups: Regroups::default(),
            advice: Desk::default(),
            _lock: lock,
        });
        collect_orphans(&shared).map_err(setup("the collection of orphans"))?;
        Ok(Node { shared })
    }

    /// Starts a sandbox. Blocks for the time of a fork and exec.
    pub fn launch(&self, spec: LaunchSpec) -> Result<Sandbox, LaunchError> {
        launch::launch(&self.shared, spec)
    }

    /// Every sandbox that is not gone, by id.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        self.shared.sandboxes().values().map(|inner| Sandbox { inner: Arc::clone(inner) }).collect()
    }

    /// The sandbox of this id, if it is not gone.
    pub fn sandbox(&self, id: SandboxId) -> Option<Sandbox> {
        self.shared.sandboxes().get(&id).map(|inner| Sandbox { inner: Arc::clone(inner) })
    }

    /// Totals. Reads `/proc` for each sandbox: milliseconds, so not from an async task.
    pub fn record(&self) -> NodeRecord {
        let count_of =
            |is: fn(&Sandbox) -> bool| self.sandboxes().iter().filter(|one| is(one)).count() as u64;
        let records: Vec<_> = self.sandboxes().iter().map(Sandbox::record).collect();
        let mut account = Account::default();
        records.iter().for_each(|record| account.add(&record.account));
        let store = self.shared.store.stats();
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NodeRecord {
            sandboxes: records.len() as u64,
            dedup_sandboxes: records.iter().filter(|record| record.state == State::Dedup).count() as u64,
            coming_back: count_of(Sandbox::is_coming_back),
            shadows: count_of(Sandbox::has_shadow),
            account,
            store_bytes: store.held_bytes,
            store_pages: store.pages,
            store_groups: store.groups,
            store_strays: store.strays,
            bases: self.shared.lineages.count() as u64,
            store_table_bytes: store.table_bytes + self.shared.lineages.heap_bytes(),
            own_resident_bytes: self.shared.own_resident_bytes(),
            sleeps: count(&counters.sleeps),
            sleeps_interrupted: count(&counters.sleeps_interrupted),
            sleeps_refused: count(&counters.sleeps_refused),
            wakes: count(&counters.wakes),
            regrouped: count(&counters.regrouped),
            pages_damaged: count(&counters.pages_damaged),
            deaths: count(&counters.deaths),
            registry_chunks: self.shared.lineages.chunks(),
            registry_bytes: self.shared.lineages.heap_bytes(),
            not_ready: self.not_ready(),
            stop_by: if self.shared.means.freezer { self.shared.hierarchy.describe() } else { "ptrace" }
                .to_owned(),
            fill_by: if self.shared.means.userfault { "userfaultfd" } else { "writing" }.to_owned(),
        }
    }

    /// Why it can start no sandbox, or put none to sleep; `None`: as far as can be seen from here, it can. Reads a few
    /// files: not from an async task.
    pub fn not_ready(&self) -> Option<String> {
        if self.shared.closing.load(Ordering::SeqCst) {
            return Some("the node is shutting down".to_owned());
        }
        if self.shared.guard.as_ref().is_some_and(|guard| guard.pid().is_none()) {
            return Some("the guard is dead, and no other could be started".to_owned());
        }
        let gone = self.cgroups().find(|directory| !directory.is_dir());
        gone.map(|directory| format!("somebody has removed the cgroup {}", directory.display()))
    }

    /// What became of all that programs advised.
    pub fn advice_counts(&self) -> AdviceCounts {
        self.shared.advice.counts()
    }

    /// The cgroup directories that are its own, each with one for every sandbox. `shutdown` removes them.
    pub fn cgroups(&self) -> impl Iterator<Item = &Path> {
        self.shared.hierarchy.directories()
    }

    /// Kills every sandbox and removes their cgroups. Returns when nothing is left. Blocking.
    pub fn shutdown(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.sandboxes().iter().for_each(Sandbox::purge);
        let mut sandboxes = self.shared.sandboxes();
        while !sandboxes.is_empty() {
            sandboxes = self.shared.sandbox_gone.wait(sandboxes).unwrap_or_else(PoisonError::into_inner);
        }
        drop(sandboxes);
        self.shared.regroups.await_rest();
        if let Err(error) = self.shared.hierarchy.remove() {
            tracing::error!(%error, "cannot remove the cgroups");
        }
    }
}

impl Shared {
    pub(crate) fn sandboxes(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Arc<Inner>>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember(&self, sandbox: &Arc<Inner>) {
        if let Some(guard) = &self.guard {
            guard.watch_group(sandbox.pid);
        }
        leftovers::remember(&self.config.data_dir, sandbox.pid);
        self.sandboxes().insert(sandbox.id, Arc::clone(sandbox));
    }

    pub(crate) fn forget(&self, sandbox: &Inner) {
        if let Some(guard) = &self.guard {
            guard.forget_group(sandbox.pid);
        }
        leftovers::forget(&self.config.data_dir, sandbox.pid);
        if !self.closing.load(Ordering::SeqCst) {
            self.counters.deaths.fetch_add(1, Ordering::Relaxed);
        }
        self.sandboxes().remove(&sandbox.id);
        self.sandbox_gone.notify_all();
    }

    /// Collects dead orphans. Those without a cgroup show what they were only while they live: `seen` remembers.
    fn reap_orphans(&self, seen: &mut HashSet<i32>) {
        let sandboxes: Vec<_> = self.sandboxes().values().map(Arc::clone).collect();
        let is_root = |pid| sandboxes.iter().any(|sandbox| sandbox.pid == pid);
        let is_marked = |pid| sandboxes.iter().any(|sandbox| sandbox.family.has_marked(pid));
        let children = process::children(std::process::id() as i32);
        seen.retain(|pid| children.contains(pid));
        seen.extend(children.into_iter().filter(|pid| !is_root(*pid) && is_marked(*pid)));
        process::reap_orphans(|pid| seen.contains(&pid) || leftovers::is_in_instance(pid, &self.instance));
    }

    /// Gives back to the store what nobody else has.
    pub(crate) fn release(&self, manifests: impl IntoIterator<Item = Arc<Manifest>>) {
        manifests.into_iter().filter_map(Arc::into_inner).for_each(|manifest| self.store.release(manifest));
    }

    /// What sandboxes of this layout touched when they woke.
    pub(crate) fn working_set(&self, key: u64) -> WorkingSet {
        let sets = self.working_sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.get(&key).cloned().unwrap_or_default()
    }

    /// Adds what one of them has touched; how many pages it is now.
    pub(crate) fn remember_working_set(&self, key: u64, set: &WorkingSet) -> u64 {
        let mut sets = self.working_sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= WORKING_SETS_MAX && !sets.contains_key(&key) {
            sets.clear(); // They are learned again, at the price of one slower wake each.
        }
        let all = sets.entry(key).or_default();
        all.join(set); // Others may have learned something meanwhile.
        all.pages()
    }

    /// Our own private memory, the guard's included, without the store.
    fn own_resident_bytes(&self) -> u64 {
        let guard = self.guard.as_ref().and_then(|guard| guard.pid());
        let pids = guard.into_iter().chain([std::process::id() as i32]);
        pids.map(|pid| process::status(pid).map_or(0, |status| status.anonymous_bytes)).sum()
    }
}

fn random_key() -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(key)
}

/// A thread that collects what sandboxes orphaned, as long as the node lives.
fn collect_orphans(shared: &Arc<Shared>) -> io::Result<()> {
    let weak = Arc::downgrade(shared);
    let work = move || {
        let mut seen = HashSet::new();
        while let Some(shared) = weak.upgrade().filter(|shared| !shared.closing.load(Ordering::SeqCst)) {
            shared.reap_orphans(&mut seen);
            drop(shared);
            std::thread::sleep(REAP_INTERVAL);
        }
    };
    std::thread::Builder::new().name("orphans".to_owned()).spawn(work).map(drop)
}
