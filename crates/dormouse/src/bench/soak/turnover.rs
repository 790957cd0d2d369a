//! A lineage gets another base: all of it wake, one falls asleep first, the others after it; then something happens to
//! the first, and the others must still have their memory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use node::NodeConfig;

use super::act::{Act, Fate, Moment, NUMBERS};
use super::chance::Chance;
use super::crew::At;
use super::stage::{Seat, Stage};
use super::tally::Promise;
use crate::bench::workshop::Kind;

/// Of those that slept on, this many are compared byte by byte.
const COMPARED: usize = 3;
/// What woke without its whole memory has it soon.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);
/// How often to look. A look reads `/proc` for each sandbox.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Stage<'_> {
    /// Replaces the base of one kind.
    pub(super) fn turn_over(&self, at: At, kind: Kind, seats: &mut [Seat], chance: &mut Chance) {
        self.each(at, of_kind(seats, kind), |_| Act::Wake);
        self.await_no_base(at, seats);
        let mut lineage = of_kind(seats, kind);
        chance.shuffle(&mut lineage);
        let Some((base, others)) = lineage.split_first_mut() else { return };
        self.act(at, base, Act::Sleep);
        self.each(at, again(others), |_| Act::Sleep);
        match Fate::choose(chance) {
            Fate::Stays => {}
            Fate::Wakes(number) => self.act(at, base, Act::Invoke(number)),
            Fate::Dies(death) => self.act(at, base, Act::Die(death, Moment::Still)),
        }
        self.tally.count("bases replaced");
        let compared = others.len().min(COMPARED);
        let (compared, asked) = others.split_at_mut(compared);
        self.each(at, again(compared), |_| Act::Check);
        if let Some(asked) = asked.first_mut() {
            self.act(at, asked, Act::Invoke(chance.below(NUMBERS)));
        }
    }

    /// Waits until there are no more bases than those that sleep can have.
    fn await_no_base(&self, at: At, seats: &[Seat]) {
        let per_base = NodeConfig::new(PathBuf::new()).sleepers_per_base.max(1);
        let asleep: BTreeSet<_> =
            seats.iter().filter(|seat| seat.is_asleep()).map(|seat| seat.kind.name()).collect();
        let members = |name: &&str| seats.iter().filter(|seat| seat.kind.name() == *name).count();
        let most: u64 = asleep.iter().map(|name| 1 + (members(name) / per_base) as u64).sum();
        self.await_promise(at, Promise::BaseGoes, || match self.node.record().bases {
            bases if bases <= most => Ok(()),
            bases => Err(format!("{bases} bases, and those that sleep can have {most}")),
        });
    }

    /// Waits until all of them have all their memory. The store then has nothing but what is known to be unchanged in
    /// those that are awake.
    pub(super) fn await_all_back(&self, at: At) {
        self.await_promise(at, Promise::Empty, || {
            let record = self.node.record();
            let is_empty = record.shadows == 0;
            let [pages, tables] =
                if is_empty { [record.store_pages, record.store_table_bytes] } else { [0; 2] };
            let left = [
                (record.coming_back, "sandboxes without all their memory"),
                (pages, "pages"),
                (tables, "bytes of tables and registry"),
                (record.bases, "bases"),
                (record.store_strays, "strays"),
            ];
            match left.iter().all(|(count, _)| *count == 0) {
                true => Ok(()),
                false => Err(format!("the store has {left:?}")),
            }
        });
    }

    /// Waits for what comes true by itself, and not at once.
    fn await_promise(&self, at: At, promise: Promise, look: impl Fn() -> Result<(), String>) {
        let started = Instant::now();
        let result = loop {
            match look() {
                Err(_) if started.elapsed() < WHOLE_WITHIN && !self.workshop.stop.is_asked() => {
                    std::thread::sleep(LOOK_EVERY);
                }
                result => break result,
            }
        };
        if !self.workshop.stop.is_asked() && !self.tally.must_end() {
            self.tally.judge(at, promise, result);
        }
    }
}

fn of_kind(seats: &mut [Seat], kind: Kind) -> Vec<&mut Seat> {
    seats.iter_mut().filter(|seat| seat.kind == kind).collect()
}

/// The same, lent once more.
fn again<'a>(seats: &'a mut [&mut Seat]) -> Vec<&'a mut Seat> {
    seats.iter_mut().map(|seat| &mut **seat).collect()
}
