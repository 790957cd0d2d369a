//! Several threads, each with sandboxes of its own for the length of a task.

use std::thread;

use super::act::Act;
use super::chance::Chance;
use super::stage::{Seat, Stage};
use super::tally::Promise;

/// As many at a time drive different sandboxes.
pub(super) const THREADS: usize = 4;
/// Of each thread. Between rounds all stand still, and a base is replaced.
const ACTS_PER_ROUND: usize = 25;

/// Where the soak stands, for failures.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) seed: u64,
    pub(super) round: u64,
    pub(super) what: &'static str,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}, round {}, {}", self.seed, self.round, self.what)
    }
}

impl Stage<'_> {
    /// Random acts on all threads.
    pub(super) fn round(&self, at: At, seats: &mut [Seat], chance: &Chance) {
        let mut hands: Vec<&mut Seat> = seats.iter_mut().collect();
        chance.of(0).shuffle(&mut hands);
        deal(hands, |thread, hand| {
            let mut chance = chance.of(1 + thread as u64);
            for number in 0..ACTS_PER_ROUND {
                let place = chance.below(hand.len() as u64) as usize;
                let Some(seat) = hand.get_mut(place) else { return };
                let act = Act::choose(&mut chance, seat.is_asleep());
                self.act(format_args!("{at}, thread {thread}, act {number}"), seat, act);
            }
        });
    }

    /// The same act for each, on all threads.
    pub(super) fn each(&self, at: At, seats: Vec<&mut Seat>, act: impl Fn(&Seat) -> Act + Sync) {
        deal(seats, |_, hand| {
            for seat in hand {
                let act = act(seat);
                self.act(at, seat, act);
            }
        });
    }

    /// One act. After a failure another sandbox takes the place: nothing is known of this one any more.
    pub(super) fn act(&self, at: impl std::fmt::Display, seat: &mut Seat, act: Act) {
        if self.workshop.stop.is_asked() || self.tally.must_end() {
            return;
        }
        let who = seat.describe();
        let Err(broken) = self.perform(seat, act) else { return self.tally.kept(Promise::Obeys) };
        if self.workshop.stop.is_asked() {
            return; // Whatever waited was told to wait no longer.
        }
        self.tally.broken(format_args!("{at}: {act:?} of {who}"), &broken);
        if !self.tally.must_end()
            && let Err(broken) = self.replace(seat)
        {
            self.tally.broken(format_args!("{at}: replacing {who}"), &broken);
        }
    }
}

/// Works on hands of equal size, each on a thread of its own.
pub(super) fn deal<T: Send>(all: Vec<T>, work: impl Fn(usize, &mut [T]) + Sync) {
    let mut hands: Vec<Vec<T>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (place, one) in all.into_iter().enumerate() {
        hands[place % THREADS].push(one);
    }
    thread::scope(|scope| {
        for (thread, mut hand) in hands.into_iter().enumerate() {
            let work = &work;
            scope.spawn(move || work(thread, &mut hand));
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn everybody_is_dealt_once() {
        let seen = Mutex::new(Vec::new());
        deal((0..11).collect(), |thread, hand| {
            seen.lock().unwrap().extend(hand.iter().map(|one| (*one, thread)));
        });
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (0..11).map(|one| (one, one % THREADS)).collect::<Vec<_>>());
    }
}
