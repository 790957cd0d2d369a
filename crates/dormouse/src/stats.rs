//! `dormouse stats`: the whole node.

use std::path::Path;

use crate::failure::Failure;
use crate::{client, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse stats
  dormouse stats --json | jq .node.account")]
pub(crate) struct Args {
    /// Print the record as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let stats = client::stats(data)?;
    match args.json {
        true => output::print_json(&stats),
        false => {
            output::print(&report::node::table(&stats.node, output::width()))?;
            output::print(&report::functions::table(&stats.functions, output::width()))
        }
    }
}
