//! `dormouse serve`: functions over HTTP, until Ctrl-C.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use front::{Catalogue, Server, ServerConfig};
use linux::probe::Verdict;
use node::{Node, NodeConfig};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse serve --functions examples/functions
  dormouse serve --listen 127.0.0.1:9000 --functions ./functions --data ./state --keep-warm 10
  curl -d '{\"n\": 3}' http://127.0.0.1:9000/2015-03-31/functions/hello/invocations
  aws lambda invoke --endpoint-url http://127.0.0.1:9000 --function-name hello out.json

Each folder in --functions is a function: a lambda_function.py or an executable `bootstrap`, and a function.toml \
where the defaults do not fit (handler, runtime, python, memory_mb, timeout_s, environment, sharing, layout, depth, \
concurrency, keep_warm_s, keep_dedup_s, processes, open_files, file_mb, tmp_mb). DORMOUSE_PYTHON is the interpreter of \
functions that name none; else it is python3 from PATH. Ctrl-C ends the server: \
running invocations may end, every sandbox is killed, nothing is left behind.")]
pub(crate) struct Args {
    /// Where to listen for invocations
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// A directory with a folder for each function
    #[arg(long, value_name = "DIR")]
    functions: PathBuf,
    /// How long an idle sandbox stays warm, where its function does not say
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    keep_warm: u64,
    /// How long a sleeping sandbox is kept, where its function does not say
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    keep_dedup: u64,
    /// Sandboxes of one function at once, where it does not say
    #[arg(long, value_name = "N", default_value_t = 10)]
    concurrency: usize,
    /// Invocations of one function that may wait while all its sandboxes are busy
    #[arg(long, value_name = "N", default_value_t = 100)]
    queue: usize,
    /// How sandboxes are kept apart from this machine and from each other
    #[arg(long, value_enum, default_value_t = Isolation::None)]
    isolation: Isolation,
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

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::io("start", &error))?;
    let stop = Stop::listen(runtime.handle()).map_err(|error| Failure::io("listen for Ctrl-C", &error))?;
    let catalogue = Catalogue::load(&args.functions).map_err(|error| Failure::of(&error))?;
    let names: Vec<String> = catalogue.iter().map(|function| function.name.to_string()).collect();
    warn_if_open(args.listen);
    let node = start_node(data, |config| {
        if let Some(mib) = args.lazy_above {
            config.lazy_above_bytes = mib << 20;
        }
        if let Some(sleepers) = args.sleepers_per_base {
            config.sleepers_per_base = sleepers.get();
        }
    })?;
    let server = runtime.block_on(Server::start(config(args, catalogue, data), node.clone()));
    let served = server.map_err(|error| Failure::of(&error)).and_then(|server| {
        let address = server.addr().unwrap_or(args.listen);
        let ready = output::print(&format!(
            "dormouse serves {} on http://{address} ({})\n",
            if names.is_empty() { "no function".to_owned() } else { names.join(", ") },
            server.socket().display()
        ));
        runtime.block_on(stop.wait());
        runtime.block_on(server.shutdown());
        ready
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

fn config(args: &Args, catalogue: Catalogue, data: &Path) -> ServerConfig {
    ServerConfig {
        listen: Some(args.listen),
        keep_warm: Duration::from_secs(args.keep_warm),
        keep_dedup: Duration::from_secs(args.keep_dedup),
        concurrency: args.concurrency,
        queue_len: args.queue,
        isolation: args.isolation.into(),
        ..ServerConfig::new(catalogue, data)
    }
}

/// There are no credentials: whoever reaches the address can run the functions.
fn warn_if_open(listen: SocketAddr) {
    if !listen.ip().is_loopback() {
        tracing::warn!(%listen, "anybody who reaches this address can invoke the functions: there is no authentication");
    }
}
