//! `dormouse guard`: started by a node, never by people. It outlives the node by a moment and kills the sandboxes
//! of a node that died. What it does is in `node`.

use std::io;

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<(), Failure> {
    node::run_guard(io::stdin()).map_err(|error| Failure::io("clean up after a node", &error))
}
