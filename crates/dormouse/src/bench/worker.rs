//! The workers that the bench puts to sleep, and how it talks to them: one connection for each request, a line
//! there and a line back. The kernel keeps a request for a worker that does not run, so a request is waiting
//! before the wake begins.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use linux::cgroup::{Cgroup, Hierarchy};
use linux::process::{self, Process};
use linux::spawn::{Limits, Spawn};

use super::error::BenchError;
use crate::python::Interpreter;
use crate::stop::Stop;

const SCRIPT: &str = include_str!("worker.py");
/// Enough for interpreters that specialise code as it runs.
const WARM_UP_CALLS: u32 = 25;
/// The slowest cold start seen took 3 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a worker that starts is called; the resolution of cold starts.
const CALL_INTERVAL: Duration = Duration::from_micros(500);
/// How often a wait looks whether we were asked to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

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
}

impl Kind {
    /// What tables call it; also the module that it needs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Hello => "hello",
            Kind::Numpy => "numpy",
            Kind::Pandas => "pandas",
            Kind::Sklearn => "sklearn",
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
    pub(crate) fn open(layout_secret: Option<u64>, stop: Stop) -> Result<Workshop, BenchError> {
        let python = Interpreter::find()?;
        let dir = tempfile::Builder::new().prefix("dormouse-bench-").tempdir();
        let dir = dir.map_err(BenchError::system("make a directory for the bench"))?;
        fs::write(dir.path().join("worker.py"), SCRIPT)
            .map_err(BenchError::system("write the worker's script"))?;
        // Restored and orphaned workers become our children, and can be collected.
        process::become_subreaper().map_err(BenchError::system("adopt orphans"))?;
        let hierarchy = Hierarchy::create(&format!("dormouse-bench-{}", std::process::id()));
        Ok(Workshop { python, dir, hierarchy, layout_secret, stop })
    }

    /// Why this worker cannot run here, if it cannot.
    pub(crate) fn what_lacks(&self, kind: Kind) -> Option<String> {
        if kind == Kind::Hello { None } else { self.python.what_lacks(kind.name()) }
    }

    /// Where worker number `number` of this kind listens. Of one length for all, as addresses depend on it.
    pub(crate) fn socket(&self, way: &str, number: usize) -> PathBuf {
        self.dir.path().join(format!("{way}-{number:04}"))
    }

    /// Arguments after the interpreter.
    pub(crate) fn arguments(&self, kind: Kind, socket: &Path, is_warmed_up: bool) -> Vec<std::ffi::OsString> {
        let calls = if is_warmed_up { WARM_UP_CALLS } else { 0 };
        let script = self.dir.path().join("worker.py");
        vec![script.into(), kind.name().into(), socket.into(), calls.to_string().into()]
    }

    /// The whole environment of a worker.
    pub(crate) fn environment(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("LANG", "C.UTF-8"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONHASHSEED", if self.layout_secret.is_some() { "20150331" } else { "random" }),
            // Threads of a library would compete with what is measured.
            ("OMP_NUM_THREADS", "1"),
            ("OPENBLAS_NUM_THREADS", "1"),
        ]
    }

