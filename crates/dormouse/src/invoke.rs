//! `dormouse invoke`: calls a function and prints its answer.

use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::failure::Failure;
use crate::lambda::{self, Lambda};
use crate::output;

/// What Lambda takes as a request.
const PAYLOAD_BYTES_MAX: u64 = 6 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse invoke hello
  dormouse invoke hello:live --payload '{\"name\": \"you\"}'
  echo '{\"name\": \"you\"}' | dormouse invoke hello --payload -
  dormouse invoke hello --payload @event.json --event

The answer goes to standard output, with --tail the end of the function's log to standard error. The exit code is 1 if \
the function failed.")]
pub(crate) struct Args {
    /// The function, or function:version, or function:alias
    #[arg(value_name = "NAME")]
    function: String,
    /// JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", default_value = "{}")]
    payload: String,
    /// Do not wait for an answer
    #[arg(long)]
    event: bool,
    /// Show the end of its log, too
    #[arg(long)]
    tail: bool,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let payload = read(&args.payload)?;
    let kind = if args.event { "Event" } else { "RequestResponse" };
    let tail = if args.tail { "Tail" } else { "None" };
    let headers = [("x-amz-invocation-type", kind), ("x-amz-log-type", tail)];
    let path = lambda::path(&args.function, "/invocations");
    let answer = Lambda::connect(data)?.invoke(&path, &headers, payload)?;
    if let Some(tail) = &answer.log {
        let _ = std::io::stderr().write_all(tail); // Nobody has to read it.
    }
    if !answer.body.is_empty() {
        output::print(&format!("{}\n", String::from_utf8_lossy(&answer.body)))?;
    }
    match &answer.function_error {
        None => Ok(()),
        Some(_) => Err(Failure::new("the function failed")),
    }
}

fn read(payload: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    match payload.strip_prefix('@') {
        Some(file) => {
            let failed = |error| Failure::io(format!("read {file}"), &error);
            let opened = std::fs::File::open(file).map_err(failed)?;
            opened.take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        }
        None if payload == "-" => {
            let failed = |error| Failure::io("read standard input", &error);
            std::io::stdin().take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        }
        None => bytes = payload.as_bytes().to_vec(),
    }
    Ok(bytes)
}
