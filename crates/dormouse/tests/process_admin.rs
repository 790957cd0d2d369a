//! The operator's commands and socket, and what is refused: strangers, second servers, bad configuration, garbage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use common::{Ground, NOBODY, Ran, Reply, Server, Setup, until};
use protocol::{CheckRecord, SandboxRecord, State, StatsRecord};
use rustix::process::Signal;
use serde_json::{Value, json};

const CODE: &str = "def lambda_handler(event, context): return event";

const SETTINGS: &str = "concurrency = 1\nkeep_warm_s = 3600\n";

fn ground() -> Ground {
    let ground = Ground::new();
    ground.function("f", CODE, SETTINGS);
    ground
}

/// A command that fails: its exit code, and each of `words` is in what it says to standard error.
#[track_caller]
fn check(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(words.iter().all(|word| ran.stderr.contains(word)), "{words:?}: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}

#[test]
fn the_socket_is_the_owners_alone() {
    let ground = ground();
    let server = Server::start(&ground);
    assert_eq!(fs::metadata(&server.socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut command = ground.command_of_nobody(); // The data directory is his now; the socket is not.
    let ran = common::run(command.arg("--data").arg(ground.data()).arg("ps"));
    check(&ran, 1, &["belongs to another user"]);
    server.stop();
}

#[test]
fn a_stale_socket_is_replaced() {
    let ground = ground();
    drop(UnixListener::bind(ground.data().join("dormouse.sock")).unwrap()); // The file stays.
    check(&ground.run(&["ps"]), 1, &["no dormouse answers", "dormouse serve"]);
    let server = Server::start(&ground);
    assert_eq!(server.sandboxes(), []);
    server.stop();
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_serves_on() {
    let ground = ground();
    let server = Server::start(&ground);
    server.invoke("f", &json!(1)).answer();
    let functions = ground.functions();
    let ran = ground.run(&["serve", "--listen", "127.0.0.1:0", "--functions", functions.to_str().unwrap()]);
    check(&ran, 1, &["is in use by another dormouse", "--data"]);
    let ran = ground.run(&["run", "--", "true"]);
    check(&ran, 1, &["is in use by another dormouse"]);
    assert_eq!(server.invoke("f", &json!(2)).answer(), json!(2));
    server.stop();
}

#[test]
fn an_address_in_use_is_named_and_nothing_is_left() {
    let (ground, other) = (ground(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let (address, functions) = (other.local_addr().unwrap().to_string(), ground.functions());
    let ran = ground.run(&["serve", "--listen", &address, "--functions", functions.to_str().unwrap()]);
    check(&ran, 1, &[&address, "in use"]);
}

#[test]
fn without_a_server_every_command_says_so() {
    let ground = ground();
    for args in [&["ps"][..], &["stats"], &["sleep", "--all"], &["wake", "1"], &["check", "--all"]] {
        check(&ground.run(args), 1, &["no dormouse answers", "dormouse serve"]);
    }
}

#[test]
fn misuse_is_told_with_code_two() {
    let ground = ground();
    for args in [
        &["sleep"][..],
        &["sleep", "one"],
        &["fly"],
        &["serve", "--listen", "here"],
        &["run"],
        &["ps", "--all"],
    ] {
        check(&ground.run(args), 2, &["error: ", "--help"]);
    }
    let ran = ground.run(&["--log", "node=loud", "ps"]);
    check(&ran, 1, &["--log"]);
    let lines: Vec<_> = ran.stderr.lines().map(|line| line.trim_start_matches("error: ")).collect();
    let told = lines.iter().filter(|line| line.contains(lines[0])).count();
    assert_eq!(told, 1, "a cause that says the same is not told again: {ran:?}");
}

#[test]
fn a_sandbox_that_is_not_there_is_named() {
    let ground = ground();
    let server = Server::start(&ground);
    for verb in ["sleep", "wake", "check"] {
        check(&server.run(&[verb, "77"]), 1, &["there is no sandbox 77"]);
        assert_eq!(server.run(&[verb, "--all"]).code, Some(0), "none is no failure");
    }
    server.stop();
}

/// As in `dormouse ps | head -1`, with a reader that leaves at once.
#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let ground = ground();
    let server = Server::start(&ground);
    server.invoke("f", &json!(1)).answer();
    for args in [&["ps"][..], &["ps", "--json"], &["stats"], &["doctor"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = server.command(args);
        let child = command.stdout(Stdio::from(writer)).stderr(Stdio::piped()).spawn().unwrap();
        drop(command); // It holds the writing end.
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        assert!(output.status.code().is_some(), "{args:?}: {output:?}");
    }
    server.stop();
}

#[track_caller]
fn parse<T: serde::de::DeserializeOwned>(server: &Server<'_>, args: &[&str]) -> T {
    serde_json::from_value(server.run(args).json()).unwrap()
}

#[test]
fn every_record_is_json() {
    let ground = ground();
    let server = Server::start(&ground);
    server.invoke("f", &json!(1)).answer();
    server.until_states("f", &[State::Warm]);
    let sleep: SandboxRecord = parse(&server, &["sleep", "1", "--json"]);
    assert_eq!((sleep.state, sleep.last_sleep.is_some()), (State::Dedup, true));
    let asleep: Vec<SandboxRecord> = parse(&server, &["ps", "--json"]);
    assert_eq!(asleep[0].state, State::Dedup);
    let wake: SandboxRecord = parse(&server, &["wake", "1", "--json"]);
    assert_eq!((wake.state, wake.last_wake.is_some()), (State::Warm, true));
    let found: CheckRecord = parse(&server, &["check", "1", "--json"]);
    assert!(found.is_same());
    let stats: StatsRecord = parse(&server, &["stats", "--json"]);
    assert_eq!((stats.node.sandboxes, stats.functions.len()), (1, 1));
    let findings: Vec<Value> = parse(&server, &["doctor", "--json"]);
    let whole = |finding: &Value| {
        finding["what"].is_string() && finding["found"].is_string() && finding["verdict"] != Value::Null
    };
    assert!(findings.len() > 5 && findings.iter().all(whole), "{findings:#?}");
    server.stop();
}

#[test]
fn a_command_for_one_that_is_there_already_is_done() {
    let ground = ground();
    let server = Server::start(&ground);
    server.invoke("f", &json!(1)).answer();
    for (verb, state) in [("wake", State::Warm), ("sleep", State::Dedup), ("sleep", State::Dedup)] {
        let ran = server.run(&[verb, "1"]);
        assert_eq!((ran.code, server.sandbox_of("f").state), (Some(0), state), "{verb}: {ran:?}");
    }
    // One that sleeps is checked as well: it is woken for it.
    assert_eq!(server.run(&["check", "1"]).code, Some(0));
    server.stop();
}

/// A catalogue that is refused, and what the refusal names.
#[track_caller]
fn check_catalogue(name: &str, code: &str, settings: &str, words: &[&str]) {
    let ground = Ground::new();
    ground.function(name, code, settings);
    let functions = ground.functions();
    let ran = ground.run(&["serve", "--listen", "127.0.0.1:0", "--functions", functions.to_str().unwrap()]);
    check(&ran, 1, words);
}

#[test]
fn a_broken_function_is_refused_by_name() {
    check_catalogue("f", CODE, "memory_mb = ", &["function.toml", "f/"]);
    check_catalogue("f", CODE, "memory_md = 3", &["function.toml", "memory_md"]);
    check_catalogue("f", CODE, "memory_mb = \"much\"", &["function.toml", "memory_mb"]);
    check_catalogue("f", CODE, "memory_mb = 0", &["function.toml", "memory_mb", "must be between"]);
    check_catalogue("f", CODE, "timeout_s = nan", &["function.toml", "timeout_s"]);
    check_catalogue("f", CODE, "keep_warm_s = inf", &["function.toml", "keep_warm_s"]);
    check_catalogue("f", CODE, "handler = \"other.main\"", &["other"]);
    check_catalogue("f", CODE, "runtime = \"provided\"", &["bootstrap"]);
    check_catalogue("f", CODE, "[environment]\n_HANDLER = \"x\"", &["_HANDLER", "reserved"]);
    check_catalogue("a b", CODE, "", &["a b"]);
}

#[test]
fn a_folder_of_functions_that_is_not_there_is_named() {
    let ground = Ground::new();
    let ran = ground.run(&["serve", "--listen", "127.0.0.1:0", "--functions", "/nowhere/functions"]);
    check(&ran, 1, &["/nowhere/functions"]);
}

#[track_caller]
fn expect_error(reply: std::io::Result<Reply>, status: u16, kind: Option<&str>) {
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.header("x-amzn-errortype")), (status, kind), "{reply:?}");
}

#[test]
fn what_is_no_invocation_is_refused_and_costs_nothing() {
    let ground = ground();
    let server = Server::start(&ground);
    let (not_found, unknown) = (Some("ResourceNotFoundException"), Some("UnknownOperationException"));
    expect_error(server.request("GET /"), 404, unknown);
    expect_error(server.request("GET /2015-03-31/functions/f/invocations"), 404, unknown);
    expect_error(server.request("POST /2015-03-31/functions/g/invocations"), 404, not_found);
    let bad_name = Some("InvalidParameterValueException");
    for name in ["a%20b", "..%2Ff", "a:b:c:d:e", "%00", "%ff"] {
        let reply = server.request(&format!("POST /2015-03-31/functions/{name}/invocations")).unwrap();
        assert_eq!(reply.status, 400, "{name}: {reply:?}");
        assert!(reply.header("x-amzn-errortype").is_none_or(|kind| Some(kind) == bad_name), "{reply:?}");
    }
    expect_error(server.post("f", &[], b"{"), 400, Some("InvalidRequestContentException"));
    expect_error(server.post("f", &[("x-amz-invocation-type", "Odd")], b"{}"), 400, bad_name);
    let long = format!("\"{}\"", "x".repeat(6 << 20));
    expect_error(server.post("f", &[], long.as_bytes()), 413, Some("RequestTooLargeException"));
    assert_eq!(server.sandboxes(), [], "nothing was started for it");
    let longest = json!("x".repeat((6 << 20) - 2));
    assert_eq!(server.invoke("f", &longest).answer(), longest);
    server.stop();
}

#[test]
fn garbage_is_answered_or_cut_off_and_the_server_serves_on() {
    let ground = ground();
    let server = Server::start(&ground);
    let head = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let endless = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100_000));
    let garbage: [&[u8]; 6] = [
        b"\0\xff\xfe garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[head.as_bytes(), b"content-length: -1\r\n\r\n"].concat(),
        &[head.as_bytes(), b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}"].concat(),
        &[head.as_bytes(), b"transfer-encoding: chunked\r\n\r\nZZ\r\n"].concat(),
        endless.as_bytes(),
    ];
    for bytes in garbage {
        if let Ok(reply) = server.raw(bytes) {
            assert!((400..500).contains(&reply.status), "{reply:?}");
        }
    }
    assert_eq!(server.invoke("f", &json!(1)).answer(), json!(1));
    server.stop();
}

#[test]
fn every_signal_that_asks_to_end_ends_the_server_well() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let ground = ground();
        let mut server = Server::start(&ground);
        server.invoke("f", &json!(1)).answer();
        server.running.signal(signal);
        assert_eq!(server.running.exit(), 0, "{signal:?}: {}", server.running.log());
        ground.await_empty();
        assert!(!server.socket.exists());
        let names = fs::read_dir(ground.data()).unwrap().map(|entry| entry.unwrap().file_name());
        let run = ground.data().join("run");
        assert!(
            !run.exists() || fs::read_dir(run).unwrap().next().is_none(),
            "{:?}",
            names.collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_server_of_an_ordinary_user_works_and_says_what_root_would_add() {
    let ground = ground();
    let server = Server::start_with(&ground, Setup { by_nobody: true, ..Setup::default() });
    let first = server.invoke("f", &json!({ "a": 1 })).answer();
    server.sleep_all();
    assert_eq!(server.invoke("f", &json!({ "a": 1 })).answer(), first);
    let sandbox = server.sandbox_of("f");
    assert_eq!((sandbox.sleeps, sandbox.wakes), (1, 1));
    assert!(server.check(&sandbox).is_same());
    let uid = format!("Uid:\t{NOBODY}\t{NOBODY}\t");
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid)).unwrap();
    assert!(status.contains(&uid), "{status}");
    let node = server.stats().node;
    assert_eq!((node.stop_by.as_str(), node.fill_by.as_str()), ("ptrace", "writing"));
    until("it says so", || server.running.log().contains("as root, "));
    server.stop();
}

#[test]
fn help_and_version_are_told() {
    let ground = Ground::new();
    for args in
        [&["--help"][..], &["--version"], &["serve", "--help"], &["run", "--help"], &["demo", "--help"]]
    {
        let ran = ground.run(args);
        assert!(ran.code == Some(0) && !ran.stdout.is_empty(), "{args:?}: {ran:?}");
    }
}
