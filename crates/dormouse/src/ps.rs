//! `dormouse ps`: every sandbox and what it costs.

use std::path::Path;

use crate::failure::Failure;
use crate::{client, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse ps
  dormouse ps --json | jq '.[] | select(.state == \"dedup\") | .name'

What a sandbox keeps is what is resident, its part of the page store, its manifest and its kernel memory; resident \
file pages (shared) are the page cache's and are not counted. A narrow terminal shows fewer columns.")]
pub(crate) struct Args {
    /// Print the records as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let sandboxes = client::sandboxes(data)?;
    match args.json {
        true => output::print_json(&sandboxes),
        false => output::print(&report::ps::table(&sandboxes, output::width())),
    }
}
