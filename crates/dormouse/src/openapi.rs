//! `dormouse openapi`: what a server can be asked over HTTP, for tools.

use crate::failure::Failure;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse openapi > lambda.json

The operations of the Lambda API that `dormouse serve` has, as an OpenAPI document. What requests and answers look like \
is Amazon's to describe: each operation has a link.")]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<(), Failure> {
    output::print_json(&front::openapi())
}
