//! A running specimen and the line to it. Puts nothing to sleep: that is the sandbox's, or here SIGSTOP's.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use node::{LaunchError, LaunchSpec, Node, Sandbox};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::subject::Subject;
use crate::{census, line::Line};

/// How long any answer may take, and any change of state: a loaded machine imports scikit-learn in 15 s.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How often to look whether something has come to pass.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A specimen could not be started, or did not answer as agreed.
#[derive(Debug, thiserror::Error)]
pub enum SpecimenError {
    /// It cannot be started. Where the file is missing: `cargo build -p testkit --bin specimen`.
    #[error("start {name}: {source}")]
    Start {
        /// Which.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The node did not launch it.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// This machine does not have what the specimen is to hold.
    #[error("unavailable: {why}")]
    Unavailable {
        /// In the specimen's words.
        why: String,
    },
    /// It could not carry out the command.
    #[error("{command}: {why}")]
    Refused {
        /// What it was asked.
        command: String,
        /// In the specimen's words.
        why: String,
    },
    /// It did not answer in time.
    #[error("no answer to {command:?} within {within:?}")]
    Silent {
        /// What it was asked.
        command: String,
        /// How long we waited.
        within: Duration,
    },
    /// It died, or closed its line.
    #[error("gone when asked {command:?}")]
    Gone {
        /// What it was asked.
        command: String,
    },
    /// The line broke in another way.
    #[error("talk to the specimen")]
    Line(#[from] io::Error),
}

/// What the specimen runs in.
enum Host {
    /// A process group of its own, no sandbox: to see that the specimen is right before the sleep is blamed.
    Alone(Child),
    /// A sandbox of a node.
    Sandbox(Sandbox),
}

/// A running specimen. Dropping it kills it.
pub struct Specimen {
    line: Line,
    host: Host,
    ready: String,
    asked: String,
    _folder: TempDir,
}

impl Specimen {
    /// Starts it as a plain process and waits until it is ready.
    pub fn alone(subject: &Subject) -> Result<Specimen, SpecimenError> {
        let (folder, listener) = listen()?;
        let mut command = Command::new(&subject.program);
        command.args(subject.args(&folder.path().join("line"))).env_clear().envs(subject.env.clone());
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let start = |source| SpecimenError::Start { name: format!("{:?}", subject.program), source };
        let mut host = Host::Alone(command.spawn().map_err(start)?);
        let line = greet(&listener, &mut host)?;
        Self::ready(line, host, folder)
    }

    /// Launches it as a sandbox of `node` and waits until it is ready. The sandbox's own state is left to the test.
    pub fn launch(node: &Node, subject: &Subject) -> Result<Specimen, SpecimenError> {
        Self::launch_with(node, subject, |_| {})
    }

    /// The same, after `change` has had its way with the specification.
    pub fn launch_with(
        node: &Node,
        subject: &Subject,
        change: impl FnOnce(&mut LaunchSpec),
    ) -> Result<Specimen, SpecimenError> {
        let (folder, listener) = listen()?;
        let mut spec = subject.launch_spec(&folder.path().join("line"));
        change(&mut spec);
        let mut host = Host::Sandbox(node.launch(spec)?);
        let line = greet(&listener, &mut host)?;
        Self::ready(line, host, folder)
    }

    fn ready(line: Line, host: Host, folder: TempDir) -> Result<Specimen, SpecimenError> {
        let mut specimen =
            Specimen { line, host, ready: String::new(), asked: "start".to_owned(), _folder: folder };
        let greeting = specimen.answer()?;
        if let Some(why) = greeting.strip_prefix("unavailable: ") {
            return Err(SpecimenError::Unavailable { why: why.to_owned() });
        }
        specimen.ready = greeting.trim_start_matches("ready").trim().to_owned();
        Ok(specimen)
    }

    /// What it said when it was ready.
    pub fn greeting(&self) -> &str {
        &self.ready
    }

    /// Its first process.
    pub fn pid(&self) -> i32 {
        match &self.host {
            Host::Alone(child) => child.id() as i32,
            Host::Sandbox(sandbox) => sandbox.pid(),
        }
    }

    /// Its sandbox, if it runs in one.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        match &self.host {
            Host::Alone(_) => None,
            Host::Sandbox(sandbox) => Some(sandbox),
        }
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&mut self, command: &str) -> Result<String, SpecimenError> {
        self.say(command)?;
        self.answer()
    }

