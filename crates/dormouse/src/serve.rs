//! `dormouse serve`: functions over HTTP, until Ctrl-C.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::{NonZero, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use front::{Catalogue, Server, ServerConfig};
use linux::probe::Verdict;
use node::{Network, Node, NodeConfig};
use tokio::runtime::Runtime;

use crate::data_dir;
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse serve                                   for functions that are deployed to it
  dormouse serve --functions examples/functions    and for those in these folders
  dormouse serve --listen 127.0.0.1:9000 --functions ./functions --data ./state --keep-warm 10
  dormouse serve --functions ./functions --metrics-listen 127.0.0.1:9001
  curl -d '{\"n\": 3}' http://127.0.0.1:9000/2015-03-31/functions/hello/invocations
  aws lambda list-functions --region us-east-1 --endpoint-url http://127.0.0.1:9000
  aws lambda invoke --endpoint-url http://127.0.0.1:9000 --function-name hello out.json

Each folder in --functions is a function: a lambda_function.py, an index.mjs or an executable `bootstrap`, and a \
function.toml where the defaults do not fit (handler, runtime, python, memory_mb, timeout_s, environment, sharing, layout, depth, merge, \
concurrency, keep_warm_s, keep_dedup_s, processes, open_files, file_mb, tmp_mb, network, url, snap_start, events). Functions that \
clients deploy (`dormouse deploy`, boto3, Terraform) stay in the data directory. DORMOUSE_PYTHON is the interpreter of \
functions that name none; else it is python3 from PATH. Where there are keys (`dormouse key add`), every call must be \
signed with one; without any, everybody on this machine may call but functions in cells, and nobody else. Ctrl-C ends the server: \
running invocations may end, every sandbox is killed, nothing is left behind.")]
pub(crate) struct Args {
    /// Where to listen for invocations; only with keys may it be an address that other machines reach
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Where to serve /metrics, /healthz and /readyz, to everybody who reaches it [default: on the socket alone]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// A directory with a folder for each function, beside those that are deployed
    #[arg(long, value_name = "DIR")]
    functions: Option<PathBuf>,
    /// How long an idle sandbox stays warm, where its function does not say
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    keep_warm: u64,
    /// How long a sleeping sandbox is kept, where its function does not say
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    keep_dedup: u64,
    /// Sandboxes of one function at once, where it does not say
    #[arg(long, value_name = "N", default_value_t = 10)]
    concurrency: usize,
    /// Invocations at once of all functions together that were deployed as to Lambda
    #[arg(long, value_name = "N", default_value_t = 1000)]
    account_concurrency: usize,
    /// Invocations of one function that may wait while all its sandboxes are busy
    #[arg(long, value_name = "N", default_value_t = 100)]
    queue: usize,
    /// How sandboxes are kept apart from this machine and from each other
    #[arg(long, value_enum, default_value_t = Isolation::Cell)]
    isolation: Isolation,
    /// Which network functions in cells have, where they do not say: none (a loopback interface of their own), host (this
    /// machine's), or netns:NAME (what was made by `ip netns add NAME`, with what leads out of it; as root)
    #[arg(long, value_name = "none|host|netns:NAME", default_value_t = Network::Host)]
    network: Network,
    /// A directory with files that may be destinations of asynchronous invocations; can be given more than once
    #[arg(long, value_name = "DIR")]
    destinations: Vec<PathBuf>,
    /// Sandboxes with more private memory than this run before all of it is back [default: 4]
    #[arg(long, value_name = "MIB")]
    lazy_above: Option<u64>,
    /// Sleeping sandboxes of one function for each that is base of the others [default: 40, as Medes]
    #[arg(long, value_name = "N")]
    sleepers_per_base: Option<NonZeroUsize>,
}

/// How sandboxes are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Isolation {
    /// Not at all, but for limits: they run as who you are and see all that you see
    None,
    /// Each in namespaces of its own, as a user without rights, with its package at /var/task, a /tmp of its own, and a
    /// read-only view of the system's programs and libraries
    Cell,
}

impl From<Isolation> for front::Isolation {
    fn from(isolation: Isolation) -> front::Isolation {
        match isolation {
            Isolation::None => front::Isolation::None,
            Isolation::Cell => front::Isolation::Cell,
        }
    }
}

/// One thread for each so many processors passes requests on: the rest is for the functions. Every thread more is one
/// that a request may have to wake on its way: with one for each of four processors an invocation took a fifth longer.
const PROCESSORS_PER_THREAD: usize = 4;

