//! A server that dies at any moment costs its sandboxes their lives, and lets none of them run on wrong bytes. See
//! `docs/crash-safety.md`.
//!
//! A process that runs on zeros mostly crashes before it can say so. So orphans of a dead server become the test's
//! own (each test is a process, see `.config/nextest.toml`), and it is seen that all were killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::time::Duration;

use common::{Ground, Server, Setup, comes_true, until};
use protocol::State;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use serde_json::json;

/// Looks at its state all the time, from a thread of its own, and writes down what it finds. Some megabytes, so
/// that a look takes longer than a thaw.
const CODE: &str = "\
import os, random, threading, zlib
draw = random.Random(7)
STATE = [draw.randbytes(4000) for _ in range(2000)]
SUMS = [zlib.crc32(part) for part in STATE]
OBJECTS = {f'key-{i}': [i, str(i)] for i in range(5000)}
BEATS = os.open(os.environ['BEATS'], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def is_right():
    return all(zlib.crc32(part) == fits for part, fits in zip(STATE, SUMS)) and all(
        OBJECTS[f'key-{i}'] == [i, str(i)] for i in range(0, 5000, 50))
def beat():
    while True: os.write(BEATS, b'ok\\n' if is_right() else b'WRONG\\n')
threading.Thread(target=beat, daemon=True).start()
def lambda_handler(event, context):
    return {'right': is_right(), 'pid': os.getpid()}
";

/// Enough for a look at all of its state, on a busy machine too.
const A_WHILE: Duration = Duration::from_secs(1);

/// More journeys than any fail point needs.
const JOURNEYS_MAX: usize = 20;

/// How sandboxes are held and filled.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// All memory is back before the thaw.
    Whole,
    /// The sandbox runs before its memory is back.
    Lazy,
    /// By ptrace and writing: all that an ordinary user has.
    Nobody,
}

impl Way {
    fn setup(self, die_at: Option<&str>) -> Setup {
        let args = match self {
            Way::Whole | Way::Nobody => vec!["--isolation", "none", "--lazy-above", "4096"],
            Way::Lazy => vec!["--isolation", "none", "--lazy-above", "0"],
        };
        let env = die_at.map(|point| ("DORMOUSE_DIE_AT", point.to_owned())).into_iter().collect();
        Setup { args, env, by_nobody: matches!(self, Way::Nobody) }
    }
}

/// A ground with the function `f`, which writes its beats into the data directory: it cannot be in a cell.
fn ground() -> Ground {
    ground_with(CODE)
}

fn ground_with(code: &str) -> Ground {
    set_child_subreaper(Some(getpid())).unwrap();
    let ground = Ground::new();
    let beats = ground.data().join("beats");
    let settings =
        format!("keep_warm_s = 3600\ntimeout_s = 60\nconcurrency = 1\n[environment]\nBEATS = {beats:?}\n");
    ground.function("f", code, &settings);
    ground
}

/// Drives `f` through sleep and wake until the server is dead.
#[track_caller]
fn drive_to_death(server: &mut Server<'_>) {
    for _ in 0..JOURNEYS_MAX {
        // Whatever comes back: the server may die in the middle of it.
        let _ = server.try_invoke("f", &json!({}));
        server.run(&["sleep", "--all"]);
        if server.running.ended().is_some() {
            return;
        }
    }
    panic!("the server lives");
}

/// Waits until all that the dead server started is dead. Everything was killed, nothing died of what it read; the
/// guard ends by itself.
#[track_caller]
fn expect_killed() {
    until("all orphans are dead", || {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let is_killed = status.terminating_signal() == Some(Signal::KILL.as_raw());
                    assert!(is_killed || status.exit_status() == Some(0), "{pid:?}: {status:?}");
                }
                Ok(None) => return false,
                Err(error) => return error == Errno::CHILD,
            }
        }
    });
    set_child_subreaper(None).unwrap(); // The guard of a server that ends well is nobody's business.
}

/// The server is dead: soon nothing of it is left, no wrong byte was seen, and the next server starts and serves.
#[track_caller]
fn expect_no_trace(ground: &Ground, way: Way) {
    expect_killed();
    ground.await_empty();
    expect_right_beats(ground);
    expect_next_serves(ground, way);
}

#[track_caller]
fn expect_right_beats(ground: &Ground) {
    let beats = std::fs::read_to_string(ground.data().join("beats")).unwrap();
    assert!(beats.starts_with("ok\n"), "it has never looked");
    assert!(beats.lines().all(|beat| beat == "ok"), "{beats}");
}

#[track_caller]
fn expect_next_serves(ground: &Ground, way: Way) {
    let server = Server::start_with(ground, way.setup(None));
    let node = server.stats().node;
    let is_nobody = matches!(way, Way::Nobody);
    assert_eq!((node.stop_by == "ptrace", node.fill_by == "writing"), (is_nobody, is_nobody), "{node:#?}");
    let first = server.invoke("f", &json!({})).answer();
    assert_eq!(first["right"], json!(true));
    server.sleep_all();
    assert_eq!(server.invoke("f", &json!({})).answer(), first);
    server.stop();
    expect_right_beats(ground);
}

