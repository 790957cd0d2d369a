//! The result of `dormouse bench sleep`: the shape that `--json` writes. The table is in `table.rs`.

mod table;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::quantity::bytes;
use crate::stats::{self, Summary};

/// One run of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SleepBench {
    /// Where it ran.
    pub environment: Environment,
    /// What it was told to do.
    pub setting: Setting,
    /// What came out, by worker.
    pub workers: Vec<WorkerResult>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// The machine and the programs, as far as they bear on the figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Kernel release.
    pub kernel: String,
    /// Processor, as the kernel names it.
    pub cpu: String,
    /// Processors online.
    pub cpus: u64,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Version of this program.
    pub dormouse: String,
    /// Version of the interpreter that runs the workers.
    pub python: String,
    /// Version of CRIU, where there is one.
    pub criu: Option<String>,
    /// How processes are stopped in the bench.
    pub stop_by: String,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Environment { kernel, cpus, cpu, python, stop_by, .. } = self;
        let memory = bytes(self.memory_bytes);
        write!(f, "Linux {kernel}, {cpus} CPUs ({cpu}), {memory}; Python {python}; stopped by {stop_by}")
    }
}

/// The knobs of the experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Measured sleeps and wakes, each way.
    pub rounds: u64,
    /// Sandboxes of each worker that dormouse keeps; the other ways share nothing and have one.
    pub sandboxes: u64,
    /// `pinned` or `random`.
    pub layout: String,
}

/// Everything about one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerResult {
    /// Its name.
    pub worker: String,
    /// Each way, in the order of the table.
    pub ways: Vec<WayResult>,
}

/// One way to keep one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WayResult {
    /// The way.
    pub way: Way,
    /// What came out.
    pub outcome: Outcome,
}

/// A way to keep an idle function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Stopped, all memory resident: the measure for the others.
    Frozen,
    /// Asleep, all memory out.
    Dormouse,
    /// Asleep, all but the working set out.
    Light,
    /// Stopped, memory swapped out to compressed memory.
    Zram,
    /// Dumped to an image and killed.
    Criu,
    /// Killed.
    Cold,
}

impl Way {
    /// Every way, in the order of the table.
    pub const ALL: [Way; 6] = [Way::Frozen, Way::Dormouse, Way::Light, Way::Zram, Way::Criu, Way::Cold];

    /// What the table calls it.
    pub fn label(self) -> &'static str {
        match self {
            Way::Frozen => "frozen, memory resident",
            Way::Dormouse => "dormouse",
            Way::Light => "dormouse, light sleep",
            Way::Zram => "frozen, swapped to zram",
            Way::Criu => "CRIU image",
            Way::Cold => "killed, cold start",
        }
    }
}

/// Whether there are figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "there are a few dozen, most of them measured")]
pub enum Outcome {
    /// There are.
    Measured(Measured),
    /// There are none.
    Absent {
        /// Why, in words for the table.
        why: String,
    },
}

/// What a sandbox that dormouse keeps costs, by where it stands; in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptParts {
    /// Private memory that stays in the process.
    pub resident_bytes: u64,
    /// Page tables, stacks and whatever else the kernel keeps for it.
    pub kernel_bytes: u64,
    /// Its part of the pages in the store.
    pub store_bytes: u64,
    /// Its part of manifests, tables, and whatever else made this program grow.
    pub table_bytes: u64,
}

impl fmt::Display for KeptParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [resident, kernel, store, table] =
            [self.resident_bytes, self.kernel_bytes, self.store_bytes, self.table_bytes].map(bytes);
        write!(
            f,
            "{resident} in the process, {kernel} in the kernel, {store} in the store, {table} in tables"
        )
    }
}

/// The figures of one way and one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Private memory of one warm sandbox.
    pub warm_bytes: u64,
    /// What one sandbox costs while it is kept this way, everything counted.
    pub kept_bytes: u64,
    /// The same in parts at the last sleep, where they are known.
    #[serde(default)]
    pub kept_parts: Option<KeptParts>,
    /// The same the first time, when all its memory has to be encoded; absent where nothing is.
    #[serde(default)]
    pub first_sleep_us: Option<Summary>,
    /// From the command until it sleeps; absent where there is nothing to wait for.
    pub sleep_us: Option<Summary>,
    /// From a request that comes while it falls asleep until the answer to it is in hand.
    #[serde(default)]
    pub disturbed_us: Option<Summary>,
    /// From the command to wake it until the answer to a request is in hand.
    pub wake_us: Summary,
    /// Answers that were what they should be.
    pub answers_right: u64,
    /// Answers that were not.
    pub answers_wrong: u64,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Frozen => "frozen",
            Way::Dormouse => "dormouse",
            Way::Light => "light",
            Way::Zram => "zram",
            Way::Criu => "criu",
            Way::Cold => "cold",
        })
    }
}