    /// The command that starts a worker.
    pub(crate) fn command(&self, kind: Kind, socket: &Path, is_warmed_up: bool) -> Command {
        let mut command = Command::new(&self.python.program);
        command.args(self.arguments(kind, socket, is_warmed_up)).current_dir("/");
        command.env_clear().envs(self.environment());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts a worker for a rival, in a cgroup of its own. It may not listen yet.
    pub(crate) fn start(&self, kind: Kind, way: &str, is_warmed_up: bool) -> Result<Worker, BenchError> {
        let mut worker = self.place(kind, way)?;
        let entrances = worker.cgroup.entrances().map_err(BenchError::system("open a cgroup"))?;
        let command = self.command(kind, &worker.socket, is_warmed_up);
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

/// A worker of a rival. Dropping it kills it and removes its cgroup.
#[derive(Debug)]
pub(crate) struct Worker {
    /// What it computes.
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// Where it runs.
    pub(crate) cgroup: Cgroup,
    /// `None` while there is none.
    pub(crate) process: Option<Process>,
    stop: Stop,
}

/// Memory of one worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Anonymous memory and private copies of file pages.
    pub(crate) private_bytes: u64,
    /// Page tables and what else the kernel holds for it.
    pub(crate) kernel_bytes: u64,
}

impl Worker {
    /// Its process, while it has one.
    pub(crate) fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// A conversation with it.
    pub(crate) fn line(&self) -> Line {
        Line { worker: self.kind.name(), socket: self.socket.clone(), stop: self.stop.clone() }
    }

    /// What it uses now. Where no controller counts kernel memory, that is the page tables alone.
    pub(crate) fn memory(&self) -> Result<Memory, BenchError> {
        let status = process::status(self.pid()).map_err(BenchError::system("read a worker's status"))?;
        let kernel_bytes = self.cgroup.usage().map_or(0, |usage| usage.kernel_bytes);
        let kernel_bytes = kernel_bytes.max(status.page_table_bytes);
        Ok(Memory { private_bytes: status.anonymous_bytes, kernel_bytes })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A killed process that is frozen dies as well (cgroup v2), or when its cgroup is removed (v1).
        if let Some(process) = &self.process {
            process.kill();
        }
        if let Err(error) = self.cgroup.remove() {
            tracing::warn!(%error, "a cgroup of the bench remains");
        }
        if let Some(process) = self.process.take() {
            collect(&process);
        }
    }
}

/// Waits until a process that dies is dead and collected.
pub(crate) fn collect(process: &Process) {
    let started = Instant::now();
    while process.reap().is_none() && started.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A way to talk to a worker, however it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    worker: &'static str,
    socket: PathBuf,
    stop: Stop,
}

impl Line {
    /// To a worker that listens there.
    pub(crate) fn to(kind: Kind, socket: PathBuf, stop: Stop) -> Line {
        Line { worker: kind.name(), socket, stop }
    }

    /// Sends a request to a worker that listens, whether it runs or not.
    pub(crate) fn ask(&self, number: u64) -> Result<Asked, BenchError> {
        let doing = || BenchError::system(format!("send a request to worker {}", self.worker));
        let mut stream = UnixStream::connect(&self.socket).map_err(doing())?;
        writeln!(stream, "{number}").map_err(doing())?;
        stream.set_read_timeout(Some(LOOK_INTERVAL)).map_err(doing())?;
        Ok(Asked { line: self.clone(), stream })
    }

    /// Sends a request as soon as somebody listens.
    pub(crate) fn ask_when_ready(&self, number: u64) -> Result<Asked, BenchError> {
        let started = Instant::now();
        loop {
            match self.ask(number) {
                Ok(asked) => return Ok(asked),
                Err(_) if started.elapsed() < ANSWER_TIMEOUT && !self.stop.is_asked() => {
                    std::thread::sleep(CALL_INTERVAL);
                }
                Err(_) => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> BenchError {
        match self.stop.is_asked() {
            true => BenchError::Interrupted,
            false => BenchError::Silent { worker: self.worker, within_s: ANSWER_TIMEOUT.as_secs() },
        }
    }
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    line: Line,
    stream: UnixStream,
}

impl Asked {
    /// Waits for the answer.
    pub(crate) fn answer(mut self) -> Result<String, BenchError> {
        let (started, mut answer, mut piece) = (Instant::now(), Vec::new(), [0; 256]);
        while !answer.ends_with(b"\n") {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(self.line.silent()),
                Ok(len) => answer.extend(piece.iter().take(len)),
                Err(error) if is_just_slow(&error) => {}
                Err(error) => return Err(BenchError::system("read an answer")(error)),
            }
            if started.elapsed() > ANSWER_TIMEOUT || self.line.stop.is_asked() {
                return Err(self.line.silent());
            }
        }
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }
}

fn is_just_slow(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
