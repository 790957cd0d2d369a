//! The server, its guard or both are killed from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use protocol::State;
use rustix::process::{WaitOptions, set_child_subreaper, wait};
use serde_json::json;

use super::common::{Ground, Server, until};
use super::{
    ALL, CODE, Way, expect_killed, expect_next_serves, expect_no_trace, expect_right_beats, ground,
    ground_with, kill,
};

/// Leaves its parent and its session at once, as daemons do.
const DAEMON: &str = "
import subprocess
subprocess.Popen(['setsid', 'sleep', '1000'], start_new_session=True)
";

#[test]
fn daemons_of_a_server_that_died_are_killed() {
    for way in ALL {
        for with_guard in [true, false] {
            println!("--- {way:?}, guard: {with_guard}");
            let ground = ground_with(&format!("{DAEMON}{CODE}"));
            let mut server = server_with(&ground, *way, Standing::Asleep);
            if !with_guard {
                kill(server.guard().unwrap());
            }
            kill(server.running.pid());
            server.running.exit();
            drop(server);
            if !with_guard {
                let next = Server::start_with(&ground, way.setup(None));
                until("the daemons are dead", || {
                    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {} // They are ours to collect.
                    ground.processes().iter().all(|(_, line)| !line.starts_with("sleep"))
                });
                set_child_subreaper(None).unwrap(); // The guard of a server that ends well is nobody's business.
                next.stop();
            }
            expect_killed();
            ground.await_empty();
            expect_right_beats(&ground);
        }
    }
}

/// Where `f` stands when the server is killed from outside.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Warm,
    Asleep,
    Woken,
}

const STANDINGS: [Standing; 3] = [Standing::Warm, Standing::Asleep, Standing::Woken];

/// A server whose `f` stands so.
#[track_caller]
fn server_with<'a>(ground: &'a Ground, way: Way, standing: Standing) -> Server<'a> {
    let server = Server::start_with(ground, way.setup(None));
    server.invoke("f", &json!({})).answer();
    if !matches!(standing, Standing::Warm) {
        server.sleep_all();
    }
    if matches!(standing, Standing::Woken) {
        let ran = server.run(&["wake", "--all"]); // Not by an invocation, which touches all memory.
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    server
}

#[test]
fn a_server_killed_from_outside_leaves_nothing() {
    for way in ALL {
        for standing in STANDINGS {
            println!("--- {standing:?}, {way:?}");
            let ground = ground();
            let mut server = server_with(&ground, *way, standing);
            kill(server.running.pid());
            server.running.exit();
            drop(server);
            expect_no_trace(&ground, *way);
        }
    }
}

#[test]
fn what_a_server_and_its_guard_leave_when_they_die_together_the_next_server_removes() {
    for way in ALL {
        for standing in STANDINGS {
            println!("--- {standing:?}, {way:?}");
            let ground = ground();
            let mut server = server_with(&ground, *way, standing);
            kill(server.guard().unwrap());
            kill(server.running.pid());
            server.running.exit();
            drop(server);
            expect_killed();
            expect_right_beats(&ground);
            expect_next_serves(&ground, *way);
        }
    }
}

#[test]
fn children_that_outlive_server_and_guard_are_removed_by_the_next_server() {
    for way in ALL {
        for standing in STANDINGS {
            println!("--- {standing:?}, {way:?}");
            let ground = Ground::new();
            ground.example("child");
            std::fs::rename(ground.functions().join("child"), ground.functions().join("f")).unwrap();
            let mut server = server_with(&ground, *way, standing);
            kill(server.guard().unwrap());
            kill(server.running.pid());
            server.running.exit();
            drop(server);
            let server = Server::start_with(&ground, way.setup(None));
            server.invoke("f", &json!({ "verify": true })).answer();
            server.stop();
        }
    }
}

#[test]
fn a_guard_that_was_killed_is_replaced_and_does_its_work() {
    for way in ALL {
        println!("--- {way:?}");
        let ground = ground();
        ground.function("g", "def lambda_handler(event, context): return 1", "");
        let mut server = server_with(&ground, *way, Standing::Asleep);
        let first = server.guard().unwrap();
        kill(first);
        until("the guard is dead", || server.guard().is_none());
        server.invoke("g", &json!({})).answer();
        until("there is another", || server.guard().is_some_and(|pid| pid != first));
        server.until_states("f", &[State::Dedup]);
        kill(server.running.pid());
        server.running.exit();
        drop(server);
        expect_no_trace(&ground, *way);
    }
}
