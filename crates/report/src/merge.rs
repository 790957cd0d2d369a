//! The result of `dormouse bench merge`: the shape that `--json` writes, and what was to be reached. The table is in
//! `table.rs`, the chart in `merge_chart`.

mod bars;
mod table;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bench::Environment;
use crate::stats::Summary;

/// One run of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeBench {
    /// Where it ran.
    pub environment: Environment,
    /// What it was told to do.
    pub setting: MergeSetting,
    /// What came out, by worker.
    pub workers: Vec<MergeWorker>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// The knobs of the experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeSetting {
    /// How many sandboxes stand side by side, one case after the other; upwards.
    pub sandboxes: Vec<u64>,
    /// Requests in each case, after merging.
    pub requests: u64,
    /// Cold starts in each case, beside those that are merged.
    pub cold_starts: u64,
    /// For how long merging is waited for in each case.
    pub patience_s: u64,
    /// `pinned` or `random`.
    pub layout: String,
}

/// Everything about one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeWorker {
    /// Its name.
    pub worker: String,
    /// What its memory holds, where that is not what a customer's would.
    pub data: Option<String>,
    /// Each way, in the order of the table.
    pub ways: Vec<MergeWayResult>,
}

/// One way to merge the memory of one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeWayResult {
    /// The way.
    pub way: MergeWay,
    /// What came out.
    pub outcome: MergeOutcome,
}

/// A way to keep equal pages of running processes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergeWay {
    /// Not at all: the measure for the others.
    Off,
    /// The kernel's scanner with the settings that it comes with.
    Ksm,
    /// The same, adjusted by the kernel's own advisor.
    KsmAdvisor,
    /// The same, never pausing.
    KsmFlat,
    /// Ours.
    Dormouse,
}

impl MergeWay {
    /// Every way, in the order of the table.
    pub const ALL: [MergeWay; 5] =
        [MergeWay::Off, MergeWay::Ksm, MergeWay::KsmAdvisor, MergeWay::KsmFlat, MergeWay::Dormouse];
}

impl fmt::Display for MergeWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            MergeWay::Off => "off",
            MergeWay::Ksm => "ksm",
            MergeWay::KsmAdvisor => "ksm-advisor",
            MergeWay::KsmFlat => "ksm-flat",
            MergeWay::Dormouse => "dormouse",
        })
    }
}

/// No way has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ways are off, ksm, ksm-advisor, ksm-flat and dormouse")]
pub struct UnknownMergeWay;

impl FromStr for MergeWay {
    type Err = UnknownMergeWay;

    fn from_str(text: &str) -> Result<Self, UnknownMergeWay> {
        MergeWay::ALL.into_iter().find(|way| way.to_string() == text).ok_or(UnknownMergeWay)
    }
}

/// Whether there are figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergeOutcome {
    /// There are: a case for each number of sandboxes.
    Measured(Vec<MergeCase>),
    /// There are none.
    Absent {
        /// Why, in words for the table.
        why: String,
    },
}

/// One way with one number of sandboxes. Memory after merging is taken after each sandbox has answered a further request:
/// right after merging it is lower, as pages that nobody has touched since are nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeCase {
    /// How many stood side by side.
    pub sandboxes: u64,
    /// Memory of one, on average, before anything was merged.
    pub before: Resident,
    /// The same at the end.
    pub after: Resident,
    /// Frames of memory that hold private pages of all of them together, each counted once, and the shared memory that
    /// merging made, at the end.
    pub footprint_bytes: u64,
    /// By how much the machine's available memory was smaller at the end than before the first started.
    pub system_bytes: i64,
    /// What equal private pages take beyond the first of each, counted by their content before anything was merged.
    pub sharable_bytes: u64,
    /// What private pages would take beyond the frames that they stand in, at the end.
    pub shared_bytes: u64,
    /// How merging went; absent where nothing is merged.
    pub merging: Option<Merging>,
    /// From a request to its answer, one after the other, after merging.
    pub request_us: Summary,
    /// Page faults of one of these requests, on average.
    pub faults_per_request: f64,
    /// Merged pages that were copied because somebody wrote to them, in these requests; as the kernel counts them for KSM.
    pub copies: Option<u64>,
    /// From the start of one more sandbox to its first answer, while the others are there.
    pub cold_start_us: Option<Summary>,
    /// Answers that were what they should be.
    pub answers_right: u64,
    /// Answers that were not.
    pub answers_wrong: u64,
}

/// What one process has in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// Each page counted whole.
    pub rss_bytes: u64,
    /// Each page divided by the number of those who have it.
    pub pss_bytes: u64,
}

