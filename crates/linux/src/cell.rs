//! A cell: the namespaces in which one sandbox lives, and what it sees of the machine.
//!
//! A cell is built by the **builder**, a fresh process with one thread that is nobody else's: it leaves our namespaces, and starts
//! two processes beside itself, children of the thread that asked for the cell. The **keeper** is the first process of
//! the cell's pid namespace: it builds the view, then collects orphans, and takes all with it when it dies. The other
//! becomes the program. So the program is traced, collected, and killed with its driver like one without a cell.

mod beside;
mod inside;
mod keeper;
mod network;
mod report;
mod rights;
mod view;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::spawn::{self, Limits, StackLimits};

pub use inside::run as run_inside;
pub use network::{
    InvalidNetwork, Network, NetworkError, NetworkName, Port, Sockets, listen_anywhere, named_networks,
};
use report::Report;

/// The user and group as which every sandbox sees itself.
pub const INSIDE_ID: u32 = 1000;

/// A cell takes milliseconds; one whose files lie on a dead network would take for ever.
const BUILT_WITHIN: Duration = Duration::from_secs(20);

/// What one sandbox sees of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Who it is to the machine: user and group. Without privilege it is who we are.
    pub id: u32,
    /// Files and folders beside the usual ones of the system, which it sees and cannot change.
    pub views: Vec<View>,
    /// Size of its `/tmp`.
    pub tmp_bytes: u64,
    /// Which network it has.
    pub network: Network,
    /// Where somebody outside will listen on the loopback interface of the cell, if its network is its own.
    pub port: Option<Port>,
    /// Any folder that is there: the new root covers it for a moment, in the cell alone.
    pub scaffold: PathBuf,
}

/// A file or folder of the machine, and where the sandbox sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// On the machine.
    pub source: PathBuf,
    /// In the cell, absolute.
    pub target: PathBuf,
}

impl View {
    /// At the same place.
    pub fn same(path: impl Into<PathBuf>) -> View {
        let source = path.into();
        View { target: source.clone(), source }
    }
}

/// A program to be started in a cell.
#[derive(Debug)]
pub struct CellSpawn {
    /// Called as `BUILDER inside`; it must call `run_inside`.
    pub builder: PathBuf,
    /// Its cell.
    pub cell: Cell,
    /// A path in the cell, or a name to look up in its `PATH`.
    pub program: OsString,
    /// Arguments after the program's name.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// A folder in the cell.
    pub cwd: Option<PathBuf>,
    /// Where its output goes.
    pub stdout: Stdio,
    /// Where its errors go.
    pub stderr: Stdio,
    /// Where it writes `0` to enter its cgroups.
    pub entrances: Vec<File>,
    /// What it may use.
    pub limits: Limits,
    /// `Some`: no address is random, and the libraries lie where this secret says.
    pub layout_secret: Option<u64>,
}

/// The two processes of a new cell, children of the calling thread.
#[derive(Debug)]
pub struct Inmates {
    /// Runs the program.
    pub program: Process,
    /// The first process of the cell: all others die with it.
    pub keeper: Process,
    /// If a port was asked for, and the network is the cell's own.
    pub sockets: Option<Sockets>,
}

/// What the builder is to do. It goes over a socket: the environment may hold secrets, and must not be the builder's own,
/// which has rights that the function has not.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    cell: Cell,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    /// The stack limit with which the program is started, where its layout is pinned.
    stack: Option<(u64, u64)>,
}

/// Builds the cell and starts the program in it. The calling thread must live as long as the cell: the kernel kills
/// both processes when it ends.
pub fn spawn(spawn: CellSpawn) -> io::Result<Inmates> {
    let stack = spawn.layout_secret.map(StackLimits::of_secret);
    let job = Job {
        cell: spawn.cell,
        program: spawn.program,
        args: spawn.args,
        env: spawn.env,
        cwd: spawn.cwd,
        stack: stack.map(|limits| (limits.at_start.rlim_cur, limits.at_start.rlim_max)),
    };
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(spawn.builder);
    command.arg0("dormouse").arg("inside").env_clear().stdin(Stdio::from(OwnedFd::from(theirs)));
    command.stdout(spawn.stdout).stderr(spawn.stderr);
    let mut builder = spawn::start_ours(command, spawn.entrances, spawn.limits)?;
    let report = tell(&ours, &job).and_then(|()| Report::read(&ours));
    dismiss(&mut builder, report.is_ok());
    let inmates = report?.inmates()?;
    if let Some(limits) = stack {
        let released = spawn::release_pinned(&inmates.program, limits.usual);
        released.inspect_err(|_| inmates.kill())?;
    }
    Ok(inmates)
}

/// Who a cell that is only tried is to the machine: nobody.
const TRIAL_ID: u32 = 0x6fff_ffff;

/// Whether cells can be built here: builds one, in which a shell ends at once. Milliseconds. No other look would tell:
/// containers and security modules refuse single steps of it, each in its own way. `scaffold` is any folder.
pub fn try_one(builder: PathBuf, scaffold: PathBuf, network: Network) -> io::Result<()> {
    let cell = Cell { id: TRIAL_ID, views: Vec::new(), tmp_bytes: 1 << 20, network, port: None, scaffold };
    let inmates = spawn(CellSpawn {
        builder,
        cell,
        program: "/bin/sh".into(),
        args: ["-c", ":"].map(OsString::from).into(),
        env: Vec::new(),
        cwd: None,
        stdout: Stdio::null(),
        stderr: Stdio::null(),
        entrances: Vec::new(),
        limits: Limits::default(),
        layout_secret: None,
    })?;
    inmates.kill();
    Ok(())
}

fn tell(mut builder: &UnixStream, job: &Job) -> io::Result<()> {
    builder.set_read_timeout(Some(BUILT_WITHIN))?;
    builder.set_write_timeout(Some(BUILT_WITHIN))?;
    builder.write_all(&serde_json::to_vec(job)?)?;
    builder.shutdown(Shutdown::Write)
}

fn dismiss(builder: &mut Child, has_reported: bool) {
    if !has_reported {
        let _ = builder.kill(); // It is dead already, or hangs.
    }
    let _ = builder.wait(); // Ours, so there is nothing that could fail.
}

impl Inmates {
    fn kill(&self) {
        // The keeper ends only when the program has been collected.
        self.program.kill_and_collect();
        self.keeper.kill_and_collect();
    }
}

/// An error, and at what.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
struct At {
    what: String,
    source: io::Error,
}

/// Says what was being done.
fn at(what: impl Into<String>) -> impl FnOnce(io::Error) -> io::Error {
    let what = what.into();
    move |source| io::Error::new(source.kind(), At { what, source })
}
