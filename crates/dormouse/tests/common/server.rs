//! `dormouse serve` on a ground, and what can be asked of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use protocol::{CheckRecord, SandboxId, SandboxRecord, State, StatsRecord};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::http::{self, Reply};
use super::program::{self, Ran, Running};
use super::{Ground, until};

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Arguments after the usual ones.
    pub(crate) args: Vec<&'static str>,
    /// Variables.
    pub(crate) env: Vec<(&'static str, String)>,
    /// Where it listens, if not at a port of the usual loopback address.
    pub(crate) listen: Option<&'static str>,
    /// By an ordinary user.
    pub(crate) by_nobody: bool,
}

impl Setup {
    /// For functions that the test talks to by files: in a cell they would not see them.
    pub(crate) fn outside_cells() -> Setup {
        Setup { args: vec!["--isolation", "none"], ..Setup::default() }
    }
}

/// A running server. Dropping it kills it as by `kill -9`; `stop` ends it well.
pub(crate) struct Server<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    setup: Setup,
}

impl<'a> Server<'a> {
    /// Starts one and waits until it serves.
    #[track_caller]
    pub(crate) fn start(ground: &'a Ground) -> Server<'a> {
        Server::start_with(ground, Setup::default())
    }

    /// The same, set up otherwise.
    #[track_caller]
    pub(crate) fn start_with(ground: &'a Ground, setup: Setup) -> Server<'a> {
        let mut command = if setup.by_nobody { ground.command_of_nobody() } else { ground.command() };
        let listen = setup.listen.unwrap_or("127.0.0.1:0");
        command.args(["serve", "--listen", listen, "--functions"]).arg(ground.functions());
        command.arg("--data").arg(ground.data()).args(&setup.args).envs(setup.env.clone());
        let running = Running::start(ground, "server.log", &mut command);
        let line = running.line();
        let (address, socket) = parse_ready(&line).unwrap_or_else(|| panic!("{line:?}"));
        Server { ground, running, address, socket, setup }
    }

    /// Invokes a function, whatever comes of it.
    pub(crate) fn try_invoke(&self, function: &str, event: &Value) -> std::io::Result<Reply> {
        self.post(function, &[], event.to_string().as_bytes())
    }

    /// Invokes a function.
    #[track_caller]
    pub(crate) fn invoke(&self, function: &str, event: &Value) -> Reply {
        self.try_invoke(function, event).unwrap()
    }

    /// Invokes a function with headers and a body of one's own.
    pub(crate) fn post(
        &self,
        function: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Reply> {
        post(self.address, function, headers, body)
    }

    /// Another request.
    pub(crate) fn request(&self, line: &str) -> std::io::Result<Reply> {
        http::request(self.address, line, &[], b"")
    }

    /// Bytes that may be no request at all.
    pub(crate) fn raw(&self, bytes: &[u8]) -> std::io::Result<Reply> {
        http::raw(self.address, bytes)
    }

    /// What the operator's socket says.
    #[track_caller]
    pub(crate) fn ask_operator(&self, path: &str) -> Reply {
        http::operate(&self.socket, &format!("GET {path}")).and_then(|reply| reply()).unwrap()
    }

    /// Asks for a sandbox to be put to sleep; whoever wants to know what came of it waits for the reply.
    pub(crate) fn begin_sleep(
        &self,
        sandbox: SandboxId,
    ) -> std::io::Result<impl FnOnce() -> std::io::Result<Reply> + use<>> {
        http::operate(&self.socket, &format!("POST /v1/sandboxes/{sandbox}/sleep"))
    }

    /// Runs a command of the program against it, as the same user.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        program::run(&mut self.command(args))
    }

    /// The same, not run yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let ground = self.ground;
        let mut command = if self.setup.by_nobody { ground.command_of_nobody() } else { ground.command() };
        command.arg("--data").arg(ground.data()).args(args);
        command
    }

    #[track_caller]
    fn read<T: DeserializeOwned>(&self, args: &[&str]) -> T {
        serde_json::from_value(self.run(args).json()).unwrap()
    }

    /// `dormouse ps`.
    #[track_caller]
    pub(crate) fn sandboxes(&self) -> Vec<SandboxRecord> {
        self.read(&["ps", "--json"])
    }

    /// The sandboxes of one function.
    #[track_caller]
    pub(crate) fn sandboxes_of(&self, function: &str) -> Vec<SandboxRecord> {
        self.sandboxes().into_iter().filter(|sandbox| sandbox.name == function).collect()
    }

    /// The only sandbox of a function.
    #[track_caller]
    pub(crate) fn sandbox_of(&self, function: &str) -> SandboxRecord {
        let mut found = self.sandboxes_of(function);
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// `dormouse stats`.
    #[track_caller]
    pub(crate) fn stats(&self) -> StatsRecord {
        self.read(&["stats", "--json"])
    }

    /// `dormouse sleep --all`, until all sleep: it passes over those that have answered and not settled yet.
    #[track_caller]
    pub(crate) fn sleep_all(&self) {
        until("all sleep", || {
            let ran = self.run(&["sleep", "--all"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            self.sandboxes().iter().all(|sandbox| sandbox.state == State::Dedup)
        });
    }

    /// `dormouse check` of one sandbox.
    #[track_caller]
    pub(crate) fn check(&self, sandbox: &SandboxRecord) -> CheckRecord {
        self.read(&["check", "--json", &sandbox.id.to_string()])
    }

    /// Waits until the sandboxes of a function are in these states.
    #[track_caller]
    pub(crate) fn until_states(&self, function: &str, states: &[State]) {
        until(&format!("{function} is {states:?}"), || {
            self.sandboxes_of(function).iter().map(|sandbox| sandbox.state).eq(states.iter().copied())
        });
    }

    /// The guard of this server.
    pub(crate) fn guard(&self) -> Option<i32> {
        let parent = format!("PPid:\t{}\n", self.running.pid());
        let is_own = |pid: i32| {
            std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| text.contains(&parent))
        };
        let processes = self.ground.processes().into_iter();
        processes
            .filter(|(_, line)| line.ends_with("dormouse guard"))
            .map(|(pid, _)| pid)
            .find(|pid| is_own(*pid))
    }

    /// Ends it as an operator would, and looks that nothing is left.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.running.signal(Signal::TERM);
        assert_eq!(self.running.exit(), 0, "{}", self.running.log());
        self.ground.await_empty();
    }
}

/// Invokes a function of the server at this address.
pub(crate) fn invoke_at(address: SocketAddr, function: &str, event: &Value) -> std::io::Result<Reply> {
    post(address, function, &[], event.to_string().as_bytes())
}

fn post(
    address: SocketAddr,
    function: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let line = format!("POST /2015-03-31/functions/{function}/invocations");
    http::request(address, &line, headers, body)
}

/// `dormouse serves hello on http://127.0.0.1:41234 (/…/dormouse.sock)`
fn parse_ready(line: &str) -> Option<(SocketAddr, PathBuf)> {
    let (_, rest) = line.strip_prefix("dormouse serves ")?.split_once(" on http://")?;
    let (address, socket) = rest.strip_suffix(')')?.split_once(" (")?;
    Some((address.parse().ok()?, socket.into()))
}
