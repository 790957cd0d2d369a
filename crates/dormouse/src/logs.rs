//! `dormouse logs`: what a function printed, and Lambda's lines around it.

use std::ops::ControlFlow;
use std::path::Path;

use protocol::FunctionName;

use crate::failure::Failure;
use crate::{client, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse logs hello
  dormouse logs -f hello
  dormouse logs -n 10000 hello | grep REPORT

Each line begins with the time and the sandbox. Of every function the last 4 to 8 MiB are kept.")]
pub(crate) struct Args {
    /// The function
    #[arg(value_name = "NAME")]
    function: FunctionName,
    /// Go on with what it prints, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let mut written = Ok(());
    let take = |piece: &[u8]| {
        written = output::write(piece);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    client::logs(data, &args.function, args.lines, args.follow, take)?;
    written
}
