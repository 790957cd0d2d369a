//! Where workers are made: the script, its interpreter, the sockets, and what is the same for all workers of a bench.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use linux::cgroup::Hierarchy;
use linux::process::{self, Process};
use linux::spawn::{Limits, Spawn};

use super::error::BenchError;
use super::worker::Worker;
use crate::output;
use crate::python::Interpreter;
use crate::stop::Stop;

const PYTHON_SCRIPT: &str = include_str!("worker.py");
const NETWORKS_SCRIPT: &str = include_str!("networks.py");
const NODE_SCRIPT: &str = include_str!("worker.js");
const JAVA_SOURCE: &str = include_str!("Worker.java");
/// What makes two processes of Node alike, as the hash seed does for Python: V8 draws addresses from its random
/// numbers, and threads that compile and collect make every run another. With the seeds alone a third of the pages is
/// identical, with one thread 97 %.
const NODE_PINNED: [&str; 3] = ["--hash-seed=20150331", "--random-seed=20150331", "--single-threaded"];
/// As AWS Lambda starts Java: one thread that collects garbage, the quick compiler alone, and a heap that follows from the
/// size of the function, not of the machine. The last keeps a killed one from leaving a file in `/tmp`. No option makes two
/// processes alike, as there are for Node: its threads race from the start, and a third of the pages is identical.
const JAVA_OPTIONS: [&str; 5] =
    ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms8m", "-Xmx256m", "-XX:-UsePerfData"];
/// `javac`, also where only what runs Java is installed.
const JAVA_COMPILER: [&str; 2] = ["-m", "jdk.compiler/com.sun.tools.javac.Main"];
/// Any number does: it only has to be the same for all sandboxes of a bench.
const LAYOUT_SECRET: u64 = 0x646f_726d_6f75_7365;
/// Enough for interpreters that specialise code as it runs.
const WARM_UP_CALLS: u32 = 25;
/// The same where a call is mostly arithmetic, and takes long.
const WARM_UP_CALLS_OF_LONG: u32 = 2;

/// What a worker computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The standard library alone.
    Hello,
    /// A product of matrices.
    Numpy,
    /// Grouping a table.
    Pandas,
    /// Classifying text.
    Sklearn,
    /// Objects in Node.
    Node,
    /// Objects in Java.
    Java,
    /// Recognising images: small tensors, much arithmetic.
    Resnet50,
    /// The same by large tensors.
    Alexnet,
    /// Memory of which 85 % is the same in every process.
    Synthetic,
}

impl Kind {
    /// What benches run unless they are told otherwise, in the order of the table.
    pub(crate) const ALL: [Kind; 6] =
        [Kind::Hello, Kind::Numpy, Kind::Pandas, Kind::Sklearn, Kind::Node, Kind::Java];

    /// Whether Python runs it.
    pub(crate) fn is_python(self) -> bool {
        !matches!(self, Kind::Node | Kind::Java)
    }

    /// What tables call it; also the module or the program that it needs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Hello => "hello",
            Kind::Numpy => "numpy",
            Kind::Pandas => "pandas",
            Kind::Sklearn => "sklearn",
            Kind::Node => "node",
            Kind::Java => "java",
            Kind::Resnet50 => "resnet50",
            Kind::Alexnet => "alexnet",
            Kind::Synthetic => "synthetic",
        }
    }

    /// Whether it needs weights, and a library that multiplies with them.
    pub(crate) fn is_network(self) -> bool {
        matches!(self, Kind::Resnet50 | Kind::Alexnet)
    }

    fn warm_up_calls(self) -> u32 {
        if self.is_network() || self == Kind::Synthetic { WARM_UP_CALLS_OF_LONG } else { WARM_UP_CALLS }
    }

    /// How long one takes to start and to warm up, about, where several start at the same time.
    pub(crate) fn start_ms(self) -> u64 {
        match self {
            Kind::Hello | Kind::Numpy | Kind::Node => 100,
            Kind::Pandas | Kind::Java | Kind::Synthetic => 400,
            Kind::Sklearn | Kind::Resnet50 | Kind::Alexnet => 1400,
        }
    }
}

/// Where the memory of workers lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Placing {
    /// At the same addresses in all of a kind, with the same hash seed
    Pinned,
    /// Anywhere, with random hash seeds
    Random,
}

impl Placing {
    /// What tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Placing::Pinned => "pinned",
            Placing::Random => "random",
        }
    }
}

