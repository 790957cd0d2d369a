//! Invocations that come at bad moments get their right answers, and no more sandboxes are started than may be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{Ground, Server, Setup, until};
use protocol::State;
use serde_json::{Value, json};

/// Says who it is; waits where it is told to, for a file in its folder. A process number would not tell: in each cell it is
/// the same.
const CODE: &str = "\
import os, time
WHO = os.urandom(8).hex()
def lambda_handler(event, context):
    while 'wait_for' in event and not os.path.exists(event['wait_for']):
        time.sleep(0.005)
    return {'who': WHO, 'n': event.get('n')}
";

/// Longer than any test.
const PATIENT: &str = "timeout_s = 300\nkeep_warm_s = 3600\nkeep_dedup_s = 3600\n";

#[test]
fn an_idle_function_falls_asleep_by_itself_and_is_purged_by_itself() {
    let ground = Ground::new();
    ground.function("f", CODE, "keep_warm_s = 1\nkeep_dedup_s = 3600");
    ground.function("g", CODE, "keep_warm_s = 0.2\nkeep_dedup_s = 1");
    let server = Server::start(&ground);
    let first = server.invoke("f", &json!({})).answer();
    server.invoke("g", &json!({})).answer();
    server.until_states("f", &[State::Dedup]);
    server.until_states("g", &[]);
    assert_eq!(server.invoke("f", &json!({})).answer(), first, "the same process");
    assert_eq!(server.stats().node.pages_damaged, 0);
    server.stop();
}

#[test]
fn the_server_says_how_long_where_the_function_does_not() {
    let ground = Ground::new();
    ground.function("f", CODE, "");
    let args = vec!["--keep-warm", "0", "--keep-dedup", "0", "--concurrency", "1"];
    let server = Server::start_with(&ground, Setup { args, ..Setup::default() });
    server.invoke("f", &json!({})).answer();
    server.until_states("f", &[]);
    server.stop();
}

/// Invokes `f` for each of `numbers`, and looks at each answer.
fn ask(server: &Server<'_>, function: &str, numbers: impl Iterator<Item = u32>) {
    for n in numbers {
        let answer = server.invoke(function, &json!({ "n": n })).answer();
        assert_eq!(answer["n"], json!(n), "{function}");
    }
}

/// Sets a flag when it goes, also in a thread that fails: the others stop then.
struct EndsWith<'a>(&'a AtomicBool);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_invocation_that_comes_while_all_fall_asleep_is_answered() {
    let ground = Ground::new();
    for (name, concurrency) in [("f", 2), ("g", 1), ("h", 1)] {
        ground.function(name, CODE, &format!("{PATIENT}concurrency = {concurrency}"));
    }
    let server = Server::start(&ground);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = EndsWith(&done);
        for name in ["f", "g", "h", "f"] {
            let (server, done) = (&server, &done);
            scope.spawn(move || {
                let _ends = EndsWith(done);
                ask(server, name, (0..).take_while(|_| !done.load(Ordering::Relaxed)));
            });
        }
        until("invocations have met many sleeps", || {
            server.run(&["sleep", "--all"]); // Some are busy: that may fail.
            let node = server.stats().node;
            done.load(Ordering::Relaxed) || node.wakes + node.sleeps_interrupted > 50
        });
        drop(ends);
    });
    let node = server.stats().node;
    assert!(node.deaths == 0 && node.pages_damaged == 0, "{node:#?}");
    server.stop();
}

#[test]
fn a_function_that_falls_asleep_at_once_is_woken_by_every_invocation() {
    let ground = Ground::new();
    ground.function("f", CODE, "keep_warm_s = 0\nkeep_dedup_s = 3600\nconcurrency = 1");
    let server = Server::start(&ground);
    ask(&server, "f", 0..400);
    let node = server.stats().node;
    assert!(node.sleeps + node.sleeps_interrupted > 0 && node.deaths == 0, "{node:#?}");
    server.stop();
}

#[test]
fn sleep_wake_check_and_invocations_from_all_sides_leave_the_answers_right() {
    let ground = Ground::new();
    ground.function("f", CODE, &format!("{PATIENT}concurrency = 2"));
    let server = Server::start_with(&ground, Setup { args: vec!["--lazy-above", "0"], ..Setup::default() });
    std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(|| ask(&server, "f", 0..60))));
        for verb in ["sleep", "wake", "check"] {
            let server = &server;
            scope.spawn(move || (0..20).for_each(|_| drop(server.run(&[verb, "--all", "--json"]))));
        }
    });
    let node = server.stats().node;
    assert!(node.deaths == 0 && node.pages_damaged == 0, "{node:#?}");
    for sandbox in server.sandboxes() {
        assert!(server.check(&sandbox).is_same());
    }
    server.stop();
}

