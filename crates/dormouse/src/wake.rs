//! `dormouse wake`: sandboxes wake now, before anybody asks them.

use std::path::Path;

use protocol::{SandboxId, SandboxRecord, State, WakeRecord};
use report::quantity::micros;

use crate::cli::Which;
use crate::failure::Failure;
use crate::{client, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse wake 3
  dormouse wake --all")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let sleeps = |sandbox: &SandboxRecord| matches!(sandbox.state, State::Dedup | State::Freezing);
    args.which.each(data, sleeps, |id| {
        let sandbox = client::wake(data, id)?;
        match args.which.json {
            true => output::print_json(&sandbox),
            false => output::print(&line(id, sandbox.last_wake.as_ref())),
        }
    })
}

fn line(id: SandboxId, record: Option<&WakeRecord>) -> String {
    match record {
        None => format!("sandbox {id} runs; it has never slept\n"),
        Some(record) => format!(
            "sandbox {id} runs; its last wake took {} ({} pages filled, {} followed)\n",
            micros(record.total_us),
            record.filled_pages,
            record.lazy_pages
        ),
    }
}
