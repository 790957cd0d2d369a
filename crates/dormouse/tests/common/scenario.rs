//! Scenarios: scripts in the language of a client, each run in one process against a server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use testkit::require_python;

use super::{Ground, Server, Setup, run};

/// Two at once, whoever else waits.
const FOLDER: &str = "concurrency = 2\n";

/// A scenario, to be run against a server: a script of `tests/control`.
pub(crate) fn scenario(ground: &Ground, name: &str, address: SocketAddr) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control").join(format!("{name}.py"));
    let mut command = Command::new(testkit::python());
    command.arg("-B").arg(script).arg(format!("http://{address}"));
    command.current_dir(ground.path()).env("HOME", ground.path());
    command
}

/// Runs a scenario against a server, and looks that the server has nothing to complain of.
#[track_caller]
pub(crate) fn play(name: &str, more: &[&str]) {
    play_with(Setup::default(), name, |_, command| _ = command.args(more));
}

/// The same with a server and whatever else it needs.
#[track_caller]
pub(crate) fn play_with(setup: Setup, name: &str, prepare: impl FnOnce(&Server<'_>, &mut Command)) {
    if !require_python(&["boto3", "awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    ground.function("folder", "def lambda_handler(event, context): return event", FOLDER);
    let server = Server::start_with(&ground, setup);
    let mut command = scenario(&ground, name, server.address);
    prepare(&server, &mut command);
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let log = server.running.log();
    assert!(!log.contains("ERROR"), "{log}");
    server.stop();
}
