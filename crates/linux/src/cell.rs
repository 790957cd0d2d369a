//! A cell: the namespaces in which one sandbox lives, and what it sees of the machine.
//!
//! A cell is built by a helper, a fresh process with one thread that is nobody else's: it leaves our namespaces, and starts
//! two processes beside itself, children of the thread that asked for the cell. The **keeper** is the first process of
//! the cell's pid namespace: it builds the view, then collects orphans, and takes all with it when it dies. The other
//! becomes the program. So the program is traced, collected, and killed with its driver like one without a cell.

mod beside;
mod inside;
mod keeper;
mod rights;
mod view;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
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

/// The user and group as which every sandbox sees itself.
pub const INSIDE_ID: u32 = 1000;

/// A cell takes milliseconds; one whose files lie on a dead network would take for ever.
const BUILT_WITHIN: Duration = Duration::from_secs(20);

/// Longest report of a helper: two numbers, and what is wrong.
const REPORT_BYTES_MAX: u64 = 64 << 10;

/// What one sandbox sees of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Who it is to the machine: user and group. Without privilege it is who we are.
    pub id: u32,
    /// Files and folders beside the usual ones of the system, which it sees and cannot change.
    pub views: Vec<View>,
    /// Size of its `/tmp`.
    pub tmp_bytes: u64,
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
    /// Called as `HELPER inside`; it must call `run_inside`.
    pub helper: PathBuf,
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
}

/// What the helper is to do. It goes over a socket: the environment may hold secrets, and must not be the helper's own,
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
    let mut command = Command::new(spawn.helper);
    command.arg0("dormouse").arg("inside").env_clear().stdin(Stdio::from(OwnedFd::from(theirs)));
    command.stdout(spawn.stdout).stderr(spawn.stderr);
    let mut helper = spawn::start_ours(command, spawn.entrances, spawn.limits)?;
    let report = tell(&ours, &job).and_then(|()| Report::read(&ours));
    dismiss(&mut helper, report.is_ok());
    let inmates = report?.inmates()?;
    if let Some(limits) = stack {
        let released = spawn::release_pinned(&inmates.program, limits.usual);
        released.inspect_err(|_| inmates.kill())?;
    }
    Ok(inmates)
}

fn tell(mut helper: &UnixStream, job: &Job) -> io::Result<()> {
    helper.set_read_timeout(Some(BUILT_WITHIN))?;
    helper.set_write_timeout(Some(BUILT_WITHIN))?;
    helper.write_all(&serde_json::to_vec(job)?)?;
    helper.shutdown(Shutdown::Write)
}

fn dismiss(helper: &mut Child, has_reported: bool) {
    if !has_reported {
        let _ = helper.kill(); // It is dead already, or hangs.
    }
    let _ = helper.wait(); // Ours, so there is nothing that could fail.
}

/// What the helper and its two processes say: lines.
#[derive(Debug, Default)]
struct Report {
    keeper: Option<i32>,
    program: Option<i32>,
    error: Option<io::Error>,
}

impl Report {
    /// Until all of them have closed their end: the program's is closed when it has been started.
    fn read(helper: &UnixStream) -> io::Result<Report> {
        let mut text = String::new();
        let read = helper.take(REPORT_BYTES_MAX).read_to_string(&mut text);
        let mut report = Report::parse(&text);
        if let Err(error) = read {
            report.error.get_or_insert(error); // Then whoever lives of them is killed.
        }
        Ok(report)
    }

    fn parse(text: &str) -> Report {
        let mut report = Report::default();
        for (word, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            match word {
                "keeper" => report.keeper = rest.parse().ok(),
                "program" => report.program = rest.parse().ok(),
                "error" if report.error.is_none() => {
                    let (code, what) = rest.split_once(' ').unwrap_or(("0", rest));
                    let kind = io::Error::from_raw_os_error(code.parse().unwrap_or(0)).kind();
                    report.error = Some(io::Error::new(kind, what.to_owned()));
                }
                _ => {} // What comes after the first error follows from it.
            }
        }
        report
    }

    /// Both, or the reason why not; then none is left.
    fn inmates(self) -> io::Result<Inmates> {
        // They are our children, and not collected: their numbers mean them.
        let open = |pid: Option<i32>| pid.and_then(|pid| Process::open(pid).ok());
        match (open(self.program), open(self.keeper), self.error) {
            (Some(program), Some(keeper), None) => Ok(Inmates { program, keeper }),
            (program, keeper, error) => {
                program.into_iter().chain(keeper).for_each(|process| _ = process.kill_and_collect());
                Err(error.unwrap_or_else(|| io::Error::other("the helper that builds cells died")))
            }
        }
    }
}

impl Inmates {
    fn kill(&self) {
        // The keeper ends only when the program has been collected.
        self.program.kill_and_collect();
        self.keeper.kill_and_collect();
    }
}

/// What is said to the node, in `run_inside`.
fn say(mut to: impl Write, word: &str, rest: impl std::fmt::Display) -> io::Result<()> {
    to.write_all(format!("{word} {rest}\n").as_bytes())
}

fn say_error(to: impl Write, error: &io::Error) -> io::Result<()> {
    let source = error.get_ref().and_then(|inner| inner.downcast_ref::<At>());
    let code = source.map_or(error.raw_os_error(), |at| at.source.raw_os_error()).unwrap_or(0);
    say(to, "error", format_args!("{code} {}", error.to_string().replace('\n', " ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_understood_and_the_first_error_counts() {
        let report = Report::parse("keeper 12\nprogram 13\n");
        assert_eq!((report.keeper, report.program, report.error.is_none()), (Some(12), Some(13), true));
        let mut said = Vec::new();
        let error = at("bind /nowhere")(io::Error::from_raw_os_error(libc::ENOENT));
        say_error(&mut said, &error).unwrap();
        say_error(&mut said, &io::Error::other("second")).unwrap();
        let error = Report::parse(&String::from_utf8(said).unwrap()).error.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("bind /nowhere: "), "{error}");
        assert!(Report::parse("nonsense\n\nerror\nerror x").error.is_some());
    }
}
