//! Programs of a sandbox say what of them may be merged, by the Python module, and the node knows whose it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use advice::{BYTES_MAX, Range, Wish, encode};
use common::Bench;
use node::{
    Advice, AdviceCounts, CellSpec, LaunchSpec, Layout, Limits, Network, NodeConfig, Output, Sandbox,
    Sharing, StopBy, View,
};
use pages::{PAGE_SIZE, PageAddr, PageRange};
use protocol::{Depth, Merge};
use testkit::{built, require_python, workspace_root};

/// Tells of three pages, of which it keeps two, and has a child tell of one; says where each time, and rests.
const PROGRAM: &str = r#"
import ctypes, mmap, os, signal
import dormouse

def tell(pages):
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    told = dormouse.merge(memory)
    print(dormouse.status(), told // mmap.PAGESIZE, ctypes.addressof(ctypes.c_char.from_buffer(memory)), sep=",", flush=True)
    return memory

three = tell(3)
dormouse.unmerge(memoryview(three)[2 * mmap.PAGESIZE:])
if os.fork() == 0:
    one = tell(1)
signal.pause()
"#;

/// A node, and where its data lie.
struct Ground {
    bench: Bench,
    data: PathBuf,
}

impl Ground {
    fn new() -> Ground {
        Ground::with(|_| {})
    }

    fn with(configure: fn(&mut NodeConfig)) -> Ground {
        let mut data = PathBuf::new();
        let bench = Bench::with(|config| {
            config.guard = Some(built("dormouse"));
            data = config.data_dir.clone();
            configure(config);
        });
        Ground { bench, data }
    }

    fn socket(&self) -> PathBuf {
        self.data.join("merge.sock")
    }

    /// Starts the program, and hears two lines of it.
    fn launch(&self, in_cell: bool, change: impl FnOnce(&mut LaunchSpec)) -> (Sandbox, [Line; 2]) {
        let (said, stdout) = std::io::pipe().unwrap();
        let mut spec = spec(in_cell, Output::To(stdout.into()));
        change(&mut spec);
        let sandbox = self.bench.node.launch(spec).unwrap();
        let mut lines = BufReader::new(said).lines().map(|line| Line::parse(&line.unwrap()));
        (sandbox, [lines.next().unwrap(), lines.next().unwrap()])
    }

    #[track_caller]
    fn await_counts(&self, expected: AdviceCounts) {
        let _ = testkit::until(|| self.bench.node.advice_counts() == expected);
        assert_eq!(self.bench.node.advice_counts(), expected);
    }
}

/// What the program says of one call.
#[derive(Debug)]
struct Line {
    status: String,
    told_pages: u64,
    start: PageAddr,
}

impl Line {
    fn parse(line: &str) -> Line {
        let [status, pages, start] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let start = PageAddr::new(start.parse().unwrap()).unwrap();
        Line { status: status.to_owned(), told_pages: pages.parse().unwrap(), start }
    }
}

fn spec(in_cell: bool, stdout: Output) -> LaunchSpec {
    let (module, library) = (workspace_root().join("python"), built("libdormouse.so"));
    let view = |source: &Path, target: &str| View { source: source.to_owned(), target: target.into() };
    let views = vec![view(&module, "/opt/python"), view(&library, "/opt/libdormouse.so")];
    let (module, library, python) = if in_cell {
        ("/opt/python".into(), "/opt/libdormouse.so".into(), "python3".into()) // The system's: the other may be anywhere.
    } else {
        (module, library, testkit::python().into())
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let no_cache = ("PYTHONDONTWRITEBYTECODE".into(), "1".into());
    LaunchSpec {
        name: "adviser".to_owned(),
        program: python,
        args: vec!["-c".into(), PROGRAM.into()],
        env: vec![
            ("PATH".into(), path),
            ("PYTHONPATH".into(), module.into()),
            ("DORMOUSE_LIB".into(), library.into()),
            no_cache,
        ],
        cwd: Some("/".into()),
        limits: Limits::default(),
        layout: Layout::Random,
        sharing: Sharing::Domain("test".to_owned()),
        depth: Depth::Deep,
        merge: Merge::Advised,
        cell: in_cell.then_some(CellSpec { views, tmp_bytes: 1 << 20, network: Network::None, port: None }),
        stdout,
        stderr: Output::Inherit,
    }
}

/// Two sandboxes tell of themselves, in cells or not, and each of its own memory alone.
#[track_caller]
fn check(in_cell: bool, configure: fn(&mut NodeConfig)) {
    if !require_python(&["mmap"]) {
        return;
    }
    let ground = Ground::with(configure);
    let sandboxes = [(); 2].map(|()| ground.launch(in_cell, |_| {}));
    ground.await_counts(AdviceCounts { heard: 6, ..AdviceCounts::default() });
    for (sandbox, lines) in &sandboxes {
        let told: Vec<_> = lines.iter().map(|line| (line.status.as_str(), line.told_pages)).collect();
        assert_eq!(told, [("merging", 3), ("merging", 1)]);
        let advised = sandbox.advised();
        let [of_parent, of_child] = advised.as_slice() else { panic!("{advised:?}") };
        let parent = Advice { pid: sandbox.pid(), range: PageRange::new(lines[0].start, 2) };
        assert_eq!((*of_parent, of_child.range), (parent, PageRange::new(lines[1].start, 1)));
        assert_ne!(of_child.pid, of_parent.pid);
    }
    sandboxes.iter().for_each(|(sandbox, _)| sandbox.purge());
}

#[test]
fn a_sandbox_tells_of_itself() {
    check(false, |_| {});
}

#[test]
fn a_sandbox_that_no_cgroup_knows_tells_of_itself() {
    check(false, |config| config.stop_by = StopBy::Ptrace);
}

#[test]
fn a_sandbox_in_a_cell_tells_of_itself() {
    check(true, |_| {});
}

#[test]
fn strangers_and_nonsense_are_counted_and_nothing_else() {
    if !require_python(&["mmap"]) {
        return;
    }
    let ground = Ground::new();
    let (sandbox, _) = ground.launch(false, |_| {});
    ground.await_counts(AdviceCounts { heard: 3, ..AdviceCounts::default() });
    let before = sandbox.advised();
    let sender = UnixDatagram::unbound().unwrap();
    let range = Range::new(before[0].range.start().get(), PAGE_SIZE as u64).unwrap();
    let mut room = [0; BYTES_MAX];
    let advice = encode(Wish::Leave, &[range], &mut room);
    for message in [advice, &[], b"garbage", &[0xff; 4096]] {
        sender.send_to(message, ground.socket()).unwrap();
    }
    let socket = ground.socket();
    // One that may not advise, but knows where the others do.
    let (unasked, _) = ground.launch(false, move |spec| {
        spec.merge = Merge::Off;
        spec.env.push(("DORMOUSE_MERGE_SOCKET".into(), socket.into()));
    });
    ground.await_counts(AdviceCounts { heard: 3, malformed: 3, strangers: 4, full: 0 });
    assert_eq!((sandbox.advised(), unasked.advised()), (before, Vec::new()));
    [sandbox, unasked].iter().for_each(Sandbox::purge);
}

#[test]
fn who_shares_with_nobody_is_not_asked_and_nothing_listens() {
    if !require_python(&["mmap"]) {
        return;
    }
    let ground = Ground::new();
    for (merge, sharing) in
        [(Merge::Off, Sharing::Domain("test".to_owned())), (Merge::Advised, Sharing::None)]
    {
        let (sandbox, lines) = ground.launch(false, |spec| (spec.merge, spec.sharing) = (merge, sharing));
        assert_eq!(lines.map(|line| (line.status, line.told_pages)), [(); 2].map(|()| ("off".to_owned(), 0)));
        assert!(!ground.socket().exists());
        sandbox.purge();
    }
    ground.await_counts(AdviceCounts::default());
}
