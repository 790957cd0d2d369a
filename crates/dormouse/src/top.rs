//! `dormouse top`: what a server does, as it does it.

use std::path::Path;
use std::time::{Duration, Instant};

use report::top::{Sample, frame};

use crate::failure::Failure;
use crate::{client, output};

/// To the upper left corner, and nothing left of the frame before.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse top
  dormouse top --every 5
  dormouse top --once | head

Rates and latencies are of the time since the frame before. Ctrl-C ends it.")]
pub(crate) struct Args {
    /// Print one frame and end; its latencies are of all invocations since the server started
    #[arg(long)]
    once: bool,
    /// How often to look
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let mut before: Option<(Sample, Instant)> = None;
    loop {
        let (now, at) = (sample(data)?, Instant::now());
        let since = before.as_ref().map(|(sample, then)| (sample, at.duration_since(*then)));
        let text = frame(&now, since, output::width());
        if args.once {
            return output::print(&text);
        }
        output::print(&format!("{CLEAR}{text}"))?;
        before = Some((now, at));
        std::thread::sleep(Duration::from_secs(args.every));
    }
}

fn sample(data: &Path) -> Result<Sample, Failure> {
    let (stats, sandboxes) = (client::stats(data)?, client::sandboxes(data)?);
    Ok(Sample { stats, sandboxes, metrics: client::metrics(data)? })
}
