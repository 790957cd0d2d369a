//! A folder for one test, and the proof that nothing is left when the test ends, well or badly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::{Node, NodeConfig, instance_name};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testkit::{Census, belongings, census, require_root, workspace_root};

use super::comes_true;

/// How long what was killed may take to be gone; the guard of a dead server does it in milliseconds.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Where one test does everything.
pub(crate) struct Ground {
    before: Census,
    reach: Reach,
    folder: TempDir,
}

/// How far a test looks for what it left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// In the cgroups of the node in its data directory: others may run beside it.
    Node,
    /// On the whole machine: its nodes have data directories of their own. It must run alone.
    Machine,
}

impl Ground {
    /// For a test whose nodes all stand in its data directory.
    pub(crate) fn new() -> Ground {
        Ground::with(Reach::Node)
    }

    /// For a test that runs alone, as the configuration of nextest says.
    pub(crate) fn alone() -> Ground {
        Ground::with(Reach::Machine)
    }

    fn with(reach: Reach) -> Ground {
        assert!(require_root());
        let before = census().unwrap();
        let folder = tempfile::Builder::new().prefix("ground-").tempdir().unwrap();
        let ground = Ground { before, reach, folder };
        // An ordinary user may look in; what is another's alone says so itself.
        fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for part in [ground.functions(), ground.data(), ground.temporary()] {
            fs::create_dir(part).unwrap();
        }
        ground
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folders of its functions.
    pub(crate) fn functions(&self) -> PathBuf {
        self.path().join("functions")
    }

    /// The data directory of its servers.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// `TMPDIR` of all it starts.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path().join("temporary")
    }

    /// Gives folders of it to another user.
    pub(crate) fn give_to(&self, uid: u32) {
        for part in [self.data(), self.temporary()] {
            std::os::unix::fs::chown(part, Some(uid), Some(uid)).unwrap();
        }
    }

    /// Writes a function in Python.
    pub(crate) fn function(&self, name: &str, code: &str, settings: &str) {
        let root = self.functions().join(name);
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("lambda_function.py"), code).unwrap();
        fs::write(root.join("function.toml"), settings).unwrap();
    }

    /// Gives a function an extension.
    pub(crate) fn extension(&self, function: &str, name: &str, code: &str) {
        let folder = self.functions().join(function).join("extensions");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), code).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Copies an example function; it has one sandbox, which goes to sleep when it is told to, not before.
    pub(crate) fn example(&self, name: &str) {
        let (from, to) =
            (workspace_root().join("examples/functions").join(name), self.functions().join(name));
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        let settings = fs::read_to_string(to.join("function.toml")).unwrap();
        let patient = settings.replace("keep_warm_s = 5\n", "keep_warm_s = 3600\n");
        let patient = patient.replace("concurrency = 4\n", "concurrency = 1\n");
        assert!(patient.contains("keep_warm_s = 3600") && patient.contains("concurrency = 1"), "{settings}");
        fs::write(to.join("function.toml"), patient).unwrap();
    }

    /// The processes that stand in its folder: number and command line.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let Ok(here) = self.path().canonicalize() else { return Vec::new() };
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let stands_here =
            |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| place.starts_with(&here));
        let command = |pid: i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, line.trim_end_matches('\0').replace('\0', " "))
        };
        pids.filter(stands_here).map(command).collect()
    }

    /// What is there that was not there before: processes, cgroups, mounts, settings, files in `TMPDIR`.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.processes().iter().map(|(pid, line)| format!("process {pid}: {line}")).collect();
        let now = census().unwrap();
        match self.reach {
            Reach::Machine => left.extend(now.differences(&self.before)),
            Reach::Node => {
                left.extend(belongings(&instance_name(&self.data())).unwrap());
                left.extend(now.changes(&self.before));
            }
        }
        let files = fs::read_dir(self.temporary()).unwrap().filter_map(Result::ok);
        left.extend(files.map(|file| format!("file {}", file.path().display())));
        left
    }

    /// Waits until nothing is left of what ran here.
    #[track_caller]
    pub(crate) fn await_empty(&self) {
        let is_empty = comes_true(GONE_WITHIN, || self.left().is_empty());
        assert!(is_empty, "left behind: {:#?}", self.left());
    }

    /// Kills what stands here and removes its cgroups: another test must not find them.
    fn sweep(&self) {
        for (pid, _) in self.processes() {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL); // ESRCH: it has gone by itself.
            }
        }
        // A node that takes over a data directory cleans up; the folder may be held by one that is dying.
        comes_true(GONE_WITHIN, || {
            Node::start(NodeConfig::new(self.data())).map(|node| node.shutdown()).is_ok()
        });
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let has_failed = std::thread::panicking();
        if !has_failed && comes_true(GONE_WITHIN, || self.left().is_empty()) {
            return;
        }
        let left = self.left();
        self.sweep();
        assert!(has_failed, "left behind: {left:#?}");
    }
}
