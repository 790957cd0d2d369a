//! Whatever happens in whatever order, the brain keeps its promises. The world here is hostile: results come
//! late, twice or for the wrong sandbox, and sandboxes die at any moment.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it stands.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use brain::{Action, Beyond, Brain, Event, FunctionPlan, Policy, StartId, Why};
use model::{Model, is_throttled};
use proptest::prelude::*;
use protocol::{FunctionName, InvocationId, RevisionId, SandboxId};

const FUNCTIONS: usize = 3;
const CONCURRENCY: usize = 3;
const QUEUE_LEN: usize = 2;
const ALLOWANCE: usize = 4;

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
    Reserve(usize, Option<usize>),
    Provision(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let function = || 0..FUNCTIONS;
    prop_oneof![
        6 => function().prop_map(Step::Invoke),
        12 => any::<usize>().prop_map(Step::Settle),
        1 => any::<usize>().prop_map(Step::Die),
        1 => any::<usize>().prop_map(Step::FailStart),
        3 => (0..15_000u64).prop_map(Step::Pass),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(i, verb)| Step::ByHand(i, verb)),
        2 => (0..12u64, any::<u8>()).prop_map(|(id, what)| Step::Noise(id, what)),
        1 => function().prop_map(Step::Replace),
        1 => any::<usize>().prop_map(Step::InvokeLate),
        1 => (function(), prop::option::of(0..3usize)).prop_map(|(f, n)| Step::Reserve(f, n)),
        1 => (function(), 0..=2usize).prop_map(|(f, n)| Step::Provision(f, n)),
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
    starts: Vec<(StartId, RevisionId)>,
    sandboxes: BTreeMap<SandboxId, (RevisionId, Real)>,
    /// Those that were put to sleep by hand: sleeping is no fault of theirs.
    by_hand: BTreeSet<SandboxId>,
    is_by_hand: bool,
    model: Model,
    /// Open invocations that a sandbox was given.
    assigned: BTreeSet<InvocationId>,
    last_reject: Option<(InvocationId, Why)>,
    last_id: u64,
}

fn plan(function: usize) -> FunctionPlan {
    FunctionPlan {
        concurrency: CONCURRENCY,
        keep_warm: Duration::from_secs(5),
        keep_dedup: Duration::from_secs(20),
        queue_len: QUEUE_LEN,
        queue_wait: Duration::from_secs(30),
        beyond: if is_throttled(function) { Beyond::Throttle } else { Beyond::Wait },
    }
}

impl World {
    fn new() -> Self {
        let (reserved, provisioned, revisions, open) = Default::default();
        let mut world = Self {
            brain: Brain::new(Policy::Fixed),
            now: Duration::ZERO,
            functions: ["f", "g", "h"].iter().map(|name| name.parse().unwrap()).collect(),
            current: Vec::new(),
            starts: Vec::new(),
            sandboxes: BTreeMap::new(),
            by_hand: BTreeSet::new(),
            is_by_hand: false,
            model: Model { allowance: ALLOWANCE, reserved, provisioned, revisions, open },
            assigned: BTreeSet::new(),
            last_reject: None,
            last_id: 0,
        };
        world.brain.set_allowance(ALLOWANCE);
        world.current = (0..FUNCTIONS).map(|function| world.new_revision(function)).collect();
        world
    }

    fn new_revision(&mut self, function: usize) -> RevisionId {
        let revision = RevisionId(self.model.revisions.len() as u64 + 1);
        self.brain.set_revision(revision, self.functions[function].clone(), plan(function));
        self.model.revisions.insert(revision, function);
        revision
    }

    fn replace(&mut self, function: usize) {
        let successor = self.new_revision(function);
        let revision = std::mem::replace(&mut self.current[function], successor);
        let waiting = self.model.open.iter_mut().filter(|(id, _)| !self.assigned.contains(*id));
        waiting.filter(|(_, of)| **of == revision).for_each(|(_, of)| *of = successor);
        self.model.provisioned.remove(&revision);
        self.tell(Event::Retire { revision, successor: Some(successor) });
        for (of, real) in self.sandboxes.values().filter(|(of, _)| *of == revision) {
            let goes = !matches!(real, Real::Idle | Real::Asleep | Real::FallingAsleep | Real::Waking);
            assert!(goes, "{of} has retired, and a sandbox of it is {real:?}");
        }
    }

    fn invoke(&mut self, asked: RevisionId) {
        let revision = self.current[self.model.revisions[&asked]];
        let is_admitted = self.model.admits(revision);
        self.last_id += 1;
        let invocation = InvocationId(self.last_id.to_string());
        self.model.open.insert(invocation.clone(), revision);
        self.tell(Event::Invoke { invocation: invocation.clone(), revision: asked });
        let rejected = self.last_reject.take().filter(|(id, _)| *id == invocation).map(|(_, why)| why);
        let is_throttled = matches!(rejected, Some(Why::ReservedLimit | Why::AllowanceLimit));
        assert_eq!(is_throttled, !is_admitted, "{rejected:?}, {:?}", self.model);
    }