    /// Sends a command; the answer is for later, when the specimen has been woken.
    pub fn say(&mut self, command: &str) -> Result<(), SpecimenError> {
        command.clone_into(&mut self.asked);
        match self.line.say(command) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(self.gone()),
            outcome => Ok(outcome?),
        }
    }

    /// Waits for the answer to the last command.
    pub fn answer(&mut self) -> Result<String, SpecimenError> {
        self.answer_within(ANSWER_WITHIN)
    }

    /// The same, with another deadline: a short one shows that a sleeping specimen does not answer.
    pub fn answer_within(&mut self, within: Duration) -> Result<String, SpecimenError> {
        let command = self.asked.clone();
        match self.line.hear(within) {
            Ok(line) => match line.strip_prefix("error ") {
                Some(why) => Err(SpecimenError::Refused { command, why: why.to_owned() }),
                None => Ok(line),
            },
            Err(error) => Err(match error.kind() {
                ErrorKind::TimedOut => SpecimenError::Silent { command, within },
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => self.gone(),
                _ => error.into(),
            }),
        }
    }

    /// Stops all processes of a specimen that runs alone, and returns when they are stopped.
    pub fn stop(&self) -> Result<(), SpecimenError> {
        self.signal(Signal::STOP)?;
        let group = self.pid();
        until(|| census::group_states(group).iter().all(|state| *state == 'T'))
    }

    /// Lets them go on.
    pub fn go_on(&self) -> Result<(), SpecimenError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), SpecimenError> {
        let Host::Alone(child) = &self.host else {
            return Err(io::Error::other("a sandbox is not stopped by signals").into());
        };
        kill_process_group(Pid::from_child(child), signal).map_err(io::Error::from)?;
        Ok(())
    }

    fn gone(&self) -> SpecimenError {
        SpecimenError::Gone { command: self.asked.clone() }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        match self {
            Host::Alone(child) => {
                // A group that is gone is what we want; there is nobody to tell of anything else.
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
                let _ = child.wait();
            }
            Host::Sandbox(sandbox) => sandbox.purge(),
        }
    }
}

fn listen() -> io::Result<(TempDir, UnixListener)> {
    let folder = tempfile::Builder::new().prefix("specimen-").tempdir()?;
    let listener = UnixListener::bind(folder.path().join("line"))?;
    Ok((folder, listener))
}

/// Waits until the specimen connects, or is seen to be dead.
fn greet(listener: &UnixListener, host: &mut Host) -> Result<Line, SpecimenError> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let command = "start".to_owned();
    loop {
        if let Some(line) = Line::accept(listener, Duration::from_millis(100))? {
            return Ok(line);
        }
        let dead = match host {
            Host::Alone(child) => child.try_wait()?.is_some(),
            Host::Sandbox(sandbox) => sandbox.state() == protocol::State::Gone,
        };
        if dead {
            return Err(SpecimenError::Gone { command });
        }
        if Instant::now() > deadline {
            return Err(SpecimenError::Silent { command, within: ANSWER_WITHIN });
        }
    }
}

/// Waits until `done` says so.
pub fn until(mut done: impl FnMut() -> bool) -> Result<(), SpecimenError> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    while !done() {
        if Instant::now() > deadline {
            return Err(SpecimenError::Silent { command: "wait".to_owned(), within: ANSWER_WITHIN });
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
