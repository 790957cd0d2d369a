//! `dormouse inside`: started by a node, never by people. It builds the cell of one sandbox, and ends. What it does is in
//! `linux`.

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<(), Failure> {
    linux::cell::run_inside().map_err(|error| Failure::io("build a cell", &error))
}
