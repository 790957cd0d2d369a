//! What is queued, in memory: who is next, who runs, how much there is. The file is the truth, and this is made anew
//! from it at each start; so what runs, and which lane pauses, is forgotten by a crash, and all is due again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::bounds::{Bounds, Full, Origin, Usage};
use crate::event::{EventId, Lane};
use crate::policy::pause;
use crate::{LaneFacts, Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Index {
    lanes: BTreeMap<Lane, LaneState>,
    events: BTreeMap<EventId, Known>,
    total: Usage,
    /// The lane that was served last: the next one has its turn.
    served: Option<Lane>,
}

#[derive(Debug, Default)]
struct LaneState {
    waiting: BTreeSet<(Timestamp, EventId)>,
    running: usize,
    /// All that wait or run, the oldest first.
    ids: BTreeSet<EventId>,
    usage: Usage,
    /// Pauses in a row.
    pauses: u32,
    /// Nothing is taken before, unless an attempt of this lane ends: then there is room again.
    paused_until: Timestamp,
}

#[derive(Clone, Debug)]
struct Known {
    lane: Lane,
    due: Timestamp,
    accepted: Timestamp,
    usage: Usage,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has its room; nobody gets it before it is on the disk.
    Writing,
    Waiting,
    Running,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This, now.
    Now(EventId),
    /// Nothing before this time, unless something changes.
    At(Timestamp),
    /// Nothing until something changes.
    Nothing,
}

impl Index {
    /// Whether an event of this size has room, when what `freed` stands for is gone.
    pub(crate) fn check(
        &self,
        bounds: &Bounds,
        origin: Origin,
        lane: &Lane,
        size: Usage,
        freed: Option<EventId>,
    ) -> Result<(), Full> {
        let (mut of_lane, mut total) = (self.usage(lane), self.total);
        of_lane.add(size);
        total.add(size);
        if let Some(freed) = freed.and_then(|id| self.events.get(&id)) {
            total.sub(freed.usage);
            if freed.lane == *lane {
                of_lane.sub(freed.usage);
            }
        }
        bounds.check(origin, of_lane, total)
    }

    fn usage(&self, lane: &Lane) -> Usage {
        self.lanes.get(lane).map(|state| state.usage).unwrap_or_default()
    }

    /// Takes the room that it needs. It is to be had when `written` says so.
    pub(crate) fn insert(
        &mut self,
        id: EventId,
        lane: Lane,
        accepted: Timestamp,
        due: Timestamp,
        usage: Usage,
    ) {
        let state = self.lanes.entry(lane.clone()).or_default();
        state.ids.insert(id);
        state.usage.add(usage);
        self.total.add(usage);
        self.events.insert(id, Known { lane, due, accepted, usage, phase: Phase::Writing });
    }

    pub(crate) fn written(&mut self, id: EventId) {
        let Some(known) = self.events.get_mut(&id) else { return };
        known.phase = Phase::Waiting;
        if let Some(state) = self.lanes.get_mut(&known.lane) {
            state.waiting.insert((known.due, id));
        }
    }

    /// The next event, each lane in its turn; it counts as running from now on. `may_run` says how many of a lane
    /// may run at once.
    pub(crate) fn take(&mut self, now: Timestamp, may_run: &dyn Fn(&Lane) -> usize) -> Next {
        let mut earliest: Option<Timestamp> = None;
        let mut found = None;
        for (lane, state) in self.in_turn() {
            let Some(at) = state.next(may_run(lane)) else { continue };
            if at <= now {
                found = Some(lane.clone());
                break;
            }
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        }
        match found.and_then(|lane| self.start(lane)) {
            Some(id) => Next::Now(id),
            None => earliest.map_or(Next::Nothing, Next::At),
        }
    }

    /// All lanes, from the one after that which was served last.
    fn in_turn(&self) -> impl Iterator<Item = (&Lane, &LaneState)> {
        let (after, until) = match &self.served {
            Some(lane) => (Bound::Excluded(lane), Bound::Included(lane)),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let second = self.served.iter().flat_map(move |_| self.lanes.range((Bound::Unbounded, until)));
        self.lanes.range((after, Bound::Unbounded)).chain(second)
    }

    fn start(&mut self, lane: Lane) -> Option<EventId> {
        let state = self.lanes.get_mut(&lane)?;
        let (_, id) = state.waiting.pop_first()?;
        state.running += 1;
        self.served = Some(lane);
        self.events.get_mut(&id)?.phase = Phase::Running;
        Some(id)
    }

    /// An attempt was made: it is to be made again then.
    pub(crate) fn retry(&mut self, id: EventId, due: Timestamp) {
        self.stop(id, due, LaneState::go_on);
    }

    /// No attempt could be made: the lane pauses, at the longest until `latest`.
    pub(crate) fn refuse(&mut self, id: EventId, now: Timestamp, latest: Timestamp) {
        let Some(due) = self.events.get(&id).map(|known| known.due) else { return };
        self.stop(id, due, |state| {
            if state.paused_until <= now {
                state.pauses = state.pauses.saturating_add(1); // Those refused together are one reason to pause.
                state.paused_until = now.after(pause(state.pauses)).min(latest);
            }
        });
    }

    fn stop(&mut self, id: EventId, due: Timestamp, then: impl FnOnce(&mut LaneState)) {
        let Some(known) = self.events.get_mut(&id).filter(|known| known.phase == Phase::Running) else {
            return;
        };
        known.phase = Phase::Waiting;
        known.due = due;
        if let Some(state) = self.lanes.get_mut(&known.lane) {
            state.waiting.insert((due, id));
            state.running -= 1;
            then(state);
        }
    }

    /// It is done with, or given up.
    pub(crate) fn remove(&mut self, id: EventId) {
        let Some(known) = self.events.remove(&id) else { return };
        self.total.sub(known.usage);
        let Some(state) = self.lanes.get_mut(&known.lane) else { return };
        state.ids.remove(&id);
        state.usage.sub(known.usage);
        match known.phase {
            Phase::Writing => {}
            Phase::Waiting => drop(state.waiting.remove(&(known.due, id))),
            Phase::Running => {
                state.running -= 1;
                state.go_on();
            }
        }
        if state.ids.is_empty() {
            self.lanes.remove(&known.lane);
        }
    }

    pub(crate) fn is_running(&self, id: EventId) -> bool {
        self.events.get(&id).is_some_and(|known| known.phase == Phase::Running)
    }

    pub(crate) fn facts(&self) -> Vec<LaneFacts> {
        let fact = |(lane, state): (&Lane, &LaneState)| LaneFacts {
            lane: lane.clone(),
            waiting: state.waiting.len() as u64,
            running: state.running as u64,
            bytes: state.usage.bytes,
            oldest: state.ids.first().and_then(|id| self.events.get(id)).map(|known| known.accepted),
        };
        self.lanes.iter().map(fact).collect()
    }
}

impl LaneState {
    /// When the next event can be taken, as far as time alone decides.
    fn next(&self, may_run: usize) -> Option<Timestamp> {
        let (due, _) = self.waiting.first()?;
        if self.running >= may_run {
            return None;
        }
        Some(self.paused_until.max(*due))
    }

    fn go_on(&mut self) {
        self.pauses = 0;
        self.paused_until = Timestamp::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const LATE: Timestamp = Timestamp(u64::MAX);

    fn lane(name: &str) -> Lane {
        Lane::Function(name.parse().unwrap())
    }

    fn index(events: &[(u64, &str)]) -> Index {
        let mut index = Index::default();
        for (id, name) in events {
            index.insert(EventId(*id), lane(name), NOW, NOW, Usage::of_payload(1));
            index.written(EventId(*id));
        }
        index
    }

    /// What is taken until nothing is to be had.
    fn take_all(index: &mut Index, now: Timestamp, may_run: usize) -> (Vec<u64>, Next) {
        let mut taken = Vec::new();
        loop {
            match index.take(now, &|_| may_run) {
                Next::Now(id) => taken.push(id.0),
                next => return (taken, next),
            }
        }
    }

    #[test]
    fn each_lane_has_its_turn_and_the_oldest_goes_first() {
        let mut index = index(&[(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")]);
        assert_eq!(take_all(&mut index, NOW, 9), (vec![1, 4, 5, 2, 3], Next::Nothing));
    }

    #[test]
    fn no_more_of_a_lane_runs_than_may() {
        let mut index = index(&[(1, "a"), (2, "a"), (3, "a"), (4, "b")]);
        assert_eq!(take_all(&mut index, NOW, 2), (vec![1, 4, 2], Next::Nothing));
        index.remove(EventId(1));
        assert_eq!(take_all(&mut index, NOW, 2), (vec![3], Next::Nothing));
    }

    #[test]
    fn a_retry_waits_and_holds_nobody_up() {
        let mut index = index(&[(1, "a"), (2, "a")]);
        assert_eq!(index.take(NOW, &|_| 1), Next::Now(EventId(1)));
        index.retry(EventId(1), Timestamp(NOW.0 + 60_000));
        assert_eq!(take_all(&mut index, NOW, 9), (vec![2], Next::At(Timestamp(NOW.0 + 60_000))));
        assert_eq!(take_all(&mut index, Timestamp(NOW.0 + 60_000), 9).0, [1]);
    }

    #[test]
    fn a_refused_lane_pauses_longer_and_longer_and_keeps_its_order() {
        let mut index = index(&[(1, "a"), (2, "a"), (3, "b")]);
        assert_eq!(index.take(NOW, &|_| 1), Next::Now(EventId(1)));
        index.refuse(EventId(1), NOW, LATE);
        let second = Timestamp(NOW.0 + 1000);
        assert_eq!(take_all(&mut index, NOW, 1), (vec![3], Next::At(second)));
        assert_eq!(index.take(second, &|_| 1), Next::Now(EventId(1)));
        index.refuse(EventId(1), second, LATE);
        assert_eq!(index.take(second, &|_| 1), Next::At(Timestamp(NOW.0 + 3000)));
        assert_eq!(take_all(&mut index, Timestamp(NOW.0 + 3000), 1).0, [1]);
        index.remove(EventId(1));
        assert_eq!(take_all(&mut index, Timestamp(NOW.0 + 3000), 1).0, [2]);
    }

    #[test]
    fn a_pause_ends_when_an_attempt_of_its_lane_ends() {
        let mut index = index(&[(1, "a"), (2, "a"), (3, "a"), (4, "a")]);
        assert_eq!(take_all(&mut index, NOW, 3).0, [1, 2, 3]);
        index.refuse(EventId(2), NOW, LATE);
        index.refuse(EventId(3), NOW, LATE);
        assert_eq!(index.take(NOW, &|_| 9), Next::At(Timestamp(NOW.0 + 1000)));
        index.remove(EventId(1));
        assert_eq!(take_all(&mut index, NOW, 9).0, [2, 3, 4]);
    }

    #[test]
    fn a_pause_ends_when_the_refused_event_becomes_too_old() {
        let mut index = index(&[(1, "a")]);
        assert_eq!(index.take(NOW, &|_| 9), Next::Now(EventId(1)));
        let latest = Timestamp(NOW.0 + 10);
        index.refuse(EventId(1), NOW, latest);
        assert_eq!(index.take(NOW, &|_| 9), Next::At(latest));
    }
}
