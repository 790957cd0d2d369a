//! Functions that fail: the client hears it in Lambda's words, and the next invocation gets a sandbox that works.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Ground, Reply, Server, Setup, until};
use serde_json::{Value, json};

/// Fails as its event says.
const CODE: &str = "\
import os, sys, time
WHO = os.urandom(8).hex()
def lambda_handler(event, context):
    how = event.get('how')
    if how == 'raise': raise KeyError('no such row')
    if how == 'exit': sys.exit(event['code'])
    if how == '_exit': os._exit(event['code'])
    if how == 'signal': os.kill(os.getpid(), event['number'])
    if how == 'hang': time.sleep(1000)
    if how == 'eat':
        eaten = []
        while True: eaten.append(bytearray(os.urandom(1 << 20)))
    if how == 'close': os.closerange(3, 1000)
    if how == 'long': return 'x' * (7 << 20)
    if how == 'odd': return {1, 2}
    return {'who': WHO}
";

const SETTINGS: &str = "timeout_s = 30\nmemory_mb = 128\nconcurrency = 1\nkeep_warm_s = 3600\n";

/// The sandbox that fails is the one that slept before, or one that has never slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Warm,
    Asleep,
}

/// What becomes of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Kept,
    Replaced,
    /// One runtime client goes on and another gives up.
    Either,
}

/// An event that fails, and what the client hears: the error's type, and a part of its message.
#[track_caller]
fn check(settings: &str, event: Value, kind: &str, message: &str, after: After) {
    let ground = Ground::new();
    ground.function("f", CODE, settings);
    let server = Server::start(&ground);
    let who = || server.invoke("f", &json!({})).answer()["who"].clone();
    for before in [Before::Warm, Before::Asleep] {
        let first = who();
        if before == Before::Asleep {
            server.sleep_all();
        }
        expect(&server.invoke("f", &event), kind, message);
        let second = who();
        let is_right = match after {
            After::Kept => first == second,
            After::Replaced => first != second,
            After::Either => true,
        };
        assert!(is_right, "{before:?}, {after:?}: {first} {second}");
    }
    server.stop();
}

#[track_caller]
fn expect(reply: &Reply, kind: &str, message: &str) {
    assert_eq!((reply.status, reply.header("x-amz-function-error")), (200, Some("Unhandled")), "{reply:?}");
    let body = reply.json();
    assert_eq!(body["errorType"], json!(kind), "{body}");
    assert!(body["errorMessage"].as_str().unwrap().contains(message), "{body}");
}

#[test]
fn an_error_of_the_function_is_its_answer() {
    check(SETTINGS, json!({ "how": "raise" }), "KeyError", "no such row", After::Kept);
}

#[test]
fn an_answer_that_is_no_json_is_an_error() {
    check(
        SETTINGS,
        json!({ "how": "odd" }),
        "Runtime.MarshalError",
        "Unable to marshal response",
        After::Kept,
    );
}

#[test]
fn an_answer_that_is_too_long_is_an_error() {
    let kind = "Function.ResponseSizeTooLarge";
    check(SETTINGS, json!({ "how": "long" }), kind, "exceeded maximum allowed payload size", After::Either);
}

#[test]
fn an_exit_costs_the_sandbox() {
    let event = json!({ "how": "_exit", "code": 3 });
    check(SETTINGS, event, "Runtime.ExitError", "exit status 3", After::Replaced);
}

#[test]
fn an_exit_without_a_code_costs_the_sandbox() {
    let event = json!({ "how": "_exit", "code": 0 });
    check(SETTINGS, event, "Runtime.ExitError", "Runtime exited without providing a reason", After::Replaced);
}

#[test]
fn python_leaving_by_itself_costs_the_sandbox() {
    let event = json!({ "how": "exit", "code": 1 });
    check(SETTINGS, event, "Runtime.ExitError", "exit status 1", After::Replaced);
}

