//! Any program as a sandbox: it answers after a sleep as before it, and ends as it would without us.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use common::{Ground, Running, run, until};
use protocol::{CheckRecord, SandboxRecord, State};
use rustix::process::Signal;
use testkit::{require, require_node, workspace_root};

/// Starts `dormouse run` with these arguments.
fn start(ground: &Ground, args: &[&str]) -> Running {
    let mut command = ground.command();
    command.arg("--data").arg(ground.data()).arg("run").args(args);
    Running::start(ground, "run.log", &mut command)
}

/// The one sandbox, once there is one.
#[track_caller]
fn sandbox(ground: &Ground) -> Option<SandboxRecord> {
    let ran = ground.run(&["ps", "--json"]);
    if ran.code != Some(0) {
        return None; // The socket is not there yet.
    }
    serde_json::from_value::<Vec<SandboxRecord>>(ran.json()).unwrap().pop()
}

/// A running server answers `ask` alike, whatever is done to it from another terminal. Asleep it keeps less than this
/// part of its memory.
#[track_caller]
fn check(ground: &Ground, mut running: Running, part: f64, ask: impl Fn() -> Vec<String>) {
    let before = ask();
    let warm = sandbox(ground).unwrap();
    assert_eq!(warm.state, State::Warm);
    let id = warm.id.to_string();
    for round in 0..3 {
        assert_eq!(ground.run(&["sleep", &id]).code, Some(0), "round {round}");
        let asleep = sandbox(ground).unwrap();
        assert_eq!((asleep.state, asleep.pid), (State::Dedup, warm.pid), "round {round}");
        let account = asleep.account;
        let bound = account.warm_bytes as f64 * part;
        assert!((account.resident_bytes as f64) < bound, "round {round}: {account:#?}");
        assert_eq!(ground.run(&["wake", &id]).code, Some(0), "round {round}");
        assert_eq!(ask(), before, "round {round}");
        let found = ground.run(&["check", "--json", &id]).json();
        let found: CheckRecord = serde_json::from_value(found).unwrap();
        assert!(found.is_same() && found.pages_before > 0, "round {round}: {found:#?}");
        assert_eq!(ask(), before, "round {round}, after the check");
    }
    running.signal(Signal::INT);
    assert_eq!(running.exit(), 128 + 9, "{}", running.log());
    ground.await_empty();
}

/// Sends bytes and returns what comes back until `end` has come.
fn talk(address: SocketAddr, bytes: &[u8], end: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(common::WITHIN))?;
    stream.write_all(bytes)?;
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&heard).ends_with(end) {
        match stream.read(&mut buffer)? {
            0 => break,
            len => heard.extend_from_slice(&buffer[..len]),
        }
    }
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn redis_keeps_its_keys() {
    let redis = std::process::Command::new("redis-server").arg("--version").output();
    if !require(redis.is_ok_and(|output| output.status.success()), "redis-server", "install redis-server") {
        return;
    }
    let ground = Ground::alone();
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let arguments = ["--", "redis-server", "--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"];
    let running = start(&ground, &arguments);
    until("it listens", || talk(address, b"PING\r\n", "+PONG\r\n").is_ok_and(|said| said == "+PONG\r\n"));
    let keys: String = (0..5000).map(|n| format!("SET key{n} {}\r\n", "value".repeat(n % 50 + 1))).collect();
    let set = format!("{keys}DBSIZE\r\n");
    assert!(talk(address, set.as_bytes(), ":5000\r\n").unwrap().ends_with(":5000\r\n"));
    check(&ground, running, 0.25, || {
        let ask =
            |command: &str| talk(address, format!("{command}\r\nPING\r\n").as_bytes(), "+PONG\r\n").unwrap();
        let digest = ask("DEBUG DIGEST"); // Of all keys and values; refused where it is forbidden.
        vec![ask("DBSIZE"), ask("GET key49"), ask("GET key4999"), ask("GET nothing"), digest]
    });
}

#[test]
fn node_keeps_its_objects() {
    if !require_node() {
        return;
    }
    let ground = Ground::alone();
    let script = workspace_root().join("examples/node/server.js");
    let mut command = ground.command();
    command.arg("--data").arg(ground.data()).args(["run", "--name", "web", "--", "node"]).arg(script);
    let running = Running::start(&ground, "run.log", command.env("PORT", "0"));
    let line = running.line();
    let port: u16 = line.strip_prefix("ready ").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    assert_eq!(sandbox(&ground).unwrap().name, "web");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    check(&ground, running, 0.4, || {
        let ask = |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let said = talk(address, request.as_bytes(), "never").unwrap();
            said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{said}")).1.to_owned()
        };
        vec![ask("/verify"), ask("/?n=1"), ask("/?n=2")]
    });
}

/// A program, and the exit code that comes of it.
#[track_caller]
fn check_exit(args: &[&str], code: i32) {
    let ground = Ground::alone();
    let ran = run(ground.command().arg("--data").arg(ground.data()).arg("run").args(args));
    assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
}

#[test]
fn the_exit_code_is_the_programs() {
    // Some end before we have seen that they started.
    (0..20).for_each(|_| check_exit(&["--", "true"], 0));
    check_exit(&["--", "sh", "-c", "exit 7"], 7);
    check_exit(&["--", "sh", "-c", "kill -TERM $$"], 128 + 15);
    check_exit(&["--", "sh", "-c", "kill -KILL $$"], 128 + 9);
    check_exit(&["--layout", "pinned", "--", "sh", "-c", "exit 3"], 3);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let ground = Ground::alone();
    let ran = ground.run(&["run", "--", "/nowhere/program"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("/nowhere/program"), "{ran:?}");
}

#[test]
fn output_and_arguments_pass_through() {
    let ground = Ground::alone();
    let ran =
        ground.run(&["run", "--", "sh", "-c", "echo \"$1\"; echo \"$2\" >&2", "sh", "--one", "two words"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.code), ("--one\n", "two words\n", Some(0)));
}

#[test]
fn ctrl_c_ends_a_program_in_every_state() {
    for verbs in [&[][..], &["sleep"], &["sleep", "wake"]] {
        let ground = Ground::alone();
        let mut running = start(&ground, &["--", "sh", "-c", "echo ready; while :; do sleep 0.1; done"]);
        assert_eq!(running.line(), "ready");
        until("it is warm", || sandbox(&ground).is_some_and(|sandbox| sandbox.state == State::Warm));
        for verb in verbs {
            let ran = ground.run(&[verb, "--all"]);
            assert_eq!(ran.code, Some(0), "{verb}: {ran:?}");
        }
        running.signal(Signal::INT);
        assert_eq!(running.exit(), 128 + 9, "{verbs:?}: {}", running.log());
        ground.await_empty();
    }
}

#[test]
fn children_that_outlive_the_program_end_with_it() {
    let script =
        "sleep 1000 & setsid sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & sleep 0.2; exit 4";
    for by_nobody in [false, true] {
        let ground = Ground::alone();
        let mut command = if by_nobody { ground.command_of_nobody() } else { ground.command() };
        let ran = run(command.arg("--data").arg(ground.data()).args(["run", "--", "sh", "-c", script]));
        assert_eq!(ran.code, Some(4), "{ran:?}");
        ground.await_empty();
    }
}