    fn tell(&mut self, event: Event) {
        for action in self.brain.handle(self.now, event) {
            self.act(action);
        }
        for function in &self.functions {
            let queued = self.brain.queue_len(function);
            assert!(queued <= self.model.open.len(), "one waits twice, or after its end");
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
                let (revision, _) = self.sandboxes[&sandbox];
                assert_eq!(
                    self.model.open.get(&invocation),
                    Some(&revision),
                    "{invocation} is over, or not its"
                );
                self.assigned.insert(invocation.clone());
                self.change(sandbox, &[Real::Idle], Real::Serving(invocation));
            }
            Action::Sleep { sandbox } => self.fall_asleep(sandbox),
            Action::Wake { sandbox } => {
                self.by_hand.remove(&sandbox);
                self.change(sandbox, &[Real::Asleep, Real::FallingAsleep], Real::Waking);
            }
            Action::Check { sandbox } => self.change(sandbox, &[Real::Idle], Real::Checking),
            Action::Purge { sandbox } => {
                let (_, real) = self.sandboxes.get_mut(&sandbox).unwrap();
                assert_ne!(*real, Real::Dying, "purged twice");
                *real = Real::Dying;
            }
            Action::Reject { invocation, why } => {
                assert!(self.model.open.remove(&invocation).is_some(), "{invocation} ended twice, {why:?}");
                assert_ne!(why, Why::UnknownRevision, "every revision here has a successor");
                self.last_reject = Some((invocation, why));
            }
            Action::Refuse { .. } => {}
        }
    }

    fn fall_asleep(&mut self, sandbox: SandboxId) {
        self.change(sandbox, &[Real::Idle], Real::FallingAsleep);
        if self.is_by_hand {
            self.by_hand.insert(sandbox);
            return;
        }
        let (revision, _) = self.sandboxes[&sandbox];
        let available = self.available(revision);
        assert!(available >= self.model.wanted(revision), "a provisioned sandbox of {revision} sleeps");
    }

    fn available(&self, revision: RevisionId) -> usize {
        let is_available = |(id, (of, real)): &(&SandboxId, &(RevisionId, Real))| {
            let is_awake = matches!(real, Real::Idle | Real::Serving(_) | Real::Answered | Real::Checking);
            *of == revision && (is_awake || self.by_hand.contains(id))
        };
        self.sandboxes.iter().filter(is_available).count()
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
                let open = self.model.open.remove(&invocation);
                assert!(open.is_some(), "{invocation} was served and is not open");
                (Real::Answered, Event::Answered { sandbox })
            }
            Real::FallingAsleep if index.is_multiple_of(4) => {
                self.by_hand.remove(&sandbox);
                (Real::Idle, Event::LeftWarm { sandbox })
            }
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
        self.by_hand.remove(&sandbox);
        self.tell(Event::Gone { sandbox });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Invoke(function) => self.invoke(self.current[function]),
            Step::InvokeLate(index) => {
                self.invoke(RevisionId((index % self.model.revisions.len()) as u64 + 1));
            }
            Step::Replace(function) => self.replace(function),
            Step::Reserve(function, reserved) => self.reserve(function, reserved),
            Step::Provision(function, wanted) => {
                let revision = self.current[function];
                self.model.provisioned.insert(revision, wanted);
                self.tell(Event::Provision { revision, wanted });
            }
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
            Step::Pass(ms) => self.pass(ms),
            Step::ByHand(index, verb) => self.by_hand(index, verb),
            Step::Noise(id, what) => self.noise(SandboxId(1_000_000 + id), what),
        }
    }

    fn reserve(&mut self, function: usize, reserved: Option<usize>) {
        if !is_throttled(function) {
            return; // What has a queue has no reservation.
        }
        self.brain.set_reserved(&self.functions[function], reserved);
        match reserved {
            Some(reserved) => drop(self.model.reserved.insert(function, reserved)),
            None => drop(self.model.reserved.remove(&function)),
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.tell(Event::Tick);
        assert!(self.brain.next_deadline().is_none_or(|at| at > self.now), "a deadline was missed");
    }

    fn by_hand(&mut self, index: usize, verb: u8) {
        let Some(sandbox) = self.pick(index) else { return };
        let (_, real) = &self.sandboxes[&sandbox];
        if verb.is_multiple_of(4) && matches!(real, Real::FallingAsleep | Real::Asleep) {
            self.by_hand.insert(sandbox);
        }
        self.is_by_hand = true;
        self.tell(match verb % 4 {
            0 => Event::Sleep { sandbox },
            1 => Event::Wake { sandbox },
            2 => Event::Check { sandbox },
            _ => Event::Purge { sandbox },
        });
        self.is_by_hand = false;
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

    /// Lets everything come to its end: then nobody may be left without an answer, what was provisioned is there, and
    /// nothing counts against the limits but that.
    fn finish(&mut self) {
        const ROUNDS_MAX: usize = 10_000; // Far more than events can be under way.
        let is_over = |world: &Self| {
            world.model.open.is_empty()
                && world.current.iter().all(|id| world.available(*id) >= world.model.wanted(*id))
        };
        for round in 0..ROUNDS_MAX {
            if is_over(self) {
                break;
            }
            self.settle(round);
            if self.model.open.is_empty() {
                self.pass(10_000); // The pause after a death is over at some time.
            }
        }
        assert!(is_over(self), "never answered, or not provisioned: {:?}", self.model);
        for function in 0..FUNCTIONS {
            let provisioned = self.brain.provisioned(self.current[function]).unwrap();
            assert_eq!(provisioned.available, provisioned.wanted);
            self.step(Step::Provision(function, 0));
            self.reserve(function, None);
        }
        (0..=ALLOWANCE).for_each(|_| self.invoke(self.current[1])); // Which compares with the model.
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
