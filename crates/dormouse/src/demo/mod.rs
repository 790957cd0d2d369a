//! `dormouse demo`: shows it, on functions that come with the program, and leaves nothing behind.
//! What is done with each function is in `journey`.

mod functions;
mod journey;
mod server;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use report::demo::DemoRow;
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::output;
use crate::python::Interpreter;
use crate::stop::Stop;

use functions::Function;
use journey::Journey;
use server::Server;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse demo
  dormouse demo --sandboxes 8 --functions hello,objects

A server is started in a directory of its own. Each function is called until it has several sandboxes; they are put \
to sleep and woken by further calls, and in the end every byte of each is compared. Ctrl-C ends it at any time.")]
pub(crate) struct Args {
    /// Sandboxes of each function
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    sandboxes: u64,
    /// Functions to show, separated by commas: hello, html, objects, numpy, pandas [default: all that can run here]
    #[arg(long, value_delimiter = ',')]
    functions: Vec<String>,
    /// Print the rows of the table as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::io("start the demo", &error))?;
    let stop = Stop::listen(runtime.handle()).map_err(|error| Failure::io("listen for Ctrl-C", &error))?;
    let python = Interpreter::find().map_err(|error| Failure::of(&error).hint("install Python 3"))?;
    let functions = runnable(chosen(&args.functions)?, &python)?;
    let rows = {
        // Gone, with all its sandboxes, after this block.
        let server = Server::start(&functions, args.sandboxes as usize, &python, runtime.handle())?;
        show(&server, &functions, args.sandboxes, &stop)?
    };
    match args.json {
        true => output::print_json(&rows)?,
        false => output::print(&report::demo::table(&rows, output::width()))?,
    }
    match report::demo::all_same(&rows) {
        true => Ok(()),
        false => Err(Failure::new("something came back different from a sleep")
            .hint("report this with `dormouse demo --json` and `dormouse doctor`")),
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Function>, Failure> {
    if names.is_empty() {
        return Ok(functions::BUNDLED.iter().collect());
    }
    let find = |name: &String| {
        functions::BUNDLED.iter().find(|function| function.name == name).ok_or_else(|| {
            let known: Vec<&str> = functions::BUNDLED.iter().map(|function| function.name).collect();
            Failure::new(format!("no function {name:?} comes with dormouse"))
                .hint(format!("there are: {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// Those whose modules are here; the others are named on standard error.
fn runnable(
    mut functions: Vec<&'static Function>,
    python: &Interpreter,
) -> Result<Vec<&'static Function>, Failure> {
    functions.retain(|function| match function.module.and_then(|module| python.what_lacks(module)) {
        None => true,
        Some(why) => {
            tracing::warn!(function = function.name, why, "left out");
            false
        }
    });
    match functions.is_empty() {
        true => Err(Failure::new("there is no function to show")),
        false => Ok(functions),
    }
}

fn show(
    server: &Server,
    functions: &[&'static Function],
    sandboxes: u64,
    stop: &Stop,
) -> Result<Vec<DemoRow>, Failure> {
    let progress = progress_bar(functions.len() as u64 * journey::STEPS);
    let mut rows = Vec::new();
    for function in functions {
        let journey = Journey { server, function, sandboxes, stop, progress: &progress };
        rows.push(journey.run()?);
    }
    progress.finish_and_clear();
    Ok(rows)
}

fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps); // To standard error, and only if it is a terminal.
    let style = ProgressStyle::with_template("{bar:30} {msg} [{elapsed}]");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
