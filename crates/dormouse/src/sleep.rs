//! `dormouse sleep`: sandboxes go to sleep now.

use std::path::Path;

use protocol::{SandboxId, SandboxRecord, SleepRecord, State};
use report::quantity::micros;

use crate::cli::Which;
use crate::failure::Failure;
use crate::{client, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse sleep 3
  dormouse sleep --all

A sandbox that cannot sleep, because it holds something that would not survive, stays warm and unharmed. One put to \
sleep by hand is kept until an invocation or `dormouse wake`: --keep-dedup does not end it.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let is_warm = |sandbox: &SandboxRecord| sandbox.state == State::Warm;
    args.which.each(data, is_warm, |id| {
        let sandbox = client::sleep(data, id)?;
        match (args.which.json, &sandbox.last_sleep) {
            (true, _) => output::print_json(&sandbox),
            (false, Some(record)) => output::print(&line(id, record)),
            (false, None) => output::print(&format!("sandbox {id} is {}\n", sandbox.state)),
        }
    })
}

fn line(id: SandboxId, record: &SleepRecord) -> String {
    let stayed = record.left_pages + record.stayed_pages;
    let left = record.own_pages() - stayed;
    format!(
        "sandbox {id} sleeps {}ly: {} pages left in {} ({} unchanged, {} zero, {} in store already, {} patched, {} packed, \
         {} whole; {} stayed)\n",
        record.depth,
        left,
        micros(record.total_us),
        record.unchanged_pages,
        record.zero_pages,
        record.same_pages,
        record.patched_pages,
        record.packed_pages,
        record.whole_pages,
        stayed
    )
}