/// No way has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ways are frozen, dormouse, light, zram, criu and cold")]
pub struct UnknownWay;

impl FromStr for Way {
    type Err = UnknownWay;

    fn from_str(text: &str) -> Result<Self, UnknownWay> {
        Way::ALL.into_iter().find(|way| way.to_string() == text).ok_or(UnknownWay)
    }
}

impl WorkerResult {
    /// The figures of one way.
    pub fn measured(&self, way: Way) -> Option<&Measured> {
        self.ways.iter().find(|result| result.way == way).and_then(|result| match &result.outcome {
            Outcome::Measured(measured) => Some(measured),
            Outcome::Absent { .. } => None,
        })
    }

    /// Median wake of `way` over that of the frozen warm process.
    pub fn ratio_to_frozen(&self, way: Way) -> Option<f64> {
        stats::ratio(self.measured(way)?.wake_us.p50, self.measured(Way::Frozen)?.wake_us.p50)
    }
}

impl SleepBench {
    /// Answers that were not what they should be, over all ways and workers.
    pub fn answers_wrong(&self) -> u64 {
        let measured = |worker: &WorkerResult| {
            Way::ALL.iter().filter_map(|&way| worker.measured(way)).map(|m| m.answers_wrong).sum::<u64>()
        };
        self.workers.iter().map(measured).sum()
    }
}

/// Figures for the tests of the table and of the chart.
#[cfg(test)]
pub(crate) mod specimen {
    use super::*;

    fn measured(warm: u64, kept: u64, sleep: Option<u64>, wake: u64) -> Outcome {
        let summary = |us: u64| Summary { count: 11, min: us, p50: us, p99: us * 2, max: us * 2 };
        Outcome::Measured(Measured {
            warm_bytes: warm << 10,
            kept_bytes: kept << 10,
            kept_parts: None,
            first_sleep_us: None,
            sleep_us: sleep.map(summary),
            disturbed_us: None,
            wake_us: summary(wake),
            answers_right: 11,
            answers_wrong: 0,
        })
    }

    fn worker(name: &str, warm_kib: u64, frozen_us: u64, cold_us: u64) -> WorkerResult {
        let mut outcomes = [
            measured(warm_kib, warm_kib + 300, Some(90), frozen_us),
            measured(warm_kib, 500 + warm_kib / 100, Some(warm_kib), frozen_us * 2 + warm_kib / 8),
            measured(warm_kib, warm_kib * 3 / 10, Some(warm_kib), frozen_us * 2),
            measured(warm_kib, warm_kib * 45 / 100, Some(warm_kib * 2), frozen_us + warm_kib * 3 / 4),
            Outcome::Absent { why: "not installed".to_owned() },
            measured(warm_kib, 0, None, cold_us),
        ];
        assert_eq!(outcomes.len(), Way::ALL.len());
        if let Outcome::Measured(dormouse) = &mut outcomes[1] {
            let [resident_bytes, kernel_bytes, store_bytes, table_bytes] =
                [8, 292, 300, 100].map(|kib| kib << 10);
            dormouse.kept_parts = Some(KeptParts { resident_bytes, kernel_bytes, store_bytes, table_bytes });
        }
        let ways = Way::ALL.into_iter().zip(outcomes).map(|(way, outcome)| WayResult { way, outcome });
        WorkerResult { worker: name.to_owned(), ways: ways.collect() }
    }

    pub(crate) fn bench() -> SleepBench {
        let environment = Environment {
            kernel: "6.18.0".to_owned(),
            cpu: "a processor".to_owned(),
            cpus: 2,
            memory_bytes: 24 << 30,
            dormouse: "0.1.0".to_owned(),
            python: "3.11.7".to_owned(),
            criu: None,
            stop_by: "cgroup freezer".to_owned(),
        };
        SleepBench {
            environment,
            setting: Setting { rounds: 11, sandboxes: 8, layout: "pinned".to_owned() },
            workers: vec![
                worker("hello", 20_000, 1_100, 95_000),
                worker("numpy", 21_000, 2_400, 210_000),
                worker("pandas", 55_700, 3_400, 480_000),
                worker("sklearn", 105_000, 1_400, 1_800_000),
            ],
            notes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_as_it_went() {
        let bench = specimen::bench();
        let text = serde_json::to_string(&bench).unwrap();
        assert_eq!(serde_json::from_str::<SleepBench>(&text).unwrap(), bench);
    }
}
