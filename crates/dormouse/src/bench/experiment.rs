//! The rounds of `dormouse bench sleep`. All ways take their turn in every round, so that what disturbs the machine
//! disturbs them all.

use indicatif::ProgressBar;
use protocol::Depth;
use report::bench::{Outcome, Setting, Way, WayResult, WorkerResult};
use tokio::runtime::Handle;

use super::cold::Cold;
use super::criu::{Criu, Dumped};
use super::error::{BenchError, with_causes};
use super::frozen::Frozen;
use super::keep::Keep;
use super::ours::{Ours, Own};
use super::samples::{Answers, Samples};
use super::workshop::{Kind, Workshop};
use super::zram::{Swapped, Zram};

/// The rivals that need something from the system: themselves, or why they are not to be had.
pub(crate) struct Rivals {
    /// Swap in compressed memory.
    pub(crate) zram: Result<Zram, String>,
    /// Checkpoint and restore.
    pub(crate) criu: Result<Criu, String>,
}

impl Rivals {
    /// Sets up what the `ways` need; dropping it puts everything back.
    pub(crate) fn set_up(ways: &[Way]) -> Rivals {
        let wanted = |way| if ways.contains(&way) { Ok(()) } else { Err("not asked for".to_owned()) };
        Rivals {
            zram: wanted(Way::Zram).and_then(|()| Zram::set_up()),
            criu: wanted(Way::Criu).and_then(|()| Criu::find()),
        }
    }
}

/// One worker, kept in all ways.
pub(crate) struct Experiment<'a> {
    /// Where workers are made.
    pub(crate) workshop: &'a Workshop,
    /// Which one.
    pub(crate) kind: Kind,
    /// How often, and how many.
    pub(crate) setting: &'a Setting,
    /// What the ways need.
    pub(crate) rivals: &'a Rivals,
    /// For the calls of the node.
    pub(crate) runtime: &'a Handle,
    /// For whoever waits.
    pub(crate) progress: &'a ProgressBar,
}

/// One way in the middle of the experiment: it takes part, or says why it does not.
struct Contender<'a> {
    way: Way,
    keep: Result<Box<dyn Keep + 'a>, String>,
    samples: Samples,
}

impl<'a> Experiment<'a> {
    /// All rounds of all ways.
    pub(crate) fn run(&self, ways: &[Way]) -> Result<WorkerResult, BenchError> {
        let own = Own::look(ways)?;
        let mut contenders = Vec::new();
        for &way in ways {
            self.step(way, "starts")?;
            let keep = self.contain(self.start(way, own))?;
            contenders.push(Contender { way, keep, samples: Samples::default() });
        }
        let mut answers = Answers::default();
        let count = contenders.len();
        // The round before the first warms up.
        for round in 0..=self.setting.rounds {
            for place in 0..count {
                // Another one begins in each round, so that none always follows the same.
                let place = (place + round as usize) % count;
                if let Some(contender) = contenders.get_mut(place) {
                    self.round(contender, &mut answers, round)?;
                }
            }
        }
        for contender in &mut contenders {
            self.disturb(contender, &mut answers)?;
        }
        Ok(WorkerResult {
            worker: self.kind.name().to_owned(),
            ways: contenders.into_iter().map(Contender::result).collect(),
        })
    }

    fn start_ours(&self, depth: Depth, own: Own) -> Result<Ours, BenchError> {
        let sandboxes = self.setting.sandboxes as usize;
        Ours::start(self.workshop, (self.kind, depth), sandboxes, own, self.runtime)
    }

    fn start(&self, way: Way, own: Own) -> Result<Box<dyn Keep + 'a>, BenchError> {
        let absent = |why: &String| BenchError::Absent { why: why.clone() };
        Ok(match way {
            Way::Frozen => Box::new(Frozen::start(self.workshop, self.kind)?),
            Way::Dormouse => Box::new(self.start_ours(Depth::Deep, own)?),
            Way::Light => Box::new(self.start_ours(Depth::Light, own)?),
            Way::Zram => Box::new(Swapped::start(
                self.workshop,
                self.kind,
                self.rivals.zram.as_ref().map_err(absent)?,
            )?),
            Way::Criu => {
                Box::new(Dumped::start(self.workshop, self.kind, self.rivals.criu.as_ref().map_err(absent)?)?)
            }
            Way::Cold => Box::new(Cold::start(self.workshop, self.kind)?),
        })
    }

    fn round(
        &self,
        contender: &mut Contender<'a>,
        answers: &mut Answers,
        round: u64,
    ) -> Result<(), BenchError> {
        self.step(contender.way, &format!("round {round} of {}", self.setting.rounds))?;
        let Ok(keep) = &mut contender.keep else { return Ok(()) };
        let slept_and_woke = keep.sleep().and_then(|asleep| Ok((asleep, keep.wake(round)?)));
        match self.contain(slept_and_woke)? {
            Ok((asleep, woken)) => contender.samples.add(answers, round, &asleep, woken, round > 0),
            Err(why) => contender.keep = Err(why), // Dropped: nothing of it is left.
        }
        Ok(())
    }

    /// Requests that come while it falls asleep, at moments that are spread over the time that it needs.
    fn disturb(&self, contender: &mut Contender<'a>, answers: &mut Answers) -> Result<(), BenchError> {
        let rounds = self.setting.rounds;
        for round in 1..=rounds {
            let Ok(keep) = &mut contender.keep else { return Ok(()) };
            let part = (round as f64 - 0.5) / rounds as f64;
            match self.contain(keep.disturb(round, part))? {
                Ok(None) => return Ok(()),
                Ok(Some(woken)) => contender.samples.add_disturbed(answers, round, woken),
                Err(why) => contender.keep = Err(why),
            }
        }
        Ok(())
    }

    /// A way that fails leaves the others in the race. An interruption ends the race, also where it looks like the
    /// failure of a program that was interrupted with us.
    fn contain<T>(&self, result: Result<T, BenchError>) -> Result<Result<T, String>, BenchError> {
        match result {
            _ if self.workshop.stop.is_asked() => Err(BenchError::Interrupted),
            result => Ok(result.map_err(|error| with_causes(&error))),
        }
    }

    fn step(&self, way: Way, what: &str) -> Result<(), BenchError> {
        self.progress.set_message(format!("{}: {} {what}", self.kind.name(), way.label()));
        self.progress.inc(1);
        if self.workshop.stop.is_asked() { Err(BenchError::Interrupted) } else { Ok(()) }
    }
}

impl Contender<'_> {
    fn result(self) -> WayResult {
        let outcome = match self.keep {
            Ok(keep) => self.samples.outcome(keep.first_sleeps_us()),
            Err(why) => Outcome::Absent { why },
        };
        WayResult { way: self.way, outcome }
    }
}
