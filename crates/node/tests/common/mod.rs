//! A node of a test's own, and calls that wait.

#![allow(clippy::unwrap_used, clippy::expect_used)] // The lint lets tests unwrap, but not what tests call.
#![allow(dead_code)] // Each test binary uses some of it.

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use node::{FillBy, LaunchSpec, Node, NodeConfig, Sandbox, SleepError, StopBy};
use protocol::{CheckRecord, SleepRecord, State, WakeRecord};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testkit::{Specimen, Subject};

/// A way of holding and filling: its name, and how a node is set up for it.
pub(crate) type Way = (&'static str, fn(&mut NodeConfig));

/// Filled before the thaw, held by the freezer of cgroup version 2.
pub(crate) const FILLED: Way = ("filled before the thaw", |_| {});

/// Filled by fault and in the background.
pub(crate) const LAZY: Way = ("lazily", |config| config.lazy_above_bytes = 0);

/// All that an ordinary user has.
pub(crate) const AS_USER: Way = ("as an ordinary user", |config| {
    config.stop_by = StopBy::Ptrace;
    config.fill_by = FillBy::Write;
});

/// Every way of holding and filling that this machine knows.
pub(crate) fn every_way() -> Vec<Way> {
    vec![
        FILLED,
        LAZY,
        ("by version 1", |config| config.stop_by = StopBy::CgroupV1),
        ("lazily, by trace stops", |config| {
            config.stop_by = StopBy::Ptrace;
            config.lazy_above_bytes = 0;
        }),
        ("by trace stops", |config| config.stop_by = StopBy::Ptrace),
        AS_USER,
    ]
}

/// In the place of a cgroup where there is none: then only our descendants are looked for.
const NO_CGROUP: &str = "no cgroup";

/// A node that is shut down with the test, and must leave nothing behind: no process, no cgroup, no page.
pub(crate) struct Bench {
    pub(crate) node: Node,
    /// Processes that were there before.
    before: Vec<String>,
    /// The directory of its cgroups, once it is known.
    tree: RefCell<Option<String>>,
    _data_dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with(|_| {})
    }

    pub(crate) fn with(configure: impl FnOnce(&mut NodeConfig)) -> Bench {
        assert!(testkit::require_root());
        Bench::for_anybody(configure)
    }

    /// One that needs no privilege.
    pub(crate) fn for_anybody(configure: impl FnOnce(&mut NodeConfig)) -> Bench {
        // What the node logs is shown with a test that fails.
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
        let _ = log.with_test_writer().try_init();
        let data_dir = tempfile::tempdir().unwrap();
        let mut config = NodeConfig::new(data_dir.path().to_owned());
        configure(&mut config);
        let node = Node::start(config).unwrap();
        let before = testkit::belongings(NO_CGROUP).unwrap();
        Bench { node, before, tree: RefCell::new(None), _data_dir: data_dir }
    }

    /// Launches a subject, which is warm then.
    pub(crate) fn launch(&self, subject: &Subject) -> Specimen {
        self.launch_with(subject, |_| {})
    }

    /// The same, after `change` has had its way with the specification.
    pub(crate) fn launch_with(&self, subject: &Subject, change: impl FnOnce(&mut LaunchSpec)) -> Specimen {
        let specimen = Specimen::launch_with(&self.node, subject, change).unwrap();
        sandbox(&specimen).mark_ready().unwrap();
        *self.tree.borrow_mut() = cgroup_tree(specimen.pid());
        specimen
    }

    pub(crate) fn sleep(&self, specimen: &Specimen) -> SleepRecord {
        self.try_sleep(specimen).unwrap()
    }

    pub(crate) fn try_sleep(&self, specimen: &Specimen) -> Result<SleepRecord, SleepError> {
        wait(sandbox(specimen).sleep())
    }

    pub(crate) fn wake(&self, specimen: &Specimen) -> WakeRecord {
        wait(sandbox(specimen).wake()).unwrap().expect("it slept")
    }

    pub(crate) fn check(&self, specimen: &Specimen) -> CheckRecord {
        wait(sandbox(specimen).check()).unwrap()
    }

    /// Waits until no sandbox is left and the store is empty.
    #[track_caller]
    pub(crate) fn await_nothing(&self) {
        let _ = testkit::until(|| self.node.sandboxes().is_empty());
        let record = self.node.record();
        let left = (record.sandboxes, record.store_pages, record.store_bytes);
        assert_eq!(left, (0, 0, 0), "sandboxes, pages and bytes that are left");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.node.shutdown();
        if std::thread::panicking() {
            return; // Only the first failure counts.
        }
        self.await_nothing();
        let tree = self.tree.take().unwrap_or_else(|| NO_CGROUP.to_owned());
        let left = || {
            let mut left = testkit::belongings(&tree).unwrap();
            left.retain(|item| !self.before.contains(item));
            left
        };
        let _ = testkit::until(|| left().is_empty());
        assert_eq!(left(), Vec::<String>::new(), "left behind");
    }
}

/// A folder that any user can reach: who has no rights may be unable to reach the one in which we were built.
pub(crate) struct OpenFolder(TempDir);

impl OpenFolder {
    pub(crate) fn new() -> OpenFolder {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        OpenFolder(folder)
    }

    /// Copies a program into it.
    pub(crate) fn with_copy_of(&self, name: &str, program: &Path) -> PathBuf {
        let copy = self.0.path().join(name);
        fs::copy(program, &copy).unwrap();
        open_to_all(&copy);
        copy
    }
}

/// Lets everybody read, write and execute it.
pub(crate) fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

/// The sandbox in which a specimen runs.
pub(crate) fn sandbox(specimen: &Specimen) -> &Sandbox {
    specimen.sandbox().expect("it runs in a sandbox")
}

/// Waits for one answer of a driver.
pub(crate) fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer)
}

/// Waits until a sandbox stands there.
#[track_caller]
pub(crate) fn await_state(sandbox: &Sandbox, state: State) {
    let reached = testkit::until(|| sandbox.state() == state);
    assert!(reached.is_ok(), "it is {:?}, not {state:?}", sandbox.state());
}

/// Sends a signal from outside.
pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The directory of a node's cgroups, from one of its processes.
fn cgroup_tree(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let place = text.split(['/', '\n']).find(|part| part.starts_with("dormouse-"))?;
    Some(place.to_owned())
}

/// Numbers that follow from a seed.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn seeded(seed: u64) -> Draw {
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one, below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
