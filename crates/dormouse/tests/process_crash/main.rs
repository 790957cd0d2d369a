//! A server that dies at any moment costs its sandboxes their lives, and lets none of them run on wrong bytes. See
//! `docs/crash-safety.md`.
//!
//! A process that runs on zeros mostly crashes before it can say so. So orphans of a dead server become the test's
//! own (each test is a process, see `.config/nextest.toml`), and it is seen that all were killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

#[path = "../common/mod.rs"]
mod common;
mod outside;
mod points;

use std::time::Duration;

use common::{Ground, Server, Setup, until};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use serde_json::json;

/// Looks at its state all the time, from a thread of its own, and writes down what it finds. Some megabytes, so
/// that a look takes longer than a thaw. It answers when it has looked: who has an answer has a beat.
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
HAS_LOOKED = threading.Event()
def beat():
    while True:
        os.write(BEATS, b'ok\\n' if is_right() else b'WRONG\\n')
        HAS_LOOKED.set()
threading.Thread(target=beat, daemon=True).start()
def lambda_handler(event, context):
    HAS_LOOKED.wait()
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
        Setup { args, env, by_nobody: matches!(self, Way::Nobody), ..Setup::default() }
    }
}

/// All of them.
const ALL: &[Way] = &[Way::Whole, Way::Lazy, Way::Nobody];

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

fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}
