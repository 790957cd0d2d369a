//! `dormouse bench sleep`: what an idle function costs, and how soon it answers, kept in each of the ways. The
//! rounds are in `experiment`.

use report::bench::{Setting, SleepBench, Way};
use tokio::runtime::Handle;

use super::error::BenchError;
use super::experiment::{Experiment, Rivals};
use super::files::Files;
use super::workshop::{Kind, Placing, Workshop};
use super::{environment, progress, start};
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

const ROUNDS: u64 = 11;
const SANDBOXES: u64 = 16;
/// Few enough that all workers are done in about a minute.
const QUICK_ROUNDS: u64 = 3;
const QUICK_SANDBOXES: u64 = 3;
/// A sleep and a wake in one of the ways, about, with what is measured in between.
const ROUND_MS: u64 = 150;
/// Less is not worth a word.
const SAID_ABOVE_S: u64 = 60;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse bench sleep --quick
  dormouse bench sleep --json sleep.json --svg sleep.svg
  dormouse bench sleep --layout random --workers pandas --rounds 21

Needs Python, and Node and Java for one worker each; workers that cannot run are left out unless they are named. \
DORMOUSE_PYTHON names another interpreter, DORMOUSE_CRIU another CRIU. Swap in compressed memory is set up on \
/dev/zram0 and put back, also after Ctrl-C.")]
pub(crate) struct Args {
    /// Fewer rounds and sandboxes: about a minute, rougher figures
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    files: Files,
    /// Sandboxes of each worker that dormouse keeps [default: 16, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    sandboxes: Option<u64>,
    /// Measured sleeps and wakes in each way [default: 11, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rounds: Option<u64>,
    /// Where memory lies
    #[arg(long, value_enum, default_value_t = Placing::Pinned)]
    layout: Placing,
    /// What to run, separated by commas [default: all that can run here]
    #[arg(long, value_enum, value_delimiter = ',')]
    workers: Vec<Kind>,
    /// Ways to compare, separated by commas: frozen, dormouse, light, zram, criu, cold
    #[arg(long, value_delimiter = ',', default_values_t = Way::ALL)]
    ways: Vec<Way>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (runtime, stop) = start()?;
    let bench = measure(args, runtime.handle(), stop)?;
    args.files.write(&bench, &bench.table(output::width()), || report::chart::svg(&bench))?;
    match bench.answers_wrong() {
        0 => Ok(()),
        wrong => Err(Failure::new(format!("{wrong} answers were not what they should be"))),
    }
}

fn measure(args: &Args, runtime: &Handle, stop: Stop) -> Result<SleepBench, BenchError> {
    let setting = setting(args);
    let workshop = Workshop::open(args.layout, stop)?;
    let (kinds, mut notes) = workshop.runnable(&args.workers, &Kind::ALL)?;
    if !args.quick {
        say_how_long(&kinds, &args.ways, &setting);
    }
    let rivals = Rivals::set_up(&args.ways);
    notes.extend(how_it_counts());
    let environment = environment::look(&workshop, rivals.criu.as_ref().ok());
    let steps = kinds.len() as u64 * args.ways.len() as u64 * (setting.rounds + 2);
    let progress = progress::bar(steps);
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
    Setting {
        rounds: args.rounds.unwrap_or(rounds),
        sandboxes: args.sandboxes.unwrap_or(sandboxes),
        layout: args.layout.name().to_owned(),
    }
}

/// Says at the start how long it will take, if that is long.
fn say_how_long(kinds: &[Kind], ways: &[Way], setting: &Setting) {
    let seconds = about_s(kinds, ways, setting);
    if seconds > SAID_ABOVE_S {
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        output::note(&format!(
            "{} with {} sandboxes each: about {} minutes; --quick takes about one",
            names.join(", "),
            setting.sandboxes,
            seconds.div_ceil(60),
        ));
    }
}

/// About how many seconds: a worker is started for each sandbox of ours, once for each other way, and for each cold start.
fn about_s(kinds: &[Kind], ways: &[Way], setting: &Setting) -> u64 {
    let starts = |way: &Way| match way {
        Way::Dormouse | Way::Light => setting.sandboxes,
        Way::Cold => setting.rounds + 2,
        Way::Frozen | Way::Zram | Way::Criu => 1,
    };
    let starts: u64 = ways.iter().map(starts).sum();
    let rounds = (setting.rounds + 1) * ways.len() as u64;
    let ms = kinds.iter().map(|kind| starts * kind.start_ms() + rounds * ROUND_MS).sum::<u64>();
    ms / 1000
}

fn how_it_counts() -> [String; 4] {
    [
        "kept: resident private memory, page tables and other kernel memory; for dormouse also all of the page store \
         and the growth of its own process, for zram what the device holds, for CRIU the image"
            .to_owned(),
        "answer: from the wake until the answer is in hand; the request waits already, where there is a process for \
         which it can wait"
            .to_owned(),
        "to sleep: of one that has slept before, is idle, and has all its memory".to_owned(),
        "not counted, in favour of the rivals: the tables of zram and of the swap area, the time to find what to swap \
         out"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kinds: &[Kind], ways: &[Way], (rounds, sandboxes): (u64, u64), minutes: std::ops::Range<u64>) {
        let setting = Setting { rounds, sandboxes, layout: String::new() };
        let seconds = about_s(kinds, ways, &setting);
        assert!((minutes.start * 60..minutes.end * 60).contains(&seconds), "{seconds} s");
    }

    #[test]
    fn what_takes_long_is_known_before() {
        check(&Kind::ALL, &Way::ALL, (ROUNDS, SANDBOXES), 2..5);
        check(&[Kind::Hello], &[Way::Frozen], (1, 1), 0..1);
    }
}
