//! Whatever happens in whatever order, the brain keeps its promises. The world here is hostile: results come
//! late, twice or for the wrong sandbox, and sandboxes die at any moment.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use brain::{Action, Brain, Event, FunctionPlan, Policy, StartId, Why};
use proptest::prelude::*;
use protocol::{FunctionName, InvocationId, RevisionId, SandboxId};

const CONCURRENCY: usize = 3;
const QUEUE_LEN: usize = 2;

/// One thing that happens. Numbers pick among what exists; `Noise` is an event that fits nothing.
#[derive(Clone, Debug)]
enum Step {
    Invoke(usize),
    Settle(usize),
    Die(usize),
    FailStart(usize),
    Pass(u64),
    ByHand(usize, u8),
    Noise(u64, u8),
    /// A deploy: this function gets another revision, which succeeds the one it has.
    Replace(usize),
    /// An invocation that was on its way while its revision retired.
    InvokeLate(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize).prop_map(Step::Invoke),
        8 => any::<usize>().prop_map(Step::Settle),
        1 => any::<usize>().prop_map(Step::Die),
        1 => any::<usize>().prop_map(Step::FailStart),
        2 => (0..15_000u64).prop_map(Step::Pass),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(i, verb)| Step::ByHand(i, verb)),
        2 => (0..12u64, any::<u8>()).prop_map(|(id, what)| Step::Noise(id, what)),
        1 => (0..2usize).prop_map(Step::Replace),
        1 => any::<usize>().prop_map(Step::InvokeLate),
    ]
}

/// What the sandbox is really doing.
#[derive(Clone, Debug, PartialEq)]
enum Real {
    Starting,
    Idle,
    Serving(InvocationId),
    Answered,
    FallingAsleep,
    Asleep,
    Waking,
    Checking,
    Dying,
}

struct World {
    brain: Brain,
    now: Duration,
    functions: Vec<FunctionName>,
    /// The revision of each function that takes invocations.
    current: Vec<RevisionId>,
    last_revision: u64,
    starts: Vec<(StartId, RevisionId)>,
    sandboxes: BTreeMap<SandboxId, (RevisionId, Real)>,
    open: BTreeSet<InvocationId>,
    last_id: u64,
}

fn plan() -> FunctionPlan {
    FunctionPlan {
        concurrency: CONCURRENCY,
        keep_warm: Duration::from_secs(5),
        keep_dedup: Duration::from_secs(20),
        queue_len: QUEUE_LEN,
        queue_wait: Duration::from_secs(30),
    }
}

impl World {
    fn new() -> Self {
        let functions: Vec<FunctionName> = ["f", "g"].iter().map(|n| n.parse().unwrap()).collect();
        let (starts, sandboxes, open) = Default::default();
        let (brain, now, current) = (Brain::new(Policy::Fixed), Duration::ZERO, Vec::new());
        let mut world =
            Self { brain, now, functions, current, last_revision: 0, starts, sandboxes, open, last_id: 0 };
        world.current = (0..2).map(|function| world.new_revision(function)).collect();
        world
    }

    fn new_revision(&mut self, function: usize) -> RevisionId {
        self.last_revision += 1;
        let revision = RevisionId(self.last_revision);
        self.brain.set_revision(revision, self.functions[function].clone(), plan());
        revision
    }

    fn replace(&mut self, function: usize) {
        let successor = self.new_revision(function);
        let revision = std::mem::replace(&mut self.current[function], successor);
        self.tell(Event::Retire { revision, successor: Some(successor) });
        for (of, real) in self.sandboxes.values().filter(|(of, _)| *of == revision) {
            let goes = !matches!(real, Real::Idle | Real::Asleep | Real::FallingAsleep | Real::Waking);
            assert!(goes, "{of} has retired, and a sandbox of it is {real:?}");
        }
    }

    fn invoke(&mut self, revision: RevisionId) {
        self.last_id += 1;
        let invocation = InvocationId(self.last_id.to_string());
        self.open.insert(invocation.clone());
        self.tell(Event::Invoke { invocation, revision });
    }

    fn tell(&mut self, event: Event) {
        for action in self.brain.handle(self.now, event) {
            self.act(action);
        }
        for function in &self.functions {
            assert!(self.brain.queue_len(function) <= self.open.len(), "one waits twice, or after its end");
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { start, revision } => {
                assert!(self.current.contains(&revision), "{revision} has retired");
                self.starts.push((start, revision));
                let starting = self.starts.iter().filter(|(_, of)| *of == revision).count();
                let alive = self.sandboxes.values().filter(|(of, _)| *of == revision).count();
                assert!(starting + alive <= CONCURRENCY, "a start beyond the limit");
            }
            Action::Assign { invocation, sandbox, .. } => {
                assert!(self.open.contains(&invocation), "{invocation} was over already");
                self.change(sandbox, &[Real::Idle], Real::Serving(invocation));
            }
            Action::Sleep { sandbox } => self.change(sandbox, &[Real::Idle], Real::FallingAsleep),
            Action::Wake { sandbox } => {
                self.change(sandbox, &[Real::Asleep, Real::FallingAsleep], Real::Waking);
            }
            Action::Check { sandbox } => self.change(sandbox, &[Real::Idle], Real::Checking),
            Action::Purge { sandbox } => {
                let (_, real) = self.sandboxes.get_mut(&sandbox).unwrap();
                assert_ne!(*real, Real::Dying, "purged twice");
                *real = Real::Dying;
            }
            Action::Reject { invocation, why } => {
                assert!(self.open.remove(&invocation), "{invocation} ended twice, {why:?}");
                assert_ne!(why, Why::UnknownRevision, "every revision here has a successor");
            }
            Action::Refuse { .. } => {}
        }
    }

