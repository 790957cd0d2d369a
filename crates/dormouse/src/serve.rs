//! `dormouse serve`: functions over HTTP, until Ctrl-C.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse serve
  dormouse serve --functions ./functions
  aws lambda invoke --endpoint-url http://127.0.0.1:9001 --function-name hello out.json

Ctrl-C ends it: every sandbox is killed, nothing is left behind.")]
pub(crate) struct Args {
    /// Where to listen for invocations
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// A directory of functions to serve from the start
    #[arg(long, value_name = "DIR")]
    functions: Option<PathBuf>,
    /// Settings that the command line does not have
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let _ = (&args.functions, &args.config, data);
    Err(Failure::new(format!("serving on {} is not part of this build", args.listen)))
}