/// The server dies at this point.
#[track_caller]
fn check(point: &str, ways: &[Way]) {
    for way in ways {
        println!("--- {point}, {way:?}");
        let ground = ground();
        let mut server = Server::start_with(&ground, way.setup(Some(point)));
        drive_to_death(&mut server);
        assert_eq!(server.running.exit(), -(Signal::KILL.as_raw()), "{}", server.running.log());
        drop(server);
        expect_no_trace(&ground, *way);
    }
}

const ALL: &[Way] = &[Way::Whole, Way::Lazy, Way::Nobody];

/// What only userfaultfd brings.
const BY_USERFAULTFD: &[Way] = &[Way::Whole, Way::Lazy];

#[test]
fn dying_when_all_is_stopped_is_safe() {
    check("frozen", ALL);
}

#[test]
fn dying_when_all_is_stored_is_safe() {
    check("stored", ALL);
}

#[test]
fn dying_when_file_copies_became_anonymous_is_safe() {
    check("converted", BY_USERFAULTFD);
}

#[test]
fn dying_when_memory_is_watched_is_safe() {
    check("registered", BY_USERFAULTFD);
}

#[test]
fn dying_when_some_memory_has_left_is_safe() {
    check("emptied-some", ALL);
}

#[test]
fn dying_between_emptying_and_poison_is_safe() {
    check("dontneed", ALL);
}

#[test]
fn dying_when_one_process_is_empty_is_safe() {
    check("emptied-one", ALL);
}

#[test]
fn dying_between_ptrace_and_the_freezer_is_safe() {
    check("emptied", ALL);
}

#[test]
fn dying_when_the_sandbox_has_just_fallen_asleep_is_safe() {
    check("asleep", ALL);
}

#[test]
fn dying_before_the_first_page_is_filled_is_safe() {
    check("waking", ALL);
}

#[test]
fn dying_while_pages_are_filled_is_safe() {
    check("filling", ALL);
    check("filling:5", &[Way::Whole, Way::Nobody]);
}

#[test]
fn dying_when_all_is_filled_is_safe() {
    check("filled", ALL);
}

#[test]
fn dying_before_the_thaw_is_safe() {
    check("unwatched", ALL);
}

#[test]
fn dying_after_the_thaw_is_safe() {
    check("thawed", ALL);
}

#[test]
fn dying_while_memory_comes_back_to_a_running_sandbox_is_safe() {
    check("lazy-filling", &[Way::Lazy]);
    check("lazy-filling:5", &[Way::Lazy]);
}

#[test]
fn dying_when_the_last_page_has_come_back_is_safe() {
    check("lazy-finished", &[Way::Lazy]);
}

#[test]
fn dying_when_processes_can_be_emptied_is_safe() {
    check("planted", ALL);
}

/// Forks a child at each request, which looks at its state as the parent does.
const FORKS: &str = "
parent = lambda_handler
def lambda_handler(event, context):
    child = os.fork()
    if child == 0:
        for _ in range(5): os.write(BEATS, b'ok\\n' if is_right() else b'WRONG\\n')
        os._exit(0)
    os.waitpid(child, 0)
    return parent(event, context)
";

#[test]
fn dying_when_a_child_was_forked_while_memory_comes_back_is_safe() {
    for point in ["forked", "forked:3"] {
        let ground = ground_with(&format!("{CODE}{FORKS}"));
        let mut server = Server::start_with(&ground, Way::Lazy.setup(Some(point)));
        let guard = server.guard().unwrap();
        signal(guard, Signal::STOP); // It holds what it was given, and comes late to its work.
        drive_to_death(&mut server);
        assert_eq!(server.running.exit(), -(Signal::KILL.as_raw()), "{}", server.running.log());
        drop(server);
        let looked = || std::fs::metadata(ground.data().join("beats")).unwrap().len();
        let before = looked();
        // At the first wake nothing is known of the working set, and the child waits for most of its state.
        let has_looked = point == "forked" && comes_true(A_WHILE, || looked() > before);
        assert!(!has_looked, "the child looked at memory that was not back");
        signal(guard, Signal::CONT);
        expect_no_trace(&ground, Way::Lazy);
    }
}

#[test]
fn a_driver_that_panics_costs_its_sandbox_and_nothing_else() {
    for way in ALL {
        for point in ["stored", "emptied-one", "asleep", "filled"] {
            println!("--- {point}, {way:?}");
            let ground = ground();
            set_child_subreaper(None).unwrap(); // The guard of a server that ends well is nobody's business.
            let mut setup = way.setup(None);
            setup.env.push(("DORMOUSE_PANIC_AT", point.to_owned()));
            let server = Server::start_with(&ground, setup);
            let first = server.invoke("f", &json!({})).answer();
            until("the panic has killed it", || {
                server.run(&["sleep", "--all"]); // Passes over a sandbox that is not yet through with its answer.
                server.run(&["wake", "--all"]);
                server.stats().node.deaths == 1
            });
            let second = server.invoke("f", &json!({})).answer();
            assert_eq!(second["right"], json!(true));
            assert_ne!(second["pid"], first["pid"]);
            assert_eq!(server.stats().node.sandboxes, 1);
            server.stop();
            ground.await_empty();
            expect_right_beats(&ground);
        }
    }
}

#[test]
fn dying_at_a_later_journey_is_safe() {
    check("asleep:3", ALL);
    check("thawed:3", ALL);
}

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

fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
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
