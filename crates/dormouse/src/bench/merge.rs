//! `dormouse bench merge`: the experiment of UPM (arXiv 2311.13588) beside the kernel's own merging, in one run. Sandboxes
//! that recognise images stand side by side, awake; their equal pages are merged in each of the ways. What is done in
//! one case is in `merge/experiment.rs`.

mod crowd;
mod experiment;
mod ksm;
mod merger;
mod pages_of;
mod processor_time;

use report::merge::{MergeBench, MergeSetting, MergeWay};

use self::experiment::Experiment;
use super::error::BenchError;
use super::files::Files;
use super::workshop::{Kind, Placing, Workshop};
use super::{environment, progress, start};
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

pub(super) use self::ksm::what_lacks;

/// What runs unless workers are named.
const WORKERS: [Kind; 2] = [Kind::Resnet50, Kind::Alexnet];
const QUICK_WORKERS: [Kind; 1] = [Kind::Synthetic];
const QUICK_WAYS: [MergeWay; 2] = [MergeWay::Off, MergeWay::KsmFlat];
const SANDBOXES: [u64; 5] = [1, 2, 4, 8, 16];
const QUICK_SANDBOXES: [u64; 3] = [1, 2, 4];
/// At its defaults KSM takes ten minutes for sixteen: that it takes long is seen sooner.
const PATIENCE_S: u64 = 120;
const QUICK_PATIENCE_S: u64 = 20;
const REQUESTS: u64 = 11;
const QUICK_REQUESTS: u64 = 5;
/// In each case, so that all cases of a way have more than eleven.
const COLD_STARTS: u64 = 3;
const QUICK_COLD_STARTS: u64 = 1;
/// Reading, requests and the end of one case, about, and as much again for each sandbox.
const CASE_MS: u64 = 5000;

/// Medians and means over the paper's own measurements.
const THE_PAPER: &str = "UPM's paper, 16 containers, patched Linux 4.15: memory of the system -21 % (ResNet-50) and -55 % (AlexNet), \
     PSS 303 to 225 MiB and 397 to 165 MiB, cold starts +10 to +14 % and +73 %";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse bench merge --quick
  sudo apt install python3-torch
  DORMOUSE_PYTHON=/usr/bin/python3 dormouse bench merge --json merge.json --svg merge.svg
  dormouse bench merge --workers alexnet --ways off,ksm-flat --sandboxes 4,16 --layout random

Needs root, and for images torch or onnxruntime in Python; their weights are random, from a fixed seed. KSM is set up for the \
bench and put back after it, also after Ctrl-C; where somebody uses it, it is left alone. Let nothing else run: memory is also \
taken of the whole system.")]
pub(crate) struct Args {
    /// No networks, few sandboxes, only KSM flat out: less than a minute, rougher figures
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    files: Files,
    /// Fail if dormouse misses a bar: 70 % of the memory saved, ten times sooner than KSM flat out, no more processor time
    #[arg(long)]
    assert: bool,
    /// Numbers of sandboxes side by side, separated by commas [default: 1,2,4,8,16, quick: 1,2,4]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=99))]
    sandboxes: Vec<u64>,
    /// Requests in each case, after merging; each sandbox answers at least one [default: 11, quick: 5]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    requests: Option<u64>,
    /// Seconds that merging may take in each case [default: 120, quick: 20]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: Option<u64>,
    /// Where memory lies
    #[arg(long, value_enum, default_value_t = Placing::Pinned)]
    layout: Placing,
    /// What to run, separated by commas [default: resnet50,alexnet, quick: synthetic]
    #[arg(long, value_enum, value_delimiter = ',')]
    workers: Vec<Kind>,
    /// Ways to compare, separated by commas: off, ksm, ksm-advisor, ksm-flat, dormouse [default: all, quick: off,ksm-flat]
    #[arg(long, value_delimiter = ',')]
    ways: Vec<MergeWay>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (_runtime, stop) = start()?;
    let bench = measure(args, stop)?;
    args.files.write(&bench, &bench.table(output::width()), || report::merge_chart::svg(&bench))?;
    let missed = if args.assert { bench.missed() } else { Vec::new() };
    match bench.answers_wrong() {
        0 if missed.is_empty() => Ok(()),
        0 => Err(Failure::new(format!("missed: {}", missed.join("; ")))),
        wrong => Err(Failure::new(format!("{wrong} answers were not what they should be"))),
    }
}

