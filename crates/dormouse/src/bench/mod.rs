//! `dormouse bench`: figures against rivals, side by side in one run. Tables and charts are made by `report`.

mod cold;
mod criu;
mod encode;
mod environment;
mod error;
mod experiment;
mod files;
mod frozen;
mod keep;
mod line;
mod merge;
mod ours;
mod progress;
mod samples;
mod serve;
mod sleep;
mod soak;
mod worker;
mod workshop;
mod zram;

use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::python::Interpreter;
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse bench sleep --quick
  dormouse bench encode --quick
  dormouse bench merge --quick
  dormouse bench serve
  dormouse bench soak --minutes 5")]
pub(crate) struct Args {
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Debug, clap::Subcommand)]
enum Experiment {
    /// Memory kept and time to the first answer: dormouse (deep and light), freezing, zram, CRIU, cold start
    Sleep(sleep::Args),
    /// Size and speed of ways to keep pages as what tells them apart from another process
    Encode(encode::Args),
    /// Equal pages of running sandboxes kept once: memory, time, processor time; beside KSM as UPM's paper has it
    Merge(merge::Args),
    /// What a warm invocation costs, and how many a second two cores hold
    Serve(serve::Args),
    /// Random sleeps, wakes and deaths of many sandboxes, with every promise looked after
    Soak(soak::Args),
    /// Started by `serve`, never by people
    #[command(hide = true)]
    MinimalServer,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.experiment {
        Experiment::Sleep(args) => sleep::run(args),
        Experiment::Encode(args) => encode::run(args),
        Experiment::Merge(args) => merge::run(args),
        Experiment::Serve(args) => serve::run(args),
        Experiment::Soak(args) => soak::run(args),
        Experiment::MinimalServer => serve::run_minimal(),
    }
}

/// What every bench needs first. Ctrl-C is heard as long as the runtime lives.
fn start() -> Result<(Runtime, Stop), Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::io("start the bench", &error))?;
    let stop = Stop::listen(runtime.handle()).map_err(|error| Failure::io("listen for Ctrl-C", &error))?;
    Ok((runtime, stop))
}

/// What the bench compares with, and whether it is here; for `dormouse doctor`.
pub(crate) fn rivals() -> Vec<(&'static str, String)> {
    let zram = zram::what_lacks().unwrap_or_else(|| "can be set up".to_owned());
    let ksm = merge::what_lacks().unwrap_or_else(|| "can be set up".to_owned());
    let criu = criu::Criu::find().map_or_else(|why| why, |criu| criu.version);
    let python = Interpreter::find().map_or_else(
        |error| error::with_causes(&error),
        |python| format!("{} ({})", python.version, python.program.display()),
    );
    vec![("zram", zram), ("KSM", ksm), ("CRIU", criu), ("Python", python)]
}
