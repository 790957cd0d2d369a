//! `dormouse guard`: started by a node, never by people. It outlives the node by a moment and kills the sandboxes
//! of a node that died. What it does is in `node`.

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For what the node has to say.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<std::ffi::OsString>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    Err(Failure::new(format!(
        "a guard was started with {} arguments, but no node needs one",
        args.rest.len()
    )))
}
