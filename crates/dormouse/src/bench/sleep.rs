//! `dormouse bench sleep`: what an idle function costs, and how soon it answers, kept in each of the ways. The
//! rounds are in `experiment`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use report::bench::{Setting, SleepBench, Way};
use tokio::runtime::{Handle, Runtime};

use super::environment;
use super::error::BenchError;
use super::experiment::{Experiment, Rivals};
use super::workshop::{Kind, Workshop};
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

const ROUNDS: u64 = 11;
const SANDBOXES: u64 = 8;
/// Few enough that all workers are done within a minute.
const QUICK_ROUNDS: u64 = 3;
const QUICK_SANDBOXES: u64 = 3;
/// Any number does: it only has to be the same for all sandboxes of the bench.
pub(super) const LAYOUT_SECRET: u64 = 0x646f_726d_6f75_7365;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse bench sleep --quick
  dormouse bench sleep --json sleep.json --svg sleep.svg
  dormouse bench sleep --layout random --workers pandas --rounds 21

Needs Python; workers whose modules are missing are left out. DORMOUSE_PYTHON names another interpreter,
DORMOUSE_CRIU another CRIU. Swap in compressed memory is set up on /dev/zram0 and put back, also after Ctrl-C.")]
pub(crate) struct Args {
    /// Fewer rounds and sandboxes: less than a minute, rougher figures
    #[arg(long)]
    quick: bool,
    /// Write all figures here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw a chart here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Sandboxes of each worker that dormouse keeps [default: 8, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    sandboxes: Option<u64>,
    /// Measured sleeps and wakes in each way [default: 11, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rounds: Option<u64>,
    /// Where memory lies
    #[arg(long, value_enum, default_value_t = Placing::Pinned)]
    layout: Placing,
    /// What to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Hello, Kind::Numpy, Kind::Pandas, Kind::Sklearn])]
    workers: Vec<Kind>,
    /// Ways to compare: frozen, dormouse, zram, criu, cold
    #[arg(long, value_delimiter = ',', default_values_t = Way::ALL)]
    ways: Vec<Way>,
}

/// Where the memory of workers lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Placing {
    /// At the same addresses in all of a kind, with the same hash seed
    Pinned,
    /// Anywhere, with random hash seeds
    Random,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::io("start the bench", &error))?;
    let stop = Stop::listen(runtime.handle()).map_err(|error| Failure::io("listen for Ctrl-C", &error))?;
    let bench = measure(args, runtime.handle(), stop)?;
    output::print(&bench.table(output::width()))?;
    if let Some(path) = &args.json {
        write(path, &output::json(&bench)?)?;
    }
    if let Some(path) = &args.svg {
        write(path, &report::chart::svg(&bench).map_err(|error| Failure::of(&error))?)?;
    }
    match bench.answers_wrong() {
        0 => Ok(()),
        wrong => Err(Failure::new(format!("{wrong} answers were not what they should be"))),
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::io(format!("write {}", path.display()), &error))
}

fn measure(args: &Args, runtime: &Handle, stop: Stop) -> Result<SleepBench, BenchError> {
    let setting = setting(args);
    let secret = (args.layout == Placing::Pinned).then_some(LAYOUT_SECRET);
    let workshop = Workshop::open(secret, stop)?;
    let (kinds, mut notes) = runnable(&workshop, &args.workers)?;
    let rivals = Rivals::set_up(&args.ways);
    notes.extend(how_it_counts());
    let environment = environment::look(&workshop, rivals.criu.as_ref().ok());
    let steps = kinds.len() as u64 * args.ways.len() as u64 * (setting.rounds + 2);
    let progress = progress_bar(steps);
    let mut workers = Vec::new();
    for kind in kinds {
        let experiment = Experiment {
            workshop: &workshop,
            kind,
            setting: &setting,
            rivals: &rivals,
            runtime,
            progress: &progress,
        };
        workers.push(experiment.run(&args.ways)?);
    }
    progress.finish_and_clear();
    Ok(SleepBench { environment, setting, workers, notes })
}

fn setting(args: &Args) -> Setting {
    let (rounds, sandboxes) = if args.quick { (QUICK_ROUNDS, QUICK_SANDBOXES) } else { (ROUNDS, SANDBOXES) };
    let layout = match args.layout {
        Placing::Pinned => "pinned",
        Placing::Random => "random",
    };
    Setting {
        rounds: args.rounds.unwrap_or(rounds),
        sandboxes: args.sandboxes.unwrap_or(sandboxes),
        layout: layout.to_owned(),
    }
}

/// The workers that can run, and a note for each that cannot.
pub(super) fn runnable(workshop: &Workshop, kinds: &[Kind]) -> Result<(Vec<Kind>, Vec<String>), BenchError> {
    let (mut runnable, mut notes, mut last) = (Vec::new(), Vec::new(), String::new());
    for &kind in kinds {
        match workshop.what_lacks(kind) {
            None => runnable.push(kind),
            Some(why) => {
                notes.push(format!("{} is left out: {why}", kind.name()));
                last = why;
            }
        }
    }
    match runnable.is_empty() {
        true => Err(BenchError::NoWorker { why: last }),
        false => Ok((runnable, notes)),
    }
}

fn how_it_counts() -> [String; 3] {
    [
        "kept: resident private memory, page tables and other kernel memory; for dormouse also all of the page store \
         and the growth of its own process, for zram what the device holds, for CRIU the image"
            .to_owned(),
        "answer: from the wake until the answer is in hand; the request waits already, where there is a process for \
         which it can wait"
            .to_owned(),
        "not counted, in favour of the rivals: the tables of zram and of the swap area, the time to find what to swap \
         out"
            .to_owned(),
    ]
}

pub(super) fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps); // To standard error, and only if it is a terminal.
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} [{elapsed}]");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