/// What all workers of one bench have in common.
#[derive(Debug)]
pub(crate) struct Workshop {
    /// What runs the workers.
    pub(crate) python: Interpreter,
    /// For the script and the sockets; gone when the bench ends.
    pub(crate) dir: tempfile::TempDir,
    /// Where the workers of the rivals get their cgroups.
    pub(crate) hierarchy: Hierarchy,
    /// `Some`: addresses and hashes are the same for all workers of a kind.
    pub(crate) layout_secret: Option<u64>,
    /// Ctrl-C.
    pub(crate) stop: Stop,
}

impl Workshop {
    /// Sets up what workers need, and finds the interpreter.
    pub(crate) fn open(placing: Placing, stop: Stop) -> Result<Workshop, BenchError> {
        let python = Interpreter::find()?;
        let dir = tempfile::Builder::new().prefix("dormouse-bench-").tempdir();
        let dir = dir.map_err(BenchError::system("make a directory for the bench"))?;
        // In a directory where nothing else appears: Python lists the directory of its script, and keeps the list.
        fs::create_dir(dir.path().join("script"))
            .and_then(|()| fs::write(dir.path().join("script/worker.py"), PYTHON_SCRIPT))
            .and_then(|()| fs::write(dir.path().join("script/networks.py"), NETWORKS_SCRIPT))
            .and_then(|()| fs::write(dir.path().join("script/worker.js"), NODE_SCRIPT))
            .and_then(|()| fs::write(dir.path().join("script/Worker.java"), JAVA_SOURCE))
            .map_err(BenchError::system("write the worker's script"))?;
        // Restored and orphaned workers become our children, and can be collected.
        process::become_subreaper().map_err(BenchError::system("adopt orphans"))?;
        // Named otherwise than that of a server, whose sandboxes `dormouse merge` leaves to the server.
        let hierarchy = Hierarchy::create(&format!("bench-dormouse-{}", std::process::id()));
        let layout_secret = (placing == Placing::Pinned).then_some(LAYOUT_SECRET);
        Ok(Workshop { python, dir, hierarchy, layout_secret, stop })
    }

    /// Makes ready what this worker needs, or says why it cannot run here.
    fn make_ready(&self, kind: Kind) -> Result<(), String> {
        match kind {
            Kind::Hello => Ok(()),
            Kind::Numpy | Kind::Pandas | Kind::Sklearn => {
                self.python.what_lacks(kind.name()).map_or(Ok(()), Err)
            }
            Kind::Synthetic => self.python.what_lacks("numpy").map_or(Ok(()), Err),
            Kind::Resnet50 | Kind::Alexnet => self.make_weights(kind),
            Kind::Node => run(Command::new("node").arg("--version")),
            Kind::Java => {
                let script = self.dir.path().join("script");
                let mut compile = Command::new("java");
                compile.args(JAVA_COMPILER).arg("-d").arg(&script).arg(script.join("Worker.java"));
                run(&mut compile)
            }
        }
    }

    /// Where networks have their weights: beside the script, as the worker expects them.
    fn weights(&self) -> PathBuf {
        self.dir.path().join("weights")
    }

    fn make_weights(&self, kind: Kind) -> Result<(), String> {
        fs::create_dir_all(self.weights()).map_err(|error| error.to_string())?;
        let mut make = Command::new(&self.python.program);
        make.arg(self.dir.path().join("script/networks.py")).arg(kind.name()).arg(self.weights());
        run(make.env("PYTHONDONTWRITEBYTECODE", "1"))
    }

    /// What multiplies for networks, with its version; `None` where none was made ready.
    pub(crate) fn engine(&self) -> Option<String> {
        fs::read_to_string(self.weights().join("engine")).ok()
    }

    /// Those that can run, and a note for each that cannot. Who names a worker wants it: then all must run.
    pub(crate) fn runnable(
        &self,
        named: &[Kind],
        otherwise: &[Kind],
    ) -> Result<(Vec<Kind>, Vec<String>), BenchError> {
        let (mut runnable, mut notes) = (Vec::new(), Vec::new());
        for &kind in if named.is_empty() { otherwise } else { named } {
            match self.make_ready(kind) {
                Ok(()) => runnable.push(kind),
                Err(why) if named.is_empty() => notes.push(format!("{} is left out: {why}", kind.name())),
                Err(why) => return Err(BenchError::CannotRun { worker: kind.name(), why }),
            }
        }
        notes.iter().for_each(|note| output::note(note));
        Ok((runnable, notes))
    }

    /// What runs workers of this kind.
    pub(crate) fn program(&self, kind: Kind) -> &Path {
        if kind.is_python() { &self.python.program } else { Path::new(kind.name()) }
    }

