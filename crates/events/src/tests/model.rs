//! The queue against a model of it, with restarts, kills and power losses in between.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::disk::Disk;
use super::{NOW, close, event, open};
use crate::bounds::EVENT_OVERHEAD;
use crate::queue::{AcceptError, Queue, Taken};
use crate::{Bounds, Event, EventId, Full, Lane, Timestamp, Usage};

const BOUNDS: Bounds =
    Bounds { lane: Usage { events: 6, bytes: 12_000 }, total: Usage { events: 12, bytes: 30_000 } };

const MAY_RUN: usize = 2;

/// The longest that a lane pauses.
const PAUSE_MAX_MS: u64 = 300_000;

#[derive(Clone, Debug)]
enum Step {
    Accept {
        lane: usize,
        len: usize,
    },
    Take,
    /// Which of those that were taken; follow-ups by lane and length.
    Finish {
        nth: usize,
        follow_ups: Vec<(usize, usize)>,
    },
    Fail {
        nth: usize,
        delay_ms: u64,
    },
    Refuse {
        nth: usize,
    },
    Wait {
        ms: u64,
    },
    Reopen {
        how: How,
    },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Closed,
    Killed,
    PowerLost,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let new = || (0..3_usize, 0..4000_usize);
    let how = prop_oneof![Just(How::Closed), Just(How::Killed), Just(How::PowerLost)];
    let step = prop_oneof![
        6 => new().prop_map(|(lane, len)| Step::Accept { lane, len }),
        6 => Just(Step::Take),
        3 => (0..9_usize, prop::collection::vec(new(), 0..3))
            .prop_map(|(nth, follow_ups)| Step::Finish { nth, follow_ups }),
        2 => (0..9_usize, 0..200_000_u64).prop_map(|(nth, delay_ms)| Step::Fail { nth, delay_ms }),
        1 => (0..9_usize).prop_map(|nth| Step::Refuse { nth }),
        2 => (0..100_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => how.prop_map(|how| Step::Reopen { how }),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, Debug)]
struct Known {
    lane: usize,
    payload: Vec<u8>,
    failures: u32,
    accepted: Timestamp,
    due: Timestamp,
    is_running: bool,
}

struct Run {
    disk: Disk,
    queue: Queue,
    now: Timestamp,
    model: BTreeMap<EventId, Known>,
    /// Lanes that may pause.
    refused: BTreeSet<usize>,
    /// Tells payloads apart.
    written: u64,
}

fn name(lane: usize) -> String {
    format!("lane-{lane}")
}

fn lane(lane: usize) -> Lane {
    Lane::Function(name(lane).parse().unwrap())
}

impl Run {
    fn new() -> Self {
        let disk = Disk::default();
        let queue = open(&disk, BOUNDS);
        Self { disk, queue, now: NOW, model: BTreeMap::new(), refused: BTreeSet::new(), written: 0 }
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.written += 1;
        let mut payload = self.written.to_string().into_bytes();
        payload.resize(payload.len().max(len), b' ');
        payload
    }

    fn usage(&self, of: Option<usize>) -> Usage {
        let mut usage = Usage::default();
        for known in self.model.values().filter(|known| of.is_none_or(|lane| known.lane == lane)) {
            usage.add(Usage::of_payload(known.payload.len()));
        }
        usage
    }

    fn insert(&mut self, id: EventId, lane: usize, payload: Vec<u8>) {
        let (accepted, due) = (self.now, self.now);
        let known = Known { lane, payload, failures: 0, accepted, due, is_running: false };
        assert!(self.model.insert(id, known).is_none(), "{id} was given twice");
    }

    fn running(&self, nth: usize) -> Option<EventId> {
        let running: Vec<_> =
            self.model.iter().filter(|(_, known)| known.is_running).map(|(id, _)| *id).collect();
        running.get(nth % running.len().max(1)).copied()
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Accept { lane, len } => self.accept(lane, len).await,
            Step::Take => drop(self.take()),
            Step::Finish { nth, follow_ups } => {
                if let Some(id) = self.running(nth) {
                    self.finish(id, &follow_ups).await;
                }
            }
            Step::Fail { nth, delay_ms } => {
                let Some(id) = self.running(nth) else { return };
                let due = Timestamp(self.now.0 + delay_ms);
                self.queue.fail(id, due).await.unwrap();
                let known = self.model.get_mut(&id).unwrap();
                known.failures += 1;
                (known.due, known.is_running) = (due, false);
                self.refused.remove(&known.lane);
            }
            Step::Refuse { nth } => {
                let Some(id) = self.running(nth) else { return };
                self.queue.refuse(id, self.now, Timestamp(u64::MAX));
                let known = self.model.get_mut(&id).unwrap();
                known.is_running = false;
                self.refused.insert(known.lane);
            }
            Step::Wait { ms } => self.now.0 += ms,
            Step::Reopen { how } => self.reopen(how).await,
        }
    }

