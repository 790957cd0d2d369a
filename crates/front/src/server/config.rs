//! How a server is set up, and why it may not start.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use brain::{Beyond, FunctionPlan};
use events::OpenError;
use node::{Network, NetworkError};
use protocol::FunctionName;

use crate::control::DeployedError;
use crate::dispatch::Plan;
use crate::event_queue::InvalidDestination;
use crate::functions::Catalogue;
use crate::isolation::Isolation;
use crate::keys::KeysError;
use crate::launch::DataDirError;
use crate::socket::SocketError;

/// How a server is set up. `new` fills in what most want; change what you like.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where invocations come in. Port 0: any free one, see `Server::addr`. `None`: nowhere, only the operator's
    /// socket is served.
    pub listen: Option<SocketAddr>,
    /// Where metrics and health can be asked for, by everybody. `None`: on the operator's socket alone.
    pub metrics_listen: Option<SocketAddr>,
    /// The functions.
    pub catalogue: Catalogue,
    /// Where the server keeps its secret and its runtime files; the folder must exist.
    pub data_dir: PathBuf,
    /// The operator's socket.
    pub socket: PathBuf,
    /// How long an idle sandbox stays warm, where the function does not say.
    pub keep_warm: Duration,
    /// How long a dedup sandbox is kept, where the function does not say.
    pub keep_dedup: Duration,
    /// Sandboxes of one function at once, where the function does not say.
    pub concurrency: usize,
    /// Invocations that may be under way at once, of all functions together that have Lambda's limits.
    pub account_concurrency: usize,
    /// Invocations of one function that may wait while all its sandboxes are busy.
    pub queue_len: usize,
    /// How long an invocation may wait for a sandbox.
    pub queue_wait: Duration,
    /// How long a sandbox may take until it asks for its first invocation.
    pub init_timeout: Duration,
    /// The region that functions believe to be in.
    pub region: String,
    /// The Python interpreter of functions that name none; `python3` from `PATH` when absent.
    pub python: Option<PathBuf>,
    /// How sandboxes are kept apart from the machine and from each other.
    pub isolation: Isolation,
    /// Which network cells have, where the function does not say.
    pub network: Network,
    /// Directories, absolute, with files that may be destinations of events.
    pub destinations: Vec<PathBuf>,
    /// How many asynchronous invocations are kept.
    pub event_bounds: events::Bounds,
}

impl ServerConfig {
    /// The defaults. `DORMOUSE_PYTHON` in the environment names the interpreter.
    pub fn new(catalogue: Catalogue, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9000))),
            metrics_listen: None,
            catalogue,
            socket: data_dir.join("dormouse.sock"),
            data_dir,
            keep_warm: Duration::from_secs(60),
            keep_dedup: Duration::from_secs(3600),
            concurrency: 10,
            account_concurrency: 1000, // Lambda's.
            queue_len: 100,
            // Longer than a cold start with its ten seconds, shorter than most clients' patience.
            queue_wait: Duration::from_secs(30),
            init_timeout: Duration::from_secs(10), // Lambda's.
            region: "us-east-1".to_owned(),
            python: std::env::var_os("DORMOUSE_PYTHON").map(|named| findable(named.into())),
            isolation: Isolation::default(),
            network: Network::Host,
            destinations: Vec::new(),
            event_bounds: events::Bounds::default(),
        }
    }
}

/// A name to be looked for in `PATH` as it is; a path from here, as functions start elsewhere.
pub(super) fn findable(named: PathBuf) -> PathBuf {
    let is_name = named.components().count() == 1 && !named.is_absolute();
    if is_name { named } else { std::path::absolute(&named).unwrap_or(named) }
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error("listen at {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others would reach the address, and nothing would keep them out.
    #[error(
        "{addr} is reached from other machines, and there is no key to keep anybody out: make one with `dormouse key \
         add`, or listen at 127.0.0.1"
    )]
    NoKeys {
        /// The address.
        addr: SocketAddr,
    },
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The operator's socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The catalogue of deployed functions cannot be opened.
    #[error(transparent)]
    Deployed(#[from] DeployedError),
    /// The data directory cannot be written to.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The queue of asynchronous invocations cannot be had.
    #[error(transparent)]
    Events(#[from] OpenError),
    /// A function is to have a network that is not there.
    #[error("function {function}: {source}")]
    Network {
        /// The function.
        function: FunctionName,
        /// Why not.
        source: NetworkError,
    },
    /// A function's events are to go where none may go.
    #[error("function {function}: {source}")]
    Destination {
        /// The function.
        function: FunctionName,
        /// Why not.
        source: InvalidDestination,
    },
}

/// Whether the networks that functions ask for are there: said now, and not at their first invocation.
pub(super) fn check_networks(config: &ServerConfig) -> Result<(), ServerError> {
    let in_cells = config.catalogue.iter().filter(|_| config.isolation == Isolation::Cell);
    for function in in_cells {
        let checked = function.network.as_ref().map_or(Ok(()), Network::check);
        checked.map_err(|source| ServerError::Network { function: function.name.clone(), source })?;
    }
    Ok(())
}

/// What dispatch needs of it.
pub(super) fn plan(config: &ServerConfig) -> Plan {
    Plan {
        region: config.region.clone(),
        init_timeout: config.init_timeout,
        allowance: config.account_concurrency,
        function: FunctionPlan {
            concurrency: config.concurrency,
            keep_warm: config.keep_warm,
            keep_dedup: config.keep_dedup,
            queue_len: config.queue_len,
            queue_wait: config.queue_wait,
            beyond: Beyond::Wait,
        },
    }
}
