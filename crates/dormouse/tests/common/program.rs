//! The program as a process: started here, by this user or another, and never outliving its test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Ground, WITHIN, comes_true};

/// An ordinary user, whom every system has.
pub(crate) const NOBODY: u32 = 65_534;

/// What a command did.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output as JSON; fails where the command failed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Ground {
    /// The program, standing here, with the Python of the tests.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
        self.settle(&mut command);
        command
    }

    /// The program as an ordinary user has it: a copy that he may execute, and a Python that he may.
    pub(crate) fn command_of_nobody(&self) -> Command {
        let copy = self.path().join("dormouse");
        if !copy.exists() {
            fs::copy(env!("CARGO_BIN_EXE_dormouse"), &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
            self.give_to(NOBODY);
        }
        let mut command = Command::new(copy);
        self.settle(&mut command);
        command.env("DORMOUSE_PYTHON", python_of_nobody()).uid(NOBODY).gid(NOBODY);
        command
    }

    fn settle(&self, command: &mut Command) {
        command.current_dir(self.path()).stdin(Stdio::null());
        command.env("TMPDIR", self.temporary()).env("DORMOUSE_PYTHON", testkit::python());
        command.env_remove("XDG_RUNTIME_DIR").env_remove("RUST_LOG").env_remove("DORMOUSE_DIE_AT");
    }

    /// Runs the program with these arguments and the data directory of this ground.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.command().arg("--data").arg(self.data()).args(args))
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A process that runs. Dropping it kills it, and shows what it wrote if the test has failed.
pub(crate) struct Running {
    child: Child,
    /// In a lock, so that several threads may ask one server.
    lines: Mutex<Receiver<String>>,
    log: PathBuf,
}

impl Running {
    /// Starts it. Its standard error goes to a file of this name in the ground.
    pub(crate) fn start(ground: &Ground, log: &str, command: &mut Command) -> Running {
        let log = ground.path().join(log);
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            // Ends with the last who holds the other end.
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Running { child, lines: Mutex::new(lines), log }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The next line of its standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.lines
            .lock()
            .unwrap()
            .recv_timeout(WITHIN)
            .unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }

    /// All that is left of its standard output, once it is dead.
    pub(crate) fn rest(&self) -> String {
        self.lines.lock().unwrap().iter().map(|line| line + "\n").collect()
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end: the exit code, or the signal as a negative number.
    #[track_caller]
    pub(crate) fn exit(&mut self) -> i32 {
        assert!(comes_true(WITHIN, || self.ended().is_some()), "it does not end: {}", self.log());
        let status = self.ended().unwrap();
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may be dead; what it started dies with it.
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}---", self.log.display(), self.log());
        }
    }
}

/// A Python that an ordinary user may execute: the tests' own may stand in somebody's home.
pub(crate) fn python_of_nobody() -> PathBuf {
    let own = testkit::python();
    let known = [own.as_path(), Path::new("/usr/bin/python3"), Path::new("/usr/local/bin/python3")];
    let works = |program: &Path| {
        let mut command = Command::new(program);
        command.args([OsStr::new("-c"), OsStr::new("pass")]).current_dir("/").uid(NOBODY).gid(NOBODY);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found = known.into_iter().find(|program| works(program));
    assert!(testkit::require(found.is_some(), "a Python for everybody", "install /usr/bin/python3"));
    found.unwrap().to_owned()
}