    async fn accept(&mut self, lane: usize, len: usize) {
        let payload = self.payload(len);
        let (mut of_lane, mut total) = (self.usage(Some(lane)), self.usage(None));
        of_lane.add(Usage::of_payload(payload.len()));
        total.add(Usage::of_payload(payload.len()));
        let expected = if of_lane.events > BOUNDS.lane.events || of_lane.bytes > BOUNDS.lane.bytes {
            Err(Full::Lane)
        } else if total.events > BOUNDS.total.events || total.bytes > BOUNDS.total.bytes {
            Err(Full::Total)
        } else {
            Ok(())
        };
        match self.queue.accept(event(&name(lane), payload.clone()), self.now).await {
            Ok(id) => {
                assert_eq!(expected, Ok(()));
                self.insert(id, lane, payload);
            }
            Err(AcceptError::Full(full)) => assert_eq!(expected, Err(full)),
            Err(error) => panic!("{error}"),
        }
    }

    fn take(&mut self) -> Option<Event> {
        let taken = self.queue.take(self.now, &|_| MAY_RUN).unwrap();
        let running =
            |lane| self.model.values().filter(|known| known.is_running && known.lane == lane).count();
        let could = |known: &&Known| !known.is_running && running(known.lane) < MAY_RUN;
        let Taken::Event(event) = taken else {
            let due = |known: &&Known| could(known) && known.due <= self.now;
            let missed = self.model.values().find(|known| due(known) && !self.refused.contains(&known.lane));
            assert!(missed.is_none(), "{missed:?} is due, but {taken:?}");
            return None;
        };
        let known = &self.model[&event.id];
        assert!(could(&known) && known.due <= self.now, "{event:?} at {:?}", self.now);
        let older = |other: &&Known| other.lane == known.lane && !other.is_running && other.due < known.due;
        assert!(!self.model.values().any(|other| older(&other)), "{event:?} is not the first of its lane");
        assert_eq!((&event.payload[..], event.failures), (&known.payload[..], known.failures));
        assert_eq!(event.accepted, known.accepted);
        self.model.get_mut(&event.id).unwrap().is_running = true;
        Some(event)
    }

    async fn finish(&mut self, id: EventId, follow_ups: &[(usize, usize)]) {
        let new: Vec<_> = follow_ups.iter().map(|(lane, len)| (*lane, self.payload(*len))).collect();
        let events = new.iter().map(|(lane, payload)| event(&name(*lane), payload.clone())).collect();
        let queued = self.queue.finish(id, events, self.now).await.unwrap();
        let gone = self.model.remove(&id).unwrap();
        self.refused.remove(&gone.lane);
        for (result, (lane, payload)) in queued.into_iter().zip(new) {
            match result {
                Ok(id) => self.insert(id, lane, payload),
                Err(AcceptError::Full(_)) => {
                    let usage = self.usage(Some(lane));
                    let total = self.usage(None);
                    let is_near = |used: Usage, bound: Usage| {
                        used.events + 1 > 2 * bound.events
                            || used.bytes + payload.len() as u64 + EVENT_OVERHEAD > 2 * bound.bytes
                    };
                    assert!(is_near(usage, BOUNDS.lane) || is_near(total, BOUNDS.total));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn reopen(&mut self, how: How) {
        let disk = match how {
            How::Closed => self.disk.clone(),
            How::Killed => self.disk.after_kill(),
            How::PowerLost => self.disk.after_power_loss(),
        };
        close(self.queue.clone()).await;
        self.queue = Queue::open_by("events".as_ref(), disk.opener(), BOUNDS, self.now).unwrap();
        self.disk = disk;
        self.refused.clear();
        for known in self.model.values_mut() {
            known.is_running = false;
            known.due = known.due.min(Timestamp(self.now.0 + PAUSE_MAX_MS));
        }
    }

    fn check(&self) {
        let mut facts = self.queue.facts().into_iter().map(|facts| (facts.lane.clone(), facts));
        let mut facts: BTreeMap<_, _> = facts.by_ref().collect();
        for number in 0..3 {
            let of_lane: Vec<_> = self.model.values().filter(|known| known.lane == number).collect();
            let Some(first) = of_lane.first() else { continue };
            let running = of_lane.iter().filter(|known| known.is_running).count() as u64;
            let found = facts.remove(&lane(number)).expect("its facts");
            assert_eq!((found.running, found.waiting), (running, of_lane.len() as u64 - running));
            assert_eq!((found.bytes, found.oldest), (self.usage(Some(number)).bytes, Some(first.accepted)));
        }
        assert!(facts.is_empty(), "{facts:?}");
    }

    /// Whatever happened, everything that is left comes out, once.
    async fn drain(&mut self) {
        for id in self.model.iter().filter(|(_, known)| known.is_running).map(|(id, _)| *id) {
            self.queue.refuse(id, self.now, self.now);
        }
        self.model.values_mut().for_each(|known| known.is_running = false);
        self.now.0 += PAUSE_MAX_MS;
        self.refused.clear();
        while let Some(event) = self.take() {
            self.finish(event.id, &[]).await;
        }
        assert!(self.model.is_empty(), "{:?}", self.model);
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_its_model_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for step in steps {
                run.step(step).await;
                run.check();
            }
            run.drain().await;
            close(run.queue).await;
        });
    }
}