fn runtime() -> std::io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.div_ceil(PROCESSORS_PER_THREAD);
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let runtime = runtime().map_err(|error| Failure::io("start", &error))?;
    let stop = Stop::listen(runtime.handle()).map_err(|error| Failure::io("listen for Ctrl-C", &error))?;
    let catalogue = args.functions.as_deref().map_or_else(|| Ok(Catalogue::default()), Catalogue::load);
    let catalogue = catalogue.map_err(|error| Failure::of(&error))?;
    let destinations = destinations(args)?;
    let node = start_node(data, |config| {
        if let Some(mib) = args.lazy_above {
            config.lazy_above_bytes = mib << 20;
        }
        if let Some(sleepers) = args.sleepers_per_base {
            config.sleepers_per_base = sleepers.get();
        }
    })?;
    if let Err(failure) = try_cell(args, data) {
        node.shutdown();
        return Err(failure);
    }
    let server = runtime.block_on(Server::start(config(args, catalogue, destinations, data), node.clone()));
    let served = server.map_err(|error| Failure::of(&error)).and_then(|server| {
        let address = server.addr().unwrap_or(args.listen);
        let names: Vec<String> = server.functions().iter().map(ToString::to_string).collect();
        let ready = output::print(&format!(
            "dormouse serves {} on http://{address} ({})\n",
            if names.is_empty() { "no function".to_owned() } else { names.join(", ") },
            server.socket().display()
        ));
        let watched =
            server.metrics_addr().map(|at| output::print(&format!("metrics on http://{at}/metrics\n")));
        runtime.block_on(stop.wait());
        runtime.block_on(server.shutdown());
        ready.and(watched.unwrap_or(Ok(())))
    });
    node.shutdown();
    served
}

/// A node in this data directory, guarded by this same program. What it would be with more rights is said.
pub(crate) fn start_node(data: &Path, configure: impl FnOnce(&mut NodeConfig)) -> Result<Node, Failure> {
    let guard = std::env::current_exe().map_err(|error| Failure::io("find this program", &error))?;
    let mut config = NodeConfig { guard: Some(guard), ..NodeConfig::new(data.to_owned()) };
    configure(&mut config);
    let node = Node::start(config).map_err(|error| Failure::of(&error))?;
    let privilege = linux::probe::privilege();
    if privilege.verdict != Verdict::Good {
        output::note(privilege.advice);
    }
    Ok(node)
}

/// Whether functions can be kept apart as they are to be: said now, and not at the first invocation. Without it they do
/// not start: a wall that is there on one machine and silently not on the next is none.
fn try_cell(args: &Args, data: &Path) -> Result<(), Failure> {
    check_network(args.isolation, &args.network)?;
    if args.isolation == Isolation::None {
        return Ok(());
    }
    let builder = std::env::current_exe().map_err(|error| Failure::io("find this program", &error))?;
    let data = data.canonicalize().map_err(|error| Failure::io(format!("use {data:?}"), &error))?;
    linux::cell::try_one(builder, data, args.network.clone()).map_err(|error| {
        Failure::io("build a cell, in which functions are kept apart from this machine and from each other", &error).hint(
            "`dormouse doctor` says what is missing. `--isolation none` does without: for development, as functions then \
             run as who you are and see all that you see",
        )
    })
}

/// Whether there can be this network, as far as that shows without building a cell.
pub(crate) fn check_network(isolation: Isolation, network: &Network) -> Result<(), Failure> {
    match (isolation, network) {
        (Isolation::None, Network::Host) => Ok(()),
        (Isolation::None, _) => {
            let failure = Failure::new(format!("the network {network} is for functions in cells"));
            Err(failure.hint("say `--isolation cell`, or leave out `--network`"))
        }
        (Isolation::Cell, _) => network.check().map_err(|error| Failure::of(&error)),
    }
}

/// The directories, absolute, as destinations name them.
fn destinations(args: &Args) -> Result<Vec<PathBuf>, Failure> {
    let allow = |dir: &PathBuf| match std::path::absolute(dir) {
        Ok(dir) if dir.is_dir() => Ok(dir),
        Ok(dir) => {
            Err(Failure::io(format!("use {dir:?} for destinations"), &ErrorKind::NotADirectory.into()))
        }
        Err(error) => Err(Failure::io(format!("use {dir:?} for destinations"), &error)),
    };
    args.destinations.iter().map(allow).collect()
}

fn config(args: &Args, catalogue: Catalogue, destinations: Vec<PathBuf>, data: &Path) -> ServerConfig {
    ServerConfig {
        listen: Some(args.listen),
        metrics_listen: args.metrics_listen,
        keep_warm: Duration::from_secs(args.keep_warm),
        keep_dedup: Duration::from_secs(args.keep_dedup),
        concurrency: args.concurrency,
        account_concurrency: args.account_concurrency,
        queue_len: args.queue,
        isolation: args.isolation.into(),
        network: args.network.clone(),
        destinations,
        socket: data_dir::socket(data),
        ..ServerConfig::new(catalogue, data)
    }
}
