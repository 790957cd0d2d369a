//! Sandboxes without rights: another user, no capabilities, and no way to get any. The kernel refuses them the system call
//! by which a process gets a userfaultfd; what they hold must leave and come back like that of any other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bench, FILLED, LAZY, OpenFolder, open_to_all, sandbox};
use node::{FillBy, LaunchSpec, NodeConfig};
use protocol::{Depth, State};
use testkit::{Specimen, Subject, built, require};

/// A user that owns nothing, without the right to anything.
const WITHOUT_RIGHTS: [&str; 6] = [
    "--reuid=65533",
    "--regid=65533",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
];

/// A node, and a place where processes without rights find their program.
struct Ground {
    bench: Bench,
    program: PathBuf,
    _folder: OpenFolder,
}

impl Ground {
    /// `None`: the test cannot run here, and may be skipped.
    #[track_caller]
    fn with(configure: impl FnOnce(&mut NodeConfig)) -> Option<Ground> {
        let setpriv = Command::new("setpriv").arg("--version").output();
        let can = require(setpriv.is_ok(), "setpriv", "install util-linux");
        can.then(|| {
            let folder = OpenFolder::new();
            let program = folder.with_copy_of("specimen", &built("specimen"));
            Ground { bench: Bench::with(configure), program, _folder: folder }
        })
    }

    fn launch(&self, args: &[&str], change: impl FnOnce(&mut LaunchSpec)) -> Specimen {
        let program = self.program.clone();
        let specimen = self.bench.launch_with(&Subject::specimen(args), |spec| {
            let socket = spec.args.iter().map(Path::new).find(|arg| arg.is_absolute()).unwrap();
            open_to_all(socket);
            open_to_all(socket.parent().unwrap());
            let rights = WITHOUT_RIGHTS.map(Into::into).into_iter();
            spec.args = rights.chain([program.into()]).chain(spec.args.drain(..)).collect();
            spec.program = "setpriv".into();
            change(spec);
        });
        assert_has_no_rights(specimen.pid());
        specimen
    }
}

#[track_caller]
fn assert_has_no_rights(pid: i32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let rights = ["Uid", "CapEff", "CapBnd", "NoNewPrivs"].map(field);
    assert_eq!(rights, ["65533", "0000000000000000", "0000000000000000", "1"]);
}

/// What a process has open.
fn descriptors(pid: i32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut links: Vec<String> =
        entries.map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap().display().to_string()).collect();
    links.sort();
    links
}

/// Sleeps and wakes it, and compares what it says of its memory, and all of it.
#[track_caller]
fn sleep_and_wake(bench: &Bench, specimen: &mut Specimen) {
    let before = specimen.ask("checksum").unwrap();
    for _ in 0..3 {
        let slept = bench.sleep(specimen);
        assert!(slept.own_pages() > 100, "{slept:?}");
        assert_eq!(sandbox(specimen).state(), State::Dedup);
        bench.wake(specimen);
        assert_eq!(specimen.ask("checksum").unwrap(), before);
        let found = bench.check(specimen);
        assert!(found.is_same(), "{found:?}");
    }
}

#[test]
fn who_has_no_rights_sleeps_deeply_and_wakes_either_way() {
    for (_, configure) in [FILLED, LAZY] {
        let Some(ground) = Ground::with(configure) else { return };
        let mut specimen = ground.launch(&["memory", "71"], |_| {});
        sleep_and_wake(&ground.bench, &mut specimen);
        sleep_and_wake(&ground.bench, &mut ground.launch(&["tree"], |_| {}));
    }
}

#[test]
fn nothing_of_ours_stays_open_in_who_has_no_rights() {
    let Some(ground) = Ground::with(|config| config.lazy_above_bytes = u64::MAX) else { return };
    let specimen = ground.launch(&["memory", "72"], |_| {});
    let before = descriptors(specimen.pid());
    ground.bench.sleep(&specimen);
    assert_eq!(descriptors(specimen.pid()), before, "asleep");
    ground.bench.wake(&specimen);
    assert_eq!(descriptors(specimen.pid()), before, "awake");
    assert!(!before.iter().any(|link| link.contains("userfaultfd")), "{before:?}");
}

#[test]
fn who_has_no_rights_forks_while_memory_comes_back() {
    let Some(ground) = Ground::with(LAZY.1) else { return };
    let mut slept = ground.launch(&["memory", "73"], |_| {});
    let mut twin = Specimen::alone(&Subject::specimen(&["memory", "73"])).unwrap();
    for act in ["fork", "mremap-move", "dontneed", "munmap", "fork"] {
        ground.bench.sleep(&slept);
        ground.bench.wake(&slept);
        for command in [act, "checksum"] {
            assert_eq!(slept.ask(command).unwrap(), twin.ask(command).unwrap(), "{command} after {act}");
        }
    }
}

#[test]
fn who_has_no_rights_sleeps_lightly_and_only_what_was_written_is_read_again() {
    let Some(ground) = Ground::with(LAZY.1) else { return };
    let mut specimen = ground.launch(&["memory", "74"], |spec| spec.depth = Depth::Light);
    ground.bench.sleep(&specimen);
    ground.bench.wake(&specimen);
    sandbox(&specimen).begin_invocation().unwrap();
    specimen.ask("grow-heap").unwrap();
    sandbox(&specimen).end_invocation().unwrap();
    testkit::until(|| ground.bench.node.record().shadows == 1).unwrap();
    let before = specimen.ask("checksum").unwrap();
    let slept = ground.bench.sleep(&specimen);
    assert_eq!(slept.depth, Depth::Light);
    assert!(slept.unchanged_pages > 0, "{slept:?}");
    ground.bench.wake(&specimen);
    assert_eq!(specimen.ask("checksum").unwrap(), before);
}

#[test]
fn without_the_device_who_has_no_rights_is_held_by_ptrace_and_the_others_are_not() {
    let Some(ground) = Ground::with(|config| config.fill_by = FillBy::Call) else { return };
    let mut specimen = ground.launch(&["memory", "75"], |_| {});
    sleep_and_wake(&ground.bench, &mut specimen);
    ground.bench.sleep(&specimen);
    let tracer = |specimen: &Specimen| linux::process::status(specimen.pid()).unwrap().tracer;
    assert_ne!(tracer(&specimen), 0);
    let other = ground.bench.launch(&Subject::specimen(&["memory", "76"]));
    ground.bench.sleep(&other);
    assert_eq!(tracer(&other), 0);
}
