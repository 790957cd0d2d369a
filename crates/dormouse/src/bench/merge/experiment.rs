//! One way to merge, with one number of sandboxes after the other.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use report::merge::{MergeCase, MergeOutcome, MergeSetting, MergeWay, MergeWayResult, MergeWorker, Merging};
use report::stats::Summary;

use super::crowd::{Crowd, REQUESTS_KNOWN, Tally};
use super::ksm::{self, Scanner};
use super::merger::{Merger, OurCommand};
use crate::bench::environment;
use crate::bench::error::{BenchError, with_causes};
use crate::bench::keep::micros_since;
use crate::bench::samples::Answers;
use crate::bench::workshop::{Kind, Workshop};

/// Of what can be shared: when so much is, it counts as reached.
const REACHED: f64 = 0.95;

/// How often progress is looked at: the resolution of times.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Growth below this share of what can be shared is none: pages that change all the time come and go.
const GROWTH_MIN: f64 = 0.001;

/// After 95 %: when nothing has grown for so long, nothing more is waited for.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// Before 95 %: when nothing has grown in so many rounds through all memory, nothing will. A page needs two visits, and
/// one that did not merge for a while is passed over in some.
const ROUNDS_WITHOUT_GROWTH: u64 = 12;

/// One worker, merged in all ways.
pub(super) struct Experiment<'a> {
    /// Where workers are made.
    pub(super) workshop: &'a Workshop,
    /// Which one.
    pub(super) kind: Kind,
    /// How many, and how often.
    pub(super) setting: &'a MergeSetting,
    /// For whoever waits.
    pub(super) progress: &'a ProgressBar,
}

/// What requests cost after merging.
struct Served {
    request_us: Summary,
    faults_per_request: f64,
    copies: Option<u64>,
}

/// What the whole machine has.
struct System {
    available_bytes: u64,
    shared_memory_bytes: u64,
}

impl System {
    fn look() -> System {
        let bytes = |name| environment::bytes("/proc/meminfo", name).unwrap_or_default();
        System { available_bytes: bytes("MemAvailable"), shared_memory_bytes: bytes("Shmem") }
    }
}

