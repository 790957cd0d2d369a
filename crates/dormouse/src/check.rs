//! `dormouse check`: a sleep and a wake with every byte compared.

use std::path::Path;

use protocol::{CheckRecord, SandboxId, SandboxRecord, State};
use report::quantity::micros;

use crate::cli::Which;
use crate::failure::Failure;
use crate::{client, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse check 3
  dormouse check --all

The sandbox is put to sleep and woken; all its private memory is hashed before and after, addresses included.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let is_idle = |sandbox: &SandboxRecord| matches!(sandbox.state, State::Warm | State::Dedup);
    args.which.each(data, is_idle, |id| {
        client::wake(data, id)?; // One that sleeps is woken first: it cannot be hashed asleep.
        let record = client::check(data, id)?;
        match args.which.json {
            true => output::print_json(&record)?,
            false => output::print(&line(id, &record))?,
        }
        match record.is_same() {
            true => Ok(()),
            false => Err(Failure::new(format!("the memory of sandbox {id} is not what it was"))
                .hint("stop the server and report this with `dormouse check --json` and `dormouse doctor`")),
        }
    })
}

fn line(id: SandboxId, record: &CheckRecord) -> String {
    let verdict = if record.is_same() { "the same" } else { "NOT THE SAME" };
    format!(
        "sandbox {id}: {} pages, {verdict} after a sleep of {} and a wake of {}\n",
        record.pages_before,
        micros(record.sleep.total_us),
        micros(record.wake.total_us)
    )
}
