//! `dormouse bench serve`: what a warm invocation costs. An empty handler in Python through `dormouse serve` and through
//! the least server that the same client of the Runtime API works with; and how many invocations a second of a
//! function in Rust two cores hold. All of it, the callers included, runs on these cores.

mod call;
mod figures;
mod minimal;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use report::stats::Summary;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use self::call::Caller;
use self::figures::{Load, Round, ServeBench};
use self::minimal::Minimal;
pub(super) use self::minimal::run as run_minimal;
use self::server::{Rust, Served};
use super::error::BenchError;
use super::files::Json;
use super::start;
use crate::failure::Failure;
use crate::output;
use crate::python::Interpreter;

/// Calls before the first that is measured: sandboxes start, and caches fill.
const WARM_UP_CALLS: usize = 200;

/// Calls of one server before it is the other's turn.
const CALLS_IN_TURN: usize = 50;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo build --release -p testkit --example rust_function
  dormouse bench serve
  dormouse bench serve --assert --json serve.json

Everything runs on --cores cores: callers, server and functions. The two servers are called in turn, a few calls each; judged \
is the round whose ratio is the median, and that one by all goals. Needs Python; DORMOUSE_PYTHON names another interpreter.")]
pub(crate) struct Args {
    /// Fail if a goal is missed
    #[arg(long)]
    assert: bool,
    /// How often everything is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Calls of the Python handler, on each side, in each round
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    calls: u64,
    /// How long the load lasts in each round
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Connections that call the Rust function at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    connections: u64,
    /// Cores for all of it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    cores: u64,
    /// The function in Rust [default: examples/rust_function beside this program]
    #[arg(long, value_name = "FILE")]
    rust: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    keep_to(args.cores as usize)?; // Before there are threads: they and all processes inherit it.
    let (runtime, _stop) = start()?;
    let bench = runtime.block_on(measure(args))?;
    args.json.write(&bench, &bench.table(output::width()))?;
    let missed = bench.missed();
    match args.assert && !missed.is_empty() {
        true => Err(Failure::new(format!("missed: {}", missed.join("; ")))),
        false => Ok(()),
    }
}

/// Gives up all cores but the first few.
fn keep_to(cores: usize) -> Result<(), BenchError> {
    let system = |error: rustix::io::Errno| BenchError::system("choose processor cores")(error.into());
    let all = sched_getaffinity(None).map_err(system)?;
    let mut few = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).take(cores).for_each(|core| few.set(core));
    sched_setaffinity(None, &few).map_err(system)
}

async fn measure(args: &Args) -> Result<ServeBench, BenchError> {
    let python = Interpreter::find()?;
    let rust = Rust::find(args.rust.as_deref())?;
    let served = Served::start(&python, &rust, args.connections)?;
    let minimal = Minimal::start(&python, &served)?;
    let mut ours = Caller::connect(served.address, "empty").await?;
    let mut theirs = Caller::connect(minimal.address, "empty").await?;
    for caller in [&mut ours, &mut theirs] {
        caller.calls(WARM_UP_CALLS, &mut Vec::new()).await?;
    }
    load(args, &served, Duration::from_secs(1)).await?; // Starts the sandboxes.
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        let (minimal_us, ours_us) = in_turn(&mut theirs, &mut ours, args.calls as usize).await?;
        rounds.push(Round {
            minimal_us,
            ours_us,
            load: load(args, &served, Duration::from_secs(args.seconds)).await?,
        });
    }
    Ok(ServeBench { cores: args.cores, connections: args.connections, python: python.version, rounds })
}

/// So many calls of each, a few of one and then of the other: what else the machine does hits both.
async fn in_turn(
    theirs: &mut Caller,
    ours: &mut Caller,
    calls: usize,
) -> Result<(Summary, Summary), BenchError> {
    let (mut of_theirs, mut of_ours) = (Vec::new(), Vec::new());
    while of_ours.len() < calls {
        theirs.calls(CALLS_IN_TURN, &mut of_theirs).await?;
        ours.calls(CALLS_IN_TURN, &mut of_ours).await?;
    }
    let summary =
        |samples: &[u64]| Summary::of(samples).ok_or(BenchError::Silent { worker: "empty", within_s: 0 });
    Ok((summary(&of_theirs)?, summary(&of_ours)?))
}

/// Calls the Rust function over several connections at once; each calls again as soon as it has its answer.
async fn load(args: &Args, served: &Served, lasts: Duration) -> Result<Load, BenchError> {
    let mut callers = Vec::new();
    for _ in 0..args.connections {
        callers.push(Caller::connect(served.address, "rust").await?);
    }
    let callers: Vec<_> = callers
        .into_iter()
        .map(|caller| tokio::spawn(async move { caller.calls_for(lasts).await }))
        .collect();
    let mut samples = Vec::new();
    for caller in callers {
        samples.extend(caller.await.map_err(BenchError::ours("call the Rust function"))??);
    }
    let none = || BenchError::Silent { worker: "rust", within_s: lasts.as_secs() };
    let latency_us = Summary::of(&samples).ok_or_else(none)?;
    Ok(Load { invokes_per_s: samples.len() as f64 / lasts.as_secs_f64(), latency_us })
}