    /// Where worker number `number` of this kind listens. Of one length for all, as addresses depend on it.
    pub(crate) fn socket(&self, way: &str, number: usize) -> PathBuf {
        self.dir.path().join(format!("{way}-{number:04}"))
    }

    /// Arguments after the interpreter.
    pub(crate) fn arguments(&self, kind: Kind, socket: &Path, is_warmed_up: bool) -> Vec<OsString> {
        let calls = if is_warmed_up { kind.warm_up_calls() } else { 0 };
        let is_pinned = self.layout_secret.is_some();
        let script = |name: &str| OsString::from(self.dir.path().join("script").join(name));
        let options = |options: &[&str]| options.iter().map(OsString::from).collect();
        let mut arguments: Vec<OsString> = match kind {
            Kind::Node if is_pinned => options(&NODE_PINNED),
            Kind::Java => options(&JAVA_OPTIONS),
            _ => Vec::new(),
        };
        match kind {
            Kind::Node => arguments.push(script("worker.js")),
            Kind::Java => arguments.extend(["-cp".into(), script(""), "Worker".into()]),
            _ => arguments.push(script("worker.py")),
        }
        arguments.extend([kind.name().into(), socket.into(), calls.to_string().into()]);
        arguments
    }

    /// The whole environment of a worker.
    pub(crate) fn environment(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("LANG", "C.UTF-8"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("MALLOC_MMAP_THRESHOLD_", "131072"), // As the server sets it for pinned layouts.
            ("PYTHONHASHSEED", if self.layout_secret.is_some() { "20150331" } else { "random" }),
            // Threads of a library would compete with what is measured.
            ("OMP_NUM_THREADS", "1"),
            ("OPENBLAS_NUM_THREADS", "1"),
        ]
    }

    /// The command that starts a worker.
    pub(crate) fn command(&self, kind: Kind, socket: &Path, is_warmed_up: bool) -> Command {
        let mut command = Command::new(self.program(kind));
        command.args(self.arguments(kind, socket, is_warmed_up)).current_dir("/");
        command.env_clear().envs(self.environment());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts a worker for a rival, in a cgroup of its own. It may not listen yet.
    pub(crate) fn start(&self, kind: Kind, way: &str, is_warmed_up: bool) -> Result<Worker, BenchError> {
        self.start_prepared(kind, way, is_warmed_up, |_| {})
    }

    /// The same after `prepare` has had its way with the command.
    pub(crate) fn start_prepared(
        &self,
        kind: Kind,
        way: &str,
        is_warmed_up: bool,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Worker, BenchError> {
        let mut worker = self.place(kind, way)?;
        let entrances = worker.cgroup.entrances().map_err(BenchError::system("open a cgroup"))?;
        let mut command = self.command(kind, &worker.socket, is_warmed_up);
        prepare(&mut command);
        let spawn =
            Spawn { command, entrances, limits: Limits::default(), layout_secret: self.layout_secret };
        let process = linux::spawn::spawn(spawn).map_err(BenchError::system("start a worker"))?;
        worker.process = Some(process);
        Ok(worker)
    }

    /// The same in no cgroup and not bound to die with us: CRIU restores that bond, and breaks it when it ends.
    pub(crate) fn start_without_bond(&self, kind: Kind, way: &str) -> Result<Worker, BenchError> {
        let mut worker = self.place(kind, way)?;
        let child = self.command(kind, &worker.socket, true).process_group(0).spawn();
        let child = child.map_err(BenchError::system("start a worker"))?;
        let process = Process::open(child.id() as i32).map_err(BenchError::system("find a worker"))?;
        worker.process = Some(process);
        Ok(worker)
    }

    /// All of a worker but the process.
    fn place(&self, kind: Kind, way: &str) -> Result<Worker, BenchError> {
        let socket = self.socket(way, 0);
        let _ = fs::remove_file(&socket); // Of the worker before it.
        let cgroup = self.hierarchy.add(way).map_err(BenchError::system("make a cgroup"))?;
        Ok(Worker { kind, socket, cgroup, process: None, stop: self.stop.clone() })
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Err(error) = self.hierarchy.remove() {
            tracing::warn!(%error, "cgroups of the bench remain");
        }
    }
}

/// Runs a command to its end. If it fails: the first error that it named.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().find(|line| line.contains("rror")).or(said.lines().last());
    Err(format!("{program}: {}", reason.unwrap_or("it failed").trim()))
}
