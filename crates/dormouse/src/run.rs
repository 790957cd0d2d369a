//! `dormouse run`: any program as a sandbox, until it ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use front::{Catalogue, Server, ServerConfig};
use node::{CellSpec, Exit, LaunchSpec, Layout, Limits, Network, Node, Output, Sandbox, Sharing, View};
use protocol::{Depth, Merge};
use tokio::runtime::Runtime;

use crate::data_dir;
use crate::failure::Failure;
use crate::serve::{self, Isolation};
use crate::stop::Stop;

/// Shells report the death by signal N as 128 + N.
const SIGNAL_CODE_BASE: i32 = 128;

/// Size of `/tmp` in a cell: Lambda's.
const TMP_BYTES: u64 = 512 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse run -- redis-server --port 7000
  dormouse run -- node server.js
  dormouse run --name web --layout pinned --depth light -- ./server --port 8080

While it runs, `dormouse ps`, `sleep`, `wake` and `check` work on it from another terminal. It ends with the \
program's exit code, or with 128 and the signal's number.

One directory serves one `run` or `serve` at a time: for another, name another directory with --data, to `ps` and \
the others too.")]
pub(crate) struct Args {
    /// What `dormouse ps` calls it [default: the program]
    #[arg(long)]
    name: Option<String>,
    /// Where its memory lies
    #[arg(long, value_enum, default_value_t = Placing::Random)]
    layout: Placing,
    /// How much leaves when it sleeps: deep (everything) or light (all but what the last wakes touched; without
    /// userfaultfd, and for small programs, as deep)
    #[arg(long, default_value_t = Depth::Deep)]
    depth: Depth,
    /// What of it may be merged while it runs: off (nothing), advised (what the program tells libdormouse), or all
    #[arg(long, default_value_t = Merge::Off)]
    merge: Merge,
    /// How it is kept apart from this machine; in a cell it sees the system and, read-only, this folder
    #[arg(long, value_enum, default_value_t = Isolation::None)]
    isolation: Isolation,
    /// Which network it has, in a cell: none (a loopback interface of its own), host (this machine's), or netns:NAME
    /// (what was made by `ip netns add NAME`; as root)
    #[arg(long, value_name = "none|host|netns:NAME", default_value_t = Network::Host)]
    network: Network,
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
    serve::check_network(args.isolation, &args.network)?;
    let runtime = Runtime::new().map_err(|error| Failure::io("start", &error))?;
    let stop = Stop::listen(runtime.handle()).map_err(|error| Failure::io("listen for Ctrl-C", &error))?;
    let node = serve::start_node(data, |_| {})?;
    let ended = runtime.block_on(serve_one(args, data, &node, &stop));
    node.shutdown();
    Ok(code(ended?))
}

/// Launches the program, and serves the operator's socket until it ends.
async fn serve_one(args: &Args, data: &Path, node: &Node, stop: &Stop) -> Result<Exit, Failure> {
    let config = ServerConfig {
        listen: None,
        socket: data_dir::socket(data),
        ..ServerConfig::new(Catalogue::default(), data)
    };
    let server = Server::start(config, node.clone()).await.map_err(|error| Failure::of(&error))?;
    let spec = launch_spec(args, data)?;
    let launched = tokio::task::block_in_place(|| node.launch(spec)).map_err(|error| Failure::of(&error));
    let ended = match launched {
        Ok(sandbox) => {
            // Refused: it has ended already, which is no failure of ours.
            let _ = sandbox.mark_ready();
            Ok(wait(&sandbox, stop).await)
        }
        Err(failure) => Err(failure),
    };
    server.shutdown().await;
    ended
}

fn launch_spec(args: &Args, data: &Path) -> Result<LaunchSpec, Failure> {
    let mut words = args.program.iter().cloned();
    let program = words.next().unwrap_or_default(); // There is one, says the command line.
    let name = args.name.clone().unwrap_or_else(|| program.to_string_lossy().into_owned());
    let layout = match args.layout {
        Placing::Pinned => {
            let secret = front::program_layout(data, &name);
            Layout::Pinned {
                secret: secret.map_err(|error| Failure::io("read the secret of this node", &error))?,
            }
        }
        Placing::Random => Layout::Random,
    };
    let cwd = match args.isolation {
        Isolation::None => None,
        Isolation::Cell => Some(here()?),
    };
    Ok(LaunchSpec {
        sharing: Sharing::Domain(name.clone()),
        depth: args.depth,
        merge: args.merge,
        cell: cell(args)?,
        name,
        program,
        args: words.collect(),
        env: std::env::vars_os().collect(),
        cwd,
        limits: Limits::default(),
        layout,
        stdout: Output::Inherit,
        stderr: Output::Inherit,
    })
}

fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::io("find this folder", &error))
}

fn cell(args: &Args) -> Result<Option<CellSpec>, Failure> {
    Ok(match args.isolation {
        Isolation::None => None,
        Isolation::Cell => Some(CellSpec {
            views: vec![View::same(here()?)],
            tmp_bytes: TMP_BYTES,
            network: args.network.clone(),
            port: None,
        }),
    })
}

/// Until the program ends; Ctrl-C ends it.
async fn wait(sandbox: &Sandbox, stop: &Stop) -> Exit {
    tokio::select! {
        exit = sandbox.exit() => return exit,
        () = stop.wait() => sandbox.purge(),
    }
    sandbox.exit().await
}

fn code(exit: Exit) -> ExitCode {
    match exit {
        Exit::Code(code) => ExitCode::from(code as u8),
        Exit::Signal(signal) => ExitCode::from((SIGNAL_CODE_BASE + signal) as u8),
        Exit::Unknown => ExitCode::FAILURE,
    }
}
