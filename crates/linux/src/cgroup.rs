//! Cgroups of sandboxes: freezing, limits, what they use. Version 2 where it is mounted, the version 1 controllers
//! where version 2 lacks them, and nothing at all where we may not write: then ptrace stops the processes.

mod directory;
mod own_place;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use self::directory::{enable_controllers, event, processes, writable};
use self::own_place::own_place;

pub use self::directory::remove_tree;

/// How long a cgroup may take to freeze. A process in the middle of disk I/O freezes when that ends.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(2);

/// Looking at once this often comes before waiting: most cgroups freeze within 100 microseconds.
const SPINS_BEFORE_WAIT: u32 = 50;

/// Controllers of version 1 that we use where version 2 does not have them.
const V1_CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// The place under which this node's sandboxes get their cgroups.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Directory in the version 2 tree, with `cgroup.freeze`.
    v2: Option<PathBuf>,
    /// Directory in the version 1 freezer tree, where version 2 cannot freeze.
    v1_freezer: Option<PathBuf>,
    /// Version 1 controllers and their directories.
    v1: Vec<(&'static str, PathBuf)>,
    /// Whether version 2 limits memory and processes here.
    v2_controllers: bool,
}

impl Hierarchy {
    /// Makes the directories `name` below our own cgroups, as far as we may. None at all is no error.
    pub fn create(name: &str) -> Hierarchy {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let place = |controller: Option<&str>| {
            let place = own_place(&mounts, &own, controller)?.join(name);
            (fs::create_dir_all(&place).is_ok() && writable(&place.join("cgroup.procs"))).then_some(place)
        };
        let v2 = place(None).filter(|place| writable(&place.join("cgroup.freeze")));
        let v2_controllers = v2.as_deref().is_some_and(enable_controllers);
        let v1_freezer = if v2.is_none() { place(Some("freezer")) } else { None };
        let v1 = if v2_controllers { &[][..] } else { &V1_CONTROLLERS };
        let v1 = v1.iter().filter_map(|controller| Some((*controller, place(Some(controller))?))).collect();
        Hierarchy { v2, v1_freezer, v1, v2_controllers }
    }

    /// A hierarchy that does nothing: what an ordinary user has.
    pub fn none() -> Hierarchy {
        Hierarchy { v2: None, v1_freezer: None, v1: Vec::new(), v2_controllers: false }
    }

    /// The same without version 2: what an older system has.
    pub fn create_v1(name: &str) -> Hierarchy {
        let mut hierarchy = Hierarchy::create(name);
        if let Some(v2) = hierarchy.v2.take() {
            let _ = fs::remove_dir(v2); // Just made, and empty.
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let freezer = own_place(&mounts, &own, Some("freezer")).map(|place| place.join(name));
            hierarchy.v1_freezer = freezer.filter(|place| fs::create_dir_all(place).is_ok());
        }
        hierarchy
    }

    /// Whether a cgroup can stop its processes here.
    pub fn can_freeze(&self) -> bool {
        self.v2.is_some() || self.v1_freezer.is_some()
    }

    /// Whether memory can be limited and accounted.
    pub fn has_memory(&self) -> bool {
        self.v2_controllers || self.v1.iter().any(|(controller, _)| *controller == "memory")
    }

    /// In words: how processes are stopped here.
    pub fn describe(&self) -> &'static str {
        match (&self.v2, &self.v1_freezer) {
            (Some(_), _) => "cgroup v2 freezer",
            (None, Some(_)) => "cgroup v1 freezer",
            (None, None) => "ptrace",
        }
    }

    /// The directories, to be removed by whoever outlives us.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        let v1 = self.v1.iter().map(|(_, place)| place.as_path());
        self.v2.as_deref().into_iter().chain(self.v1_freezer.as_deref()).chain(v1)
    }

    /// Makes the cgroup of one sandbox.
    pub fn add(&self, name: &str) -> io::Result<Cgroup> {
        let make = |place: &PathBuf| {
            let place = place.join(name);
            fs::create_dir(&place).map(|()| place)
        };
        Ok(Cgroup {
            v2: self.v2.as_ref().map(make).transpose()?,
            v1_freezer: self.v1_freezer.as_ref().map(make).transpose()?,
            v1: self.v1.iter().map(|(name, place)| Ok((*name, make(place)?))).collect::<io::Result<_>>()?,
            v2_controllers: self.v2_controllers,
            peak: OnceLock::new(),
        })
    }

    /// Kills everything below and removes the directories. Also cleans up after a node that died.
    pub fn remove(&self) -> io::Result<()> {
        self.directories().try_for_each(remove_tree)
    }
}

/// The cgroup of one sandbox.
#[derive(Debug)]
pub struct Cgroup {
    v2: Option<PathBuf>,
    v1_freezer: Option<PathBuf>,
    v1: Vec<(&'static str, PathBuf)>,
    v2_controllers: bool,
    /// Where the kernel tells the most that it ever used; open, as it is read at every invocation.
    peak: OnceLock<Option<File>>,
}

/// What a cgroup uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Kernel memory: page tables, stacks, sockets, inodes.
    pub kernel_bytes: u64,
    /// All of it, page cache included.
    pub total_bytes: u64,
}