fn measure(args: &Args, stop: Stop) -> Result<MergeBench, BenchError> {
    if !rustix::process::geteuid().is_root() {
        let why = "only root is told which page frames processes have".to_owned();
        return Err(BenchError::Absent { why });
    }
    let setting = setting(args);
    let workshop = Workshop::open(args.layout, stop)?;
    let (kinds, mut notes) = workshop
        .runnable(if args.workers.is_empty() { default_kinds(args.quick) } else { &args.workers }, &[])?;
    let ways = match args.ways.as_slice() {
        [] if args.quick => &QUICK_WAYS[..],
        [] => &MergeWay::ALL,
        ways => ways,
    };
    if !args.quick {
        let minutes = about_s(&kinds, ways, &setting).div_ceil(60);
        output::note(&format!("about {minutes} minutes at most; --quick takes less than one"));
    }
    notes.extend(how_it_counts());
    if kinds.iter().any(|kind| kind.is_network()) {
        notes.push(THE_PAPER.to_owned());
    }
    let environment = environment::look(&workshop, None);
    let progress = progress::bar((kinds.len() * ways.len() * setting.sandboxes.len()) as u64);
    let mut workers = Vec::new();
    for kind in kinds {
        let experiment = Experiment { workshop: &workshop, kind, setting: &setting, progress: &progress };
        workers.push(experiment.run(ways)?);
    }
    progress.finish_and_clear();
    Ok(MergeBench { environment, setting, workers, notes })
}

fn default_kinds(quick: bool) -> &'static [Kind] {
    if quick { &QUICK_WORKERS } else { &WORKERS }
}

fn setting(args: &Args) -> MergeSetting {
    let quick = |quick, otherwise| if args.quick { quick } else { otherwise };
    let mut sandboxes = match args.sandboxes.as_slice() {
        [] if args.quick => QUICK_SANDBOXES.to_vec(),
        [] => SANDBOXES.to_vec(),
        named => named.to_vec(),
    };
    sandboxes.sort_unstable();
    sandboxes.dedup();
    MergeSetting {
        sandboxes,
        requests: args.requests.unwrap_or(quick(QUICK_REQUESTS, REQUESTS)),
        cold_starts: quick(QUICK_COLD_STARTS, COLD_STARTS),
        patience_s: args.patience.unwrap_or(quick(QUICK_PATIENCE_S, PATIENCE_S)),
        layout: args.layout.name().to_owned(),
    }
}

/// About how many seconds at most: KSM at its own pace uses up all patience.
fn about_s(kinds: &[Kind], ways: &[MergeWay], setting: &MergeSetting) -> u64 {
    let case_ms = |kind: &Kind, count: u64| CASE_MS + kind.start_ms() * (count + setting.cold_starts);
    let waits = ways.iter().filter(|way| matches!(way, MergeWay::Ksm | MergeWay::KsmAdvisor)).count() as u64;
    let of_kind = |kind| {
        let cases: u64 = setting.sandboxes.iter().map(|&count| case_ms(kind, count)).sum();
        cases * ways.len() as u64 / 1000 + waits * setting.patience_s * setting.sandboxes.len() as u64
    };
    kinds.iter().map(of_kind).sum()
}

fn how_it_counts() -> [String; 6] {
    let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    [
        format!("transparent huge pages here: {}", huge.trim()),
        "n: sandboxes side by side. RSS, PSS: of one, after each has answered a further request. system: what the whole \
         machine had less available than before the first started"
            .to_owned(),
        "footprint: frames that hold private pages of any of them, each counted once, and the shared memory that came \
         meanwhile"
            .to_owned(),
        "to 95 %: of what can be shared, from the moment when all stand there unmerged; what can be shared is counted by \
         the content of all private pages"
            .to_owned(),
        "CPU: of whoever merges, until 95 % or the end of the wait; after: its share of a processor while requests are \
         served, when nothing is left to merge"
            .to_owned(),
        "for KSM all private memory is marked from the start (PR_SET_MEMORY_MERGE); it stands still until all are warm"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_known_before() {
        let setting = |quick| MergeSetting {
            sandboxes: if quick { QUICK_SANDBOXES.to_vec() } else { SANDBOXES.to_vec() },
            cold_starts: COLD_STARTS,
            patience_s: if quick { QUICK_PATIENCE_S } else { PATIENCE_S },
            ..MergeSetting::default()
        };
        assert!(about_s(&QUICK_WORKERS, &QUICK_WAYS, &setting(true)) < 60);
        let minutes = about_s(&WORKERS, &MergeWay::ALL, &setting(false)) / 60;
        assert!((40..=60).contains(&minutes), "{minutes}");
    }
}