    fn change(&mut self, id: SandboxId, from: &[Real], to: Real) {
        let (_, real) = self.sandboxes.get_mut(&id).unwrap();
        assert!(from.contains(real), "{id} is {real:?}, cannot become {to:?}");
        *real = to;
    }

    fn pick(&self, index: usize) -> Option<SandboxId> {
        let len = self.sandboxes.len();
        (len > 0).then(|| *self.sandboxes.keys().nth(index % len).unwrap())
    }

    /// What is under way ends well: a start, or whatever the picked sandbox was doing.
    fn settle(&mut self, index: usize) {
        if index.is_multiple_of(3) && !self.starts.is_empty() {
            let (start, revision) = self.starts.remove(index / 3 % self.starts.len());
            self.last_id += 1;
            let sandbox = SandboxId(self.last_id);
            self.sandboxes.insert(sandbox, (revision, Real::Starting));
            return self.tell(Event::Started { start, sandbox });
        }
        let Some(sandbox) = self.pick(index) else { return };
        let (_, real) = self.sandboxes.get_mut(&sandbox).unwrap();
        let (next, event) = match real.clone() {
            Real::Starting | Real::Answered => (Real::Idle, Event::Ready { sandbox }),
            Real::Serving(invocation) => {
                assert!(self.open.remove(&invocation), "{invocation} was served and is not open");
                (Real::Answered, Event::Answered { sandbox })
            }
            Real::FallingAsleep if index.is_multiple_of(4) => (Real::Idle, Event::LeftWarm { sandbox }),
            Real::FallingAsleep => (Real::Asleep, Event::Slept { sandbox }),
            Real::Waking => (Real::Idle, Event::Woke { sandbox, restored: true }),
            Real::Checking => (Real::Idle, Event::Checked { sandbox }),
            Real::Dying => return self.die(sandbox),
            Real::Idle | Real::Asleep => return,
        };
        *real = next;
        self.tell(event);
    }

    fn die(&mut self, sandbox: SandboxId) {
        self.sandboxes.remove(&sandbox);
        self.tell(Event::Gone { sandbox });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Invoke(function) => self.invoke(self.current[function]),
            Step::InvokeLate(index) => self.invoke(RevisionId(index as u64 % self.last_revision + 1)),
            Step::Replace(function) => self.replace(function),
            Step::Settle(index) => self.settle(index),
            Step::Die(index) => {
                if let Some(sandbox) = self.pick(index) {
                    self.die(sandbox);
                }
            }
            Step::FailStart(index) => {
                if !self.starts.is_empty() {
                    let (start, _) = self.starts.remove(index % self.starts.len());
                    self.tell(Event::StartFailed { start });
                }
            }
            Step::Pass(ms) => {
                self.now += Duration::from_millis(ms);
                self.tell(Event::Tick);
                assert!(self.brain.next_deadline().is_none_or(|at| at > self.now), "a deadline was missed");
            }
            Step::ByHand(index, verb) => {
                let Some(sandbox) = self.pick(index) else { return };
                self.tell(match verb % 4 {
                    0 => Event::Sleep { sandbox },
                    1 => Event::Wake { sandbox },
                    2 => Event::Check { sandbox },
                    _ => Event::Purge { sandbox },
                });
            }
            Step::Noise(id, what) => self.noise(SandboxId(1_000_000 + id), what),
        }
    }

    /// Results for sandboxes that nobody knows, and a wake that nobody asked for.
    fn noise(&mut self, unknown: SandboxId, what: u8) {
        let idle = self.sandboxes.iter().find(|(_, (_, real))| *real == Real::Idle).map(|(id, _)| *id);
        let sandbox = idle.filter(|_| what.is_multiple_of(2)).unwrap_or(unknown);
        self.tell(match what / 2 % 7 {
            0 => Event::Ready { sandbox },
            1 => Event::Slept { sandbox },
            2 => Event::LeftWarm { sandbox },
            3 => Event::Woke { sandbox, restored: true },
            4 => Event::Checked { sandbox },
            5 => Event::Answered { sandbox },
            _ => Event::InitFailed { sandbox },
        });
    }

    /// Lets everything come to its end: then nobody may be left without an answer.
    fn finish(&mut self) {
        const ROUNDS_MAX: usize = 10_000; // Far more than events can be under way.
        for round in 0..ROUNDS_MAX {
            if self.open.is_empty() {
                return;
            }
            self.settle(round);
        }
        panic!("never answered: {:?}", self.open);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_breaks_a_promise(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        world.finish();
    }
}