impl Cgroup {
    /// Whether it can stop its processes.
    pub fn can_freeze(&self) -> bool {
        self.v2.is_some() || self.v1_freezer.is_some()
    }

    /// Whether a process that is killed while it is frozen stays until it is thawed.
    pub fn keeps_killed(&self) -> bool {
        self.v1_freezer.is_some()
    }

    /// Files into which a process writes `0` to move itself here.
    pub fn entrances(&self) -> io::Result<Vec<File>> {
        let v1 = self.v1.iter().map(|(_, place)| place);
        let places = self.v2.iter().chain(&self.v1_freezer).chain(v1);
        places.map(|place| OpenOptions::new().write(true).open(place.join("cgroup.procs"))).collect()
    }

    /// Limits memory (page cache and kernel memory included) and processes, where there is a controller.
    pub fn limit(&self, memory_bytes: Option<u64>, processes: Option<u64>) -> io::Result<()> {
        let v1 = |controller| self.v1.iter().find(|(name, _)| *name == controller).map(|(_, place)| place);
        let v2 = self.v2.as_ref().filter(|_| self.v2_controllers);
        if let Some(limit) = memory_bytes {
            let (file, place) = match v2 {
                Some(place) => ("memory.max", Some(place)),
                None => ("memory.limit_in_bytes", v1("memory")),
            };
            place.map(|place| fs::write(place.join(file), limit.to_string())).transpose()?;
        }
        if let Some(limit) = processes {
            let place = v2.or_else(|| v1("pids"));
            place.map(|place| fs::write(place.join("pids.max"), limit.to_string())).transpose()?;
        }
        Ok(())
    }

    /// Stops all its processes. On error they run on.
    pub fn freeze(&self) -> io::Result<()> {
        self.set_frozen(true)?;
        self.await_frozen().inspect_err(|_| {
            // Nothing was done to them yet; the error that counts is the first.
            let _ = self.thaw();
        })
    }

    /// Asks for all its processes to stop, without waiting.
    pub fn start_freezing(&self) -> io::Result<()> {
        self.set_frozen(true)
    }

    /// Waits until all its processes have stopped.
    pub fn await_frozen(&self) -> io::Result<()> {
        let started = Instant::now();
        for look in 0u32.. {
            if self.is_frozen()? {
                return Ok(());
            }
            if look < SPINS_BEFORE_WAIT {
                std::thread::yield_now();
            } else if started.elapsed() > FREEZE_TIMEOUT {
                break;
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }

    /// Lets its processes run.
    pub fn thaw(&self) -> io::Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        match (&self.v2, &self.v1_freezer) {
            (Some(place), _) => fs::write(place.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
            (None, Some(place)) => {
                fs::write(place.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
            }
            (None, None) => Ok(()),
        }
    }

    /// Whether all its processes stand still.
    pub fn is_frozen(&self) -> io::Result<bool> {
        match (&self.v2, &self.v1_freezer) {
            (Some(place), _) => Ok(event(place, "frozen")? == 1),
            (None, Some(place)) => Ok(fs::read_to_string(place.join("freezer.state"))?.trim() == "FROZEN"),
            (None, None) => Ok(true),
        }
    }

    /// Its processes.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        match self.v2.as_ref().or(self.v1_freezer.as_ref()) {
            Some(place) => processes(place),
            None => Ok(Vec::new()),
        }
    }

    /// What it uses; nothing where no controller counts it.
    pub fn usage(&self) -> Option<Usage> {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse().ok();
        if self.v2_controllers {
            let place = self.v2.as_ref()?;
            let stat = fs::read_to_string(place.join("memory.stat")).ok()?;
            let kernel = stat.lines().find_map(|line| line.strip_prefix("kernel ")?.parse().ok())?;
            return Some(Usage { kernel_bytes: kernel, total_bytes: number(place.join("memory.current"))? });
        }
        let (_, place) = self.v1.iter().find(|(name, _)| *name == "memory")?;
        Some(Usage {
            kernel_bytes: number(place.join("memory.kmem.usage_in_bytes"))?,
            total_bytes: number(place.join("memory.usage_in_bytes"))?,
        })
    }

    /// The most it ever used, page cache included; nothing where no controller counts it.
    pub fn peak_bytes(&self) -> Option<u64> {
        let mut text = [0; 32]; // Holds any number of 64 bits.
        let len = self.peak.get_or_init(|| self.open_peak()).as_ref()?.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..len]).ok()?.trim().parse().ok()
    }

    fn open_peak(&self) -> Option<File> {
        let path = match (&self.v2, self.v1.iter().find(|(name, _)| *name == "memory")) {
            (Some(place), _) if self.v2_controllers => place.join("memory.peak"),
            (_, Some((_, place))) => place.join("memory.max_usage_in_bytes"),
            _ => return None,
        };
        File::open(path).ok()
    }

    /// Kills everything in it and removes it.
    pub fn remove(&self) -> io::Result<()> {
        let v1 = self.v1.iter().map(|(_, place)| place);
        self.v2.iter().chain(&self.v1_freezer).chain(v1).try_for_each(|place| remove_tree(place))
    }
}