#[test]
fn a_signal_costs_the_sandbox() {
    let event = |number: i32| json!({ "how": "signal", "number": number });
    check(SETTINGS, event(9), "Runtime.ExitError", "signal: killed", After::Replaced);
    check(SETTINGS, event(11), "Runtime.ExitError", "signal: segmentation fault", After::Replaced);
}

#[test]
fn a_function_that_takes_too_long_is_killed() {
    let settings = SETTINGS.replace("timeout_s = 30", "timeout_s = 1");
    let what = "Task timed out after 1.00 seconds";
    check(&settings, json!({ "how": "hang" }), "Sandbox.Timedout", what, After::Replaced);
}

#[test]
fn a_function_that_takes_too_much_memory_is_killed() {
    check(SETTINGS, json!({ "how": "eat" }), "Runtime.ExitError", "signal: killed", After::Replaced);
}

/// A function that does not come up, and what the client hears.
#[track_caller]
fn check_init(code: &str, settings: &str, kind: &str, message: &str) {
    let ground = Ground::new();
    ground.function("f", code, settings);
    let server = Server::start(&ground);
    for _ in 0..2 {
        expect(&server.invoke("f", &json!({})), kind, message);
    }
    until("all that failed is gone", || server.sandboxes().is_empty());
    server.stop();
}

#[test]
fn a_module_that_is_missing_is_an_error_of_the_start() {
    check_init("import nowhere_to_be_found", SETTINGS, "Runtime.ImportModuleError", "nowhere_to_be_found");
}

#[test]
fn bad_syntax_is_an_error_of_the_start() {
    check_init("def lambda_handler(:", SETTINGS, "Runtime.UserCodeSyntaxError", "Syntax error");
}

#[test]
fn a_handler_that_is_missing_is_an_error_of_the_start() {
    check_init("other = 1", SETTINGS, "Runtime.HandlerNotFound", "lambda_handler");
}

#[test]
fn an_exit_while_starting_is_told() {
    let code = "import os; os._exit(5)";
    check_init(code, SETTINGS, "Runtime.ExitError", "exit status 5");
}

#[test]
fn a_program_that_cannot_be_started_is_the_servers_fault_and_names_it() {
    let ground = Ground::new();
    ground.function("f", CODE, &format!("{SETTINGS}python = \"/nowhere/python3\""));
    let server = Server::start(&ground);
    let reply = server.invoke("f", &json!({}));
    assert_eq!((reply.status, reply.header("x-amzn-errortype")), (500, Some("ServiceException")));
    assert!(reply.json()["Message"].as_str().unwrap().contains("/nowhere/python3"), "{reply:?}");
    server.stop();
}

#[test]
fn a_start_that_takes_too_long_is_told() {
    let ground = Ground::new();
    ground.function("f", "import time; time.sleep(1000)", "timeout_s = 3\n");
    let server = Server::start_with(&ground, Setup::default());
    expect(&server.invoke("f", &json!({})), "Sandbox.Timedout", "Task timed out after 10.00 seconds");
    until("it is gone", || server.sandboxes().is_empty());
    server.stop();
}

#[test]
fn what_others_asked_meanwhile_is_answered_by_the_next_sandbox() {
    let ground = Ground::new();
    ground.function("f", CODE, SETTINGS);
    let server = Server::start(&ground);
    std::thread::scope(|scope| {
        let crash = json!({ "how": "_exit", "code": 1 });
        let calls: Vec<_> = (0..6)
            .map(|n| {
                let event = if n % 3 == 0 { crash.clone() } else { json!({}) };
                let server = &server;
                scope.spawn(move || (n, server.invoke("f", &event)))
            })
            .collect();
        for call in calls {
            let (n, reply) = call.join().unwrap();
            match n % 3 {
                0 => expect(&reply, "Runtime.ExitError", "exit status 1"),
                _ => drop(reply.answer()),
            }
        }
    });
    server.stop();
}
