//! Cgroups of sandboxes: freezing, limits, what they use. Version 2 where it is mounted, the version 1 controllers
//! where version 2 lacks them, and nothing at all where we may not write: then ptrace stops the processes.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a cgroup may take to freeze. A process in the middle of disk I/O freezes when that ends.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long killed processes may take to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Kills everything in it and removes it.
    pub fn remove(&self) -> io::Result<()> {
        let v1 = self.v1.iter().map(|(_, place)| place);
        self.v2.iter().chain(&self.v1_freezer).chain(v1).try_for_each(|place| remove_tree(place))
    }
}

/// Kills all processes below `place`, frozen or not, and removes it. Nothing there is no error.
pub fn remove_tree(place: &Path) -> io::Result<()> {
    let started = Instant::now();
    while place.exists() {
        kill_tree(place)?;
        if !any_process(place) && remove_directories(place).is_ok() {
            break;
        }
        if started.elapsed() > KILL_TIMEOUT {
            let left = format!("{} still holds processes after they were killed", place.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, left));
        }
        wait_a_little(place);
    }
    Ok(())
}

fn kill_tree(place: &Path) -> io::Result<()> {
    let kill = place.join("cgroup.kill");
    if kill.exists() {
        return fs::write(kill, "1"); // Reaches frozen processes and everything below.
    }
    for child in subdirectories(place) {
        kill_tree(&child)?;
    }
    for pid in processes(place).unwrap_or_default() {
        if let Ok(process) = crate::process::Process::open(pid) {
            process.kill();
        }
    }
    let state = place.join("freezer.state");
    if state.exists() {
        // Version 1: a frozen process dies once it is thawed, and before it runs any code of its own.
        fs::write(state, "THAWED")?;
    }
    Ok(())
}

fn any_process(place: &Path) -> bool {
    processes(place).is_ok_and(|found| !found.is_empty())
        || subdirectories(place).iter().any(|child| any_process(child))
}

fn remove_directories(place: &Path) -> io::Result<()> {
    subdirectories(place).iter().try_for_each(|child| remove_directories(child))?;
    match rmdir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn rmdir(place: &Path) -> io::Result<()> {
    let path = CString::new(place.as_os_str().as_bytes())?;
    rustix::fs::rmdir(path.as_c_str()).map_err(io::Error::from)
}

fn subdirectories(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn processes(place: &Path) -> io::Result<Vec<i32>> {
    let text = fs::read_to_string(place.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// A number from `cgroup.events`.
fn event(place: &Path, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(place.join("cgroup.events"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    value.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("cgroup.events without {key}")))
}

/// Until `cgroup.events` changes, 20 ms at most.
fn wait_a_little(place: &Path) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    match File::open(place.join("cgroup.events")) {
        Ok(events) => {
            // Whatever it says, the caller looks again.
            let _ = poll(&mut [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)], Some(&timeout));
        }
        Err(_) => std::thread::sleep(Duration::from_millis(1)),
    }
}

fn writable(path: &Path) -> bool {
    OpenOptions::new().write(true).open(path).is_ok()
}

/// Lets cgroups below `place` limit memory and processes. Whether they now can.
fn enable_controllers(place: &Path) -> bool {
    // The parent must hand the controllers down first; it may refuse, since it has processes of its own (us).
    for at in place.parent().into_iter().chain([place]) {
        let _ = fs::write(at.join("cgroup.subtree_control"), "+memory +pids");
    }
    let enabled = fs::read_to_string(place.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |name| enabled.split_ascii_whitespace().any(|word| word == name);
    has("memory") && has("pids")
}

/// Our own cgroup's directory: of version 2 (`None`), or of a version 1 controller.
fn own_place(mounts: &str, own: &str, controller: Option<&str>) -> Option<PathBuf> {
    let (root, mount) = mounts.lines().find_map(|line| parse_mount(line, controller))?;
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let found = match controller {
            None => controllers.is_empty(),
            Some(name) => controllers.split(',').any(|word| word == name),
        };
        found.then_some(path)
    })?;
    // In a container the mount shows a part of the tree only: `root` is where that part begins.
    let path = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

/// Root and mount point, if this line of `mountinfo` is the hierarchy that is looked for.
fn parse_mount<'a>(line: &'a str, controller: Option<&str>) -> Option<(&'a str, &'a str)> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, mount) = (front.next()?, front.next()?);
    let mut back = back.split(' ');
    let (kind, options) = (back.next()?, back.nth(1)?);
    let found = match controller {
        None => kind == "cgroup2",
        Some(name) => kind == "cgroup" && options.split(',').any(|word| word == name),
    };
    found.then_some((root, mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 24 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 24 0:28 /docker/1 /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer";
    const OWN: &str = "6:freezer:/docker/1/a\n4:memory:/user/x\n0::/y";

    #[track_caller]
    fn check(controller: Option<&str>, expected: Option<&str>) {
        assert_eq!(own_place(MOUNTS, OWN, controller), expected.map(PathBuf::from));
    }

    #[test]
    fn our_own_cgroup_is_found_in_each_hierarchy() {
        check(None, Some("/sys/fs/cgroup/unified/y"));
        check(Some("memory"), Some("/sys/fs/cgroup/memory/user/x"));
        check(Some("freezer"), Some("/sys/fs/cgroup/freezer/a"));
        check(Some("pids"), None);
    }
}
