//! `dormouse run`: any program as a sandbox, until it ends.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use node::{Exit, LaunchSpec, Layout, Limits, Node, NodeConfig, Output, Sandbox, Sharing};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::stop::Stop;

/// How often a running program's end and Ctrl-C are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Shells report the death by signal N as 128 + N.
const SIGNAL_CODE_BASE: i32 = 128;
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse run -- python3 -m http.server
  dormouse run --name web --layout random -- ./server --port 8080

While it runs, `dormouse ps`, `sleep`, `wake` and `check` work on it from another terminal. It ends with the program's
exit code, or with 128 and the signal's number.")]
pub(crate) struct Args {
    /// What `dormouse ps` calls it [default: the program]
    #[arg(long)]
    name: Option<String>,
    /// Where its memory lies
    #[arg(long, value_enum, default_value_t = Placing::Random)]
    layout: Placing,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Placing {
    /// At the same addresses in every run of this program
    Pinned,
    /// Anywhere
    Random,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<ExitCode, Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::io("start", &error))?;
    let stop = Stop::listen(runtime.handle()).map_err(|error| Failure::io("listen for Ctrl-C", &error))?;
    let node = Node::start(config(data)?).map_err(|error| Failure::of(&error))?;
    let launched = node.launch(launch_spec(args)).map_err(|error| Failure::of(&error));
    let ended = launched.and_then(|sandbox| {
        sandbox.mark_ready().map_err(|error| Failure::of(&error))?;
        Ok(runtime.block_on(wait(&sandbox, &stop)))
    });
    node.shutdown();
    Ok(code(ended?))
}

fn config(data: &Path) -> Result<NodeConfig, Failure> {
    let guard = std::env::current_exe().map_err(|error| Failure::io("find this program", &error))?;
    Ok(NodeConfig { guard: Some(guard), ..NodeConfig::new(data.to_owned()) })
}

fn launch_spec(args: &Args) -> LaunchSpec {
    let mut words = args.program.iter().cloned();
    let program = words.next().unwrap_or_default(); // There is one, says the command line.
    let name = args.name.clone().unwrap_or_else(|| program.to_string_lossy().into_owned());
    let layout = match args.layout {
        Placing::Pinned => Layout::Pinned { secret: 0 },
        Placing::Random => Layout::Random,
    };
    LaunchSpec {
        sharing: Sharing::Domain(name.clone()),
        name,
        program,
        args: words.collect(),
        env: std::env::vars_os().collect(),
        cwd: None,
        limits: Limits::default(),
        layout,
        stdout: Output::Inherit,
        stderr: Output::Inherit,
    }
}

/// Until the program ends; Ctrl-C ends it.
async fn wait(sandbox: &Sandbox, stop: &Stop) -> Exit {
    let exit = sandbox.exit();
    tokio::pin!(exit);
    let mut is_purged = false;
    loop {
        tokio::select! {
            exit = &mut exit => return exit,
            () = tokio::time::sleep(LOOK_INTERVAL) => {
                if stop.is_asked() && !is_purged {
                    sandbox.purge();
                    is_purged = true;
                }
            }
        }
    }
}

fn code(exit: Exit) -> ExitCode {
    match exit {
        Exit::Code(code) => ExitCode::from(code as u8),
        Exit::Signal(signal) => ExitCode::from((SIGNAL_CODE_BASE + signal) as u8),
        Exit::Unknown => ExitCode::FAILURE,
    }
}
