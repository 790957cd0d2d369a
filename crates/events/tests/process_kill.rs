//! A process that is killed at any point of its writes: what it was told is on the disk is there, and an event and
//! what came of it are never there both, nor neither.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use events::{Bounds, Event, NewEvent, Queue, Taken, Target, Timestamp};
use protocol::InvocationId;

/// In the environment of the process that is to be killed: where its queue is.
const CHILD_PATH: &str = "DORMOUSE_TEST_EVENTS";

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn event(payload: &str) -> NewEvent {
    NewEvent {
        target: Target::Function { name: "f".parse().unwrap(), qualifier: None },
        invocation: InvocationId(payload.to_owned()),
        payload: payload.to_owned().into(),
        trace_id: String::new(),
        hops: 0,
    }
}

fn take(queue: &Queue) -> Option<Event> {
    match queue.take(NOW, &|_| usize::MAX).unwrap() {
        Taken::Event(event) => Some(event),
        _ => None,
    }
}

fn text(event: &Event) -> String {
    String::from_utf8(event.payload.to_vec()).unwrap()
}

/// Accepts events, and turns each into a successor with a `+`, until it is killed. Says what it was told.
async fn live(path: &Path) {
    let queue = Queue::open(path, Bounds::default(), NOW).unwrap();
    for round in 0..20 {
        let accepts: Vec<_> = (0..3)
            .map(|n| {
                let (queue, payload) = (queue.clone(), format!("{round}-{n}"));
                tokio::spawn(async move {
                    queue.accept(event(&payload), NOW).await.unwrap();
                    println!("accepted {payload}");
                })
            })
            .collect();
        for accept in accepts {
            accept.await.unwrap();
        }
        let (first, second) = (take(&queue).unwrap(), take(&queue).unwrap());
        queue.finish(first.id, vec![event(&format!("{}+", text(&first)))], NOW).await.unwrap();
        println!("finished {}", text(&first));
        queue.fail(second.id, NOW).await.unwrap();
        println!("failed {}", text(&second));
    }
}

/// Not a test of its own: what `check` starts, with a point to die at.
#[tokio::test]
async fn child() {
    if let Some(path) = std::env::var_os(CHILD_PATH) {
        live(&PathBuf::from(path)).await;
    }
}

/// What a child was told before it died: for each event it accepted, how often it was finished; and what failed.
fn told(output: &str) -> (BTreeMap<String, usize>, BTreeMap<String, u32>) {
    let (mut finished, mut failures) = (BTreeMap::new(), BTreeMap::new());
    for line in output.lines() {
        match line.split_once(' ') {
            Some(("accepted", payload)) => drop(finished.insert(payload.to_owned(), 0)),
            Some(("finished", payload)) => {
                let root = payload.trim_end_matches('+').to_owned();
                finished.insert(root, payload.matches('+').count() + 1);
            }
            Some(("failed", payload)) => *failures.entry(payload.to_owned()).or_default() += 1,
            _ => {}
        }
    }
    (finished, failures)
}

#[track_caller]
fn check(point: &str, times: usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.redb");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture"]).env(CHILD_PATH, &path);
    child.env("DORMOUSE_DIE_AT", format!("{point}:{times}")).stderr(Stdio::null());
    let output = child.output().unwrap();
    assert!(!output.status.success(), "{point}:{times} was not reached");
    let (finished, failures) = told(&String::from_utf8(output.stdout).unwrap());

    let queue = Queue::open(&path, Bounds::default(), NOW).unwrap();
    let left: Vec<Event> = std::iter::from_fn(|| take(&queue)).collect();
    let payloads: BTreeSet<_> = left.iter().map(text).collect();
    assert_eq!(payloads.len(), left.len(), "{point}:{times}: twice the same: {payloads:?}");
    for (root, finished) in &finished {
        let of_root: Vec<_> =
            payloads.iter().filter(|payload| payload.trim_end_matches('+') == root).collect();
        let [only] = of_root[..] else { panic!("{point}:{times}: {root}: {of_root:?} of {payloads:?}") };
        let finished_since = only.matches('+').count() - finished;
        assert!(finished_since <= 1, "{point}:{times}: {root} was finished {finished} times, and is {only}");
    }
    for event in &left {
        let failures = failures.get(&text(event)).copied().unwrap_or_default();
        assert!((failures..=failures + 1).contains(&event.failures), "{point}:{times}: {event:?}");
    }
    assert!(payloads.len() <= finished.len() + 3, "more than one round was under way: {payloads:?}");
}

#[test]
fn a_kill_before_the_commit_loses_nothing_that_was_told() {
    (1..=9).for_each(|times| check("events-written", times));
}

#[test]
fn a_kill_after_the_commit_loses_nothing_and_repeats_nothing() {
    (1..=9).for_each(|times| check("events-committed", times));
}