/// How merging went, from its beginning, with all sandboxes there and nothing merged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merging {
    /// Until 95 % of what can be shared was shared; absent: it was not reached.
    pub reached_us: Option<u64>,
    /// Until no more came, or nobody waited any longer.
    pub waited_us: u64,
    /// The most that was shared in that time.
    pub most_bytes: u64,
    /// Processor time until 95 % were reached, where the kernel tells.
    pub cpu_to_reach_us: Option<u64>,
    /// Processor time until the end of the wait.
    pub cpu_us: Option<u64>,
    /// Share of a processor that merging took afterwards, while requests were served.
    pub cpu_share_after: Option<f64>,
}

impl MergeWorker {
    /// The cases of one way; none where there are no figures.
    pub fn cases(&self, way: MergeWay) -> &[MergeCase] {
        let result = self.ways.iter().find(|result| result.way == way);
        match result.map(|result| &result.outcome) {
            Some(MergeOutcome::Measured(cases)) => cases,
            _ => &[],
        }
    }

    /// One case.
    pub fn case(&self, way: MergeWay, sandboxes: u64) -> Option<&MergeCase> {
        self.cases(way).iter().find(|case| case.sandboxes == sandboxes)
    }
}

impl MergeBench {
    /// Answers that were not what they should be, over all workers, ways and cases.
    pub fn answers_wrong(&self) -> u64 {
        let cases =
            |worker: &MergeWorker| MergeWay::ALL.iter().flat_map(|&way| worker.cases(way).to_vec()).collect();
        self.workers
            .iter()
            .flat_map(|worker| -> Vec<MergeCase> { cases(worker) })
            .map(|c| c.answers_wrong)
            .sum()
    }
}

/// Figures for the tests of the table and of the chart.
#[cfg(test)]
pub(crate) mod specimen {
    use super::*;

    fn case(way: MergeWay, sandboxes: u64) -> MergeCase {
        let summary = |us: u64| Summary { count: 11, min: us, p50: us, p99: us * 2, max: us * 2 };
        let (one, common) = (400u64 << 20, 300u64 << 20);
        let sharable_bytes = common * (sandboxes - 1);
        let is_merged = way != MergeWay::Off;
        let shared_bytes = if is_merged { sharable_bytes } else { 0 };
        let pss_bytes = one - shared_bytes / sandboxes;
        let us = match way {
            MergeWay::Dormouse => 20_000,
            MergeWay::KsmFlat => 400_000,
            _ => 100_000_000,
        };
        let merging = Merging {
            reached_us: (way != MergeWay::KsmAdvisor).then_some(us * sandboxes),
            waited_us: us * sandboxes,
            most_bytes: shared_bytes,
            cpu_to_reach_us: (way != MergeWay::KsmAdvisor).then_some(us * sandboxes),
            cpu_us: Some(us * sandboxes),
            cpu_share_after: Some(if way == MergeWay::KsmFlat { 0.98 } else { 0.02 }),
        };
        MergeCase {
            sandboxes,
            before: Resident { rss_bytes: one, pss_bytes: one },
            after: Resident { rss_bytes: one, pss_bytes },
            footprint_bytes: one * sandboxes - shared_bytes,
            system_bytes: (one * sandboxes - shared_bytes) as i64,
            sharable_bytes,
            shared_bytes,
            merging: is_merged.then_some(merging),
            request_us: summary(120_000),
            faults_per_request: 321.4,
            copies: is_merged.then_some(17),
            cold_start_us: Some(summary(1_900_000)),
            answers_right: 30,
            answers_wrong: 0,
        }
    }

    pub(crate) fn bench() -> MergeBench {
        let sandboxes = vec![1, 2, 4, 8, 16];
        let result = |way| {
            let cases = sandboxes.iter().map(|&count| case(way, count)).collect();
            let outcome = match way {
                MergeWay::Ksm => MergeOutcome::Absent { why: "this kernel has no KSM".to_owned() },
                _ => MergeOutcome::Measured(cases),
            };
            MergeWayResult { way, outcome }
        };
        let worker = MergeWorker {
            worker: "alexnet".to_owned(),
            data: Some("torch 1.13.1, random weights from a fixed seed".to_owned()),
            ways: MergeWay::ALL.map(result).to_vec(),
        };
        let setting = MergeSetting {
            sandboxes,
            requests: 16,
            cold_starts: 3,
            patience_s: 120,
            layout: "pinned".to_owned(),
        };
        let environment = crate::bench::specimen::bench().environment;
        MergeBench { environment, setting, workers: vec![worker], notes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_as_it_went() {
        let bench = specimen::bench();
        let text = serde_json::to_string(&bench).unwrap();
        assert_eq!(serde_json::from_str::<MergeBench>(&text).unwrap(), bench);
    }

    #[test]
    fn names_of_ways_are_read_as_they_are_written() {
        for way in MergeWay::ALL {
            assert_eq!(way.to_string().parse(), Ok(way));
            assert_eq!(serde_json::to_string(&way).unwrap(), format!("\"{way}\""));
        }
        assert_eq!("uksm".parse::<MergeWay>(), Err(UnknownMergeWay));
    }
}
