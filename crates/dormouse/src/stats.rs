//! `dormouse stats`: the whole node.

use std::path::Path;

use crate::failure::Failure;
use crate::{client, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse stats
  dormouse stats --json | jq .account.kept_bytes")]
pub(crate) struct Args {
    /// Print the record as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let node = client::stats(data)?;
    match args.json {
        true => output::print_json(&node),
        false => output::print(&report::node::table(&node, output::width())),
    }
}
