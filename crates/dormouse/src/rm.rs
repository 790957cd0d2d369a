//! `dormouse rm`: functions go.

use std::path::Path;

use crate::failure::Failure;
use crate::lambda::{self, Lambda};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse rm hello      with all versions and aliases
  dormouse rm hello:3    one version

Invocations that run may end. Code that no version has any more is removed from disk at the next start.")]
pub(crate) struct Args {
    /// Functions, or versions as function:version
    #[arg(value_name = "NAME", required = true)]
    functions: Vec<String>,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let lambda = Lambda::connect(data)?;
    for function in &args.functions {
        lambda.delete(&lambda::path(function, ""))?;
        output::print(&format!("{function} is gone\n"))?;
    }
    Ok(())
}