impl Experiment<'_> {
    /// All cases of all ways.
    pub(super) fn run(&self, ways: &[MergeWay]) -> Result<MergeWorker, BenchError> {
        let mut answers = Answers::default();
        let mut results = Vec::new();
        for &way in ways {
            let outcome = match self.way(way, &mut answers) {
                _ if self.workshop.stop.is_asked() => return Err(BenchError::Interrupted),
                Ok(cases) => MergeOutcome::Measured(cases),
                // A way that fails leaves the others in the race.
                Err(error) => MergeOutcome::Absent { why: with_causes(&error) },
            };
            results.push(MergeWayResult { way, outcome });
        }
        Ok(MergeWorker { worker: self.kind.name().to_owned(), data: self.data(), ways: results })
    }

    /// What its memory holds, where that is not what a customer's would.
    fn data(&self) -> Option<String> {
        match self.kind {
            Kind::Synthetic => Some("100 MiB, 85 % of it the same in all, in scattered pages".to_owned()),
            kind if kind.is_network() => {
                Some(format!("{}, random weights from a fixed seed", self.workshop.engine()?))
            }
            _ => None,
        }
    }

    fn way(&self, way: MergeWay, answers: &mut Answers) -> Result<Vec<MergeCase>, BenchError> {
        let mut merger: Option<Box<dyn Merger>> = match way {
            MergeWay::Off => None,
            MergeWay::Ksm | MergeWay::KsmAdvisor | MergeWay::KsmFlat => Some(Box::new(Scanner::new(way)?)),
            MergeWay::Dormouse => Some(Box::new(OurCommand::default())),
        };
        let mut cases = Vec::new();
        for &count in &self.setting.sandboxes {
            cases.push(self.case(
                (way, count),
                merger.as_mut().map(|merger| &mut **merger as &mut dyn Merger),
                answers,
            )?);
        }
        Ok(cases)
    }

    /// One number of sandboxes: they start, are merged, answer, and end.
    fn case(
        &self,
        (way, count): (MergeWay, u64),
        mut merger: Option<&mut dyn Merger>,
        answers: &mut Answers,
    ) -> Result<MergeCase, BenchError> {
        let step = |what: &str| {
            self.progress.set_message(format!("{}: {way}, {count} sandboxes {what}", self.kind.name()));
        };
        step("start");
        let (system, tally) = (System::look(), &mut Tally::default());
        let is_marked = merger.as_ref().is_some_and(|merger| merger.marks_at_start());
        let crowd = Crowd::start(self.workshop, (self.kind, count), is_marked)?;
        crowd.all_answer(answers, tally)?;
        step("are read");
        let (before, sharable_bytes) = (crowd.resident(), crowd.content()?.repeated_bytes());
        step("are merged");
        let mut merging = match &mut merger {
            Some(merger) => Some(self.merge(*merger, &crowd, sharable_bytes)?),
            None => None,
        };
        step("answer");
        let (since, used) = (Instant::now(), merger.as_mut().and_then(|merger| merger.cpu()));
        let served = self.requests(&crowd, answers, tally)?;
        let more = merger.as_mut().and_then(|merger| Some(merger.cpu()?.saturating_sub(used?)));
        if let Some(merging) = &mut merging {
            merging.cpu_share_after = more.map(|more| more.as_secs_f64() / since.elapsed().as_secs_f64());
        }
        let (now, frames, after) = (System::look(), crowd.frames()?, crowd.resident());
        step("are joined by others");
        let cold_start_us = self.cold_starts(&crowd, answers, tally)?;
        drop(crowd);
        merger.map_or(Ok(()), Merger::end)?;
        self.progress.inc(1);
        let shared_memory_bytes = now.shared_memory_bytes.saturating_sub(system.shared_memory_bytes);
        Ok(MergeCase {
            sandboxes: count,
            before,
            after,
            footprint_bytes: frames.distinct_bytes() + shared_memory_bytes,
            system_bytes: system.available_bytes as i64 - now.available_bytes as i64,
            sharable_bytes,
            shared_bytes: frames.repeated_bytes(),
            merging,
            request_us: served.request_us,
            faults_per_request: served.faults_per_request,
            copies: merging.and(served.copies),
            cold_start_us,
            answers_right: tally.right,
            answers_wrong: tally.wrong,
        })
    }

    /// Merges, until nothing more comes or patience ends.
    fn merge(
        &self,
        merger: &mut dyn Merger,
        crowd: &Crowd<'_>,
        sharable_bytes: u64,
    ) -> Result<Merging, BenchError> {
        let patience = Duration::from_secs(self.setting.patience_s);
        let (used, started) = (merger.cpu(), Instant::now());
        let since = |used: Option<Duration>, now: Option<Duration>| {
            u64::try_from(now?.saturating_sub(used?).as_micros()).ok()
        };
        let (mut most_bytes, mut grown) = (0, (started, merger.rounds()?));
        let mut reached: Option<(u64, Option<u64>)> = None;
        merger.begin(&crowd.pids())?;
        while started.elapsed() < patience {
            if self.workshop.stop.is_asked() {
                return Err(BenchError::Interrupted);
            }
            let (rounds, shared) = (merger.rounds()?, merger.shared_bytes()?);
            if shared as f64 > most_bytes as f64 + sharable_bytes as f64 * GROWTH_MIN {
                (most_bytes, grown) = (shared, (Instant::now(), rounds));
            }
            if reached.is_none() && shared as f64 >= sharable_bytes as f64 * REACHED {
                reached = Some((micros_since(started), since(used, merger.cpu())));
            }
            let no_growth_in = rounds.saturating_sub(grown.1);
            if reached.is_some() && grown.0.elapsed() > SETTLES_WITHIN
                || no_growth_in >= ROUNDS_WITHOUT_GROWTH
            {
                break;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(Merging {
            reached_us: reached.map(|(us, _)| us),
            waited_us: micros_since(started),
            most_bytes,
            cpu_to_reach_us: reached.and_then(|(_, cpu_us)| cpu_us),
            cpu_us: since(used, merger.cpu()),
            cpu_share_after: None,
        })
    }

    /// Each sandbox is asked at least once.
    fn requests(
        &self,
        crowd: &Crowd<'_>,
        answers: &mut Answers,
        tally: &mut Tally,
    ) -> Result<Served, BenchError> {
        let (mut samples, faults, copies) = (Vec::new(), crowd.faults(), ksm::copies());
        let count = crowd.pids().len() as u64;
        let requests = self.setting.requests.max(count);
        for turn in 0..requests {
            let number = (turn / count) % REQUESTS_KNOWN;
            let woken = crowd.ask(turn, number)?;
            tally.add(answers, number, &woken.answer);
            samples.push(woken.wake_us);
        }
        let none = BenchError::Silent { worker: self.kind.name(), within_s: 0 };
        Ok(Served {
            request_us: Summary::of(&samples).ok_or(none)?,
            faults_per_request: crowd.faults().saturating_sub(faults) as f64 / requests as f64,
            copies: ksm::copies().and_then(|now| Some(now.saturating_sub(copies?))),
        })
    }

    fn cold_starts(
        &self,
        crowd: &Crowd<'_>,
        answers: &mut Answers,
        tally: &mut Tally,
    ) -> Result<Option<Summary>, BenchError> {
        let mut samples = Vec::new();
        for _ in 0..self.setting.cold_starts {
            let woken = crowd.cold_start(0)?;
            tally.add(answers, 0, &woken.answer);
            samples.push(woken.wake_us);
        }
        Ok(Summary::of(&samples))
    }
}