#[test]
fn invocations_at_once_get_sandboxes_up_to_the_limit_then_wait_then_are_refused() {
    let ground = Ground::new();
    ground.function("f", CODE, &format!("{PATIENT}concurrency = 2"));
    let server = Server::start_with(&ground, Setup { args: vec!["--queue", "1"], ..Setup::default() });
    let door = ground.functions().join("f/door");
    let event = |n: u32| json!({ "n": n, "wait_for": "door" });
    let busy = || server.sandboxes_of("f").iter().filter(|sandbox| sandbox.state == State::Busy).count();
    let queued = || server.stats().functions[0].queued;
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let call = |n: u32| {
            let (server, event) = (&server, event(n));
            scope.spawn(move || server.invoke("f", &event).answer())
        };
        let mut held = vec![call(0), call(1)];
        until("two are served", || busy() == 2);
        held.push(call(2));
        until("one waits", || queued() == 1);
        let refused = server.invoke("f", &json!({ "n": 9 }));
        std::fs::write(&door, "").unwrap();
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(refused.header("x-amzn-errortype"), Some("TooManyRequestsException"));
        held.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let mut sandboxes: Vec<_> = answers.iter().map(|answer| answer["who"].as_str().unwrap()).collect();
    sandboxes.sort_unstable();
    sandboxes.dedup();
    assert_eq!(sandboxes.len(), 2, "two sandboxes for three invocations: {answers:?}");
    server.stop();
}

#[test]
fn a_client_that_hangs_up_costs_nobody_else_an_answer() {
    use std::io::Write as _;
    let ground = Ground::new();
    ground.function("f", CODE, &format!("{PATIENT}concurrency = 1"));
    let server = Server::start(&ground);
    let door = ground.functions().join("f/door");
    let body = json!({ "wait_for": "door" }).to_string();
    let head = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: x\r\ncontent-length";
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    write!(stream, "{head}: {}\r\n\r\n{body}", body.len()).unwrap();
    server.until_states("f", &[State::Busy]);
    drop(stream);
    std::fs::write(&door, "").unwrap();
    ask(&server, "f", 0..5);
    assert_eq!(server.sandboxes_of("f").len(), 1);
    server.stop();
}

#[test]
fn running_invocations_may_end_when_the_server_is_asked_to() {
    let ground = Ground::new();
    ground.function("f", CODE, PATIENT);
    let mut server = Server::start(&ground);
    let door = ground.functions().join("f/door");
    std::thread::scope(|scope| {
        let (address, event) = (server.address, json!({ "n": 7, "wait_for": "door" }));
        let call = scope.spawn(move || common::invoke_at(address, "f", &event).unwrap().answer());
        server.until_states("f", &[State::Busy]);
        server.running.signal(rustix::process::Signal::TERM);
        until("the door is closed", || std::net::TcpStream::connect(address).is_err());
        std::fs::write(&door, "").unwrap();
        assert_eq!(call.join().unwrap()["n"], json!(7));
    });
    assert_eq!(server.running.exit(), 0);
    ground.await_empty();
}

#[test]
fn ctrl_c_ends_the_server_in_every_state_of_its_sandboxes() {
    let ground = Ground::new();
    ["warm", "asleep", "lazy"].iter().for_each(|name| ground.function(name, CODE, PATIENT));
    let mut server =
        Server::start_with(&ground, Setup { args: vec!["--lazy-above", "0"], ..Setup::default() });
    ["asleep", "lazy"].iter().for_each(|name| drop(server.invoke(name, &json!({})).answer()));
    server.sleep_all();
    server.invoke("warm", &json!({})).answer();
    server.invoke("lazy", &json!({})).answer();
    server.running.signal(rustix::process::Signal::INT);
    assert_eq!(server.running.exit(), 0, "{}", server.running.log());
    ground.await_empty();
    assert!(!server.socket.exists(), "the socket goes with the server");
    // A second signal while it ends, and one to a server that has nothing.
    let mut server = Server::start(&ground);
    server.running.signal(rustix::process::Signal::INT);
    server.running.signal(rustix::process::Signal::TERM);
    assert_eq!(server.running.exit(), 0, "{}", server.running.log());
    ground.await_empty();
}
