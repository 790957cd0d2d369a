//! Stories: one line an event and the actions it brings.

#![allow(dead_code)] // Each test file needs some of it.

use std::time::Duration;

use brain::{Action, Beyond, Brain, Event, FunctionPlan, Policy, StartId};
use protocol::{FunctionName, InvocationId, RevisionId, SandboxId};

pub(crate) fn name() -> FunctionName {
    "f".parse().unwrap()
}

/// Two sandboxes, warm for 10 s, asleep for 100 s, one place in the queue, 30 s of waiting.
pub(crate) fn plan() -> FunctionPlan {
    FunctionPlan {
        concurrency: 2,
        keep_warm: Duration::from_secs(10),
        keep_dedup: Duration::from_secs(100),
        queue_len: 1,
        queue_wait: Duration::from_secs(30),
        beyond: Beyond::Wait,
    }
}

pub(crate) fn one_sandbox() -> FunctionPlan {
    FunctionPlan { concurrency: 1, ..plan() }
}

/// Reads `ready 1` and the like; a start and its sandbox bear the same number. `invoke a` is for revision 1,
/// `invoke a 2` for revision 2; `retire 1 2` has 2 succeed 1, `provision 1 2` wants two
/// sandboxes of 1.
pub(crate) fn event(text: &str) -> Event {
    let (verb, object) = text.split_once(' ').unwrap_or((text, ""));
    let (object, second) = object.split_once(' ').unwrap_or((object, ""));
    let number = || object.parse::<u64>().unwrap();
    let other = || second.parse::<u64>().ok().map(RevisionId);
    let sandbox = || SandboxId(number());
    match verb {
        "invoke" => {
            let revision = other().unwrap_or(RevisionId(1));
            Event::Invoke { invocation: InvocationId(object.to_owned()), revision }
        }
        "retire" => Event::Retire { revision: RevisionId(number()), successor: other() },
        "provision" => {
            let wanted = second.parse().unwrap();
            Event::Provision { revision: RevisionId(number()), wanted }
        }
        "prepare" => Event::Prepare { revision: RevisionId(number()) },
        "snapshot" => Event::Snapshot { sandbox: sandbox() },
        "started" => Event::Started { start: StartId(number()), sandbox: sandbox() },
        "start-failed" => Event::StartFailed { start: StartId(number()) },
        "ready" => Event::Ready { sandbox: sandbox() },
        "init-failed" => Event::InitFailed { sandbox: sandbox() },
        "answered" => Event::Answered { sandbox: sandbox() },
        "not-taken" => Event::NotTaken { sandbox: sandbox() },
        "slept" => Event::Slept { sandbox: sandbox() },
        "left-warm" => Event::LeftWarm { sandbox: sandbox() },
        "woke" => Event::Woke { sandbox: sandbox(), restored: true },
        "thawed" => Event::Woke { sandbox: sandbox(), restored: false },
        "checked" => Event::Checked { sandbox: sandbox() },
        "gone" => Event::Gone { sandbox: sandbox() },
        "sleep" => Event::Sleep { sandbox: sandbox() },
        "wake" => Event::Wake { sandbox: sandbox() },
        "check" => Event::Check { sandbox: sandbox() },
        "purge" => Event::Purge { sandbox: sandbox() },
        "tick" => Event::Tick,
        other => panic!("no event {other:?}"),
    }
}

pub(crate) fn words(action: &Action) -> String {
    match action {
        Action::Start { start, .. } => format!("start {}", start.0),
        Action::Assign { invocation, sandbox, origin } => {
            format!("assign {invocation} to {sandbox} {origin:?}").to_lowercase()
        }
        Action::Sleep { sandbox } => format!("sleep {sandbox}"),
        Action::Wake { sandbox } => format!("wake {sandbox}"),
        Action::Check { sandbox } => format!("check {sandbox}"),
        Action::Purge { sandbox } => format!("purge {sandbox}"),
        Action::Reject { invocation, why } => format!("reject {invocation} {why:?}"),
        Action::Refuse { sandbox, state } => {
            format!("refuse {sandbox} {}", state.map_or("unknown", |s| s.as_str()))
        }
    }
}

/// Each line: `SECONDS EVENT -> ACTION, ACTION`. There are three revisions of one function.
#[track_caller]
pub(crate) fn check(plan: FunctionPlan, story: &str) {
    check_with(plan, |_| {}, story);
}

#[track_caller]
pub(crate) fn check_with(plan: FunctionPlan, set_up: impl FnOnce(&mut Brain), story: &str) {
    let mut brain = Brain::new(Policy::Fixed);
    (1..=3).for_each(|revision| brain.set_revision(RevisionId(revision), name(), plan.clone()));
    set_up(&mut brain);
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (cause, expected) = line.split_once("->").unwrap_or((line, ""));
        let (seconds, what) = cause.trim().split_once(' ').unwrap();
        let now = Duration::from_secs_f64(seconds.parse().unwrap());
        let actions: Vec<_> = brain.handle(now, event(what)).iter().map(words).collect();
        assert_eq!(actions.join(", "), expected.trim(), "in: {line}");
    }
}

/// As functions are that come through the control API.
pub(crate) fn throttled() -> FunctionPlan {
    FunctionPlan { concurrency: 10, queue_len: 0, beyond: Beyond::Throttle, ..plan() }
}
