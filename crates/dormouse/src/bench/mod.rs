//! `dormouse bench`: figures against rivals, side by side in one run. Tables and charts are made by `report`.

mod cold;
mod criu;
mod encode;
mod environment;
mod error;
mod experiment;
mod frozen;
mod keep;
mod line;
mod ours;
mod samples;
mod sleep;
mod worker;
mod workshop;
mod zram;

use crate::failure::Failure;
use crate::python::Interpreter;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Debug, clap::Subcommand)]
enum Experiment {
    /// Memory kept and time to the first answer: dormouse, zram, CRIU, cold start
    Sleep(sleep::Args),
    /// Size and speed of ways to keep pages as what tells them apart from another process
    Encode(encode::Args),
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.experiment {
        Experiment::Sleep(args) => sleep::run(args),
        Experiment::Encode(args) => encode::run(args),
    }
}

/// What the bench compares with, and whether it is here; for `dormouse doctor`.
pub(crate) fn rivals() -> Vec<(&'static str, String)> {
    let zram = zram::what_lacks().unwrap_or_else(|| "can be set up".to_owned());
    let criu = criu::Criu::find().map_or_else(|why| why, |criu| criu.version);
    let python = Interpreter::find().map_or_else(
        |error| error::with_causes(&error),
        |python| format!("{} ({})", python.version, python.program.display()),
    );
    vec![("zram", zram), ("CRIU", criu), ("Python", python)]
}
