//! The whole server: the Lambda door on TCP, the operator's door on a unix socket, dispatch between them and
//! the node.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use brain::FunctionPlan;
use node::Node;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::Admin;
use crate::catalogue::{LiveCatalogue, Version};
use crate::deploy::Deployer;
use crate::dispatch::{Dispatch, Plan, Setup};
use crate::functions::Catalogue;
use crate::hands::NodeHands;
use crate::invoke::Door;
use crate::isolation::Isolation;
use crate::launch::{DataDirError, Launcher};
use crate::metrics::Metrics;
use crate::socket::{self, SocketError, SocketFile};

/// How long running invocations may take to end when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long purged sandboxes may take to die.
const PURGE_MAX: Duration = Duration::from_secs(10);

/// How a server is set up. `new` fills in what most want; change what you like.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where invocations come in. Port 0: any free one, see `Server::addr`. `None`: nowhere, only the operator's
    /// socket is served.
    pub listen: Option<SocketAddr>,
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
}

impl ServerConfig {
    /// The defaults. `DORMOUSE_PYTHON` in the environment names the interpreter.
    pub fn new(catalogue: Catalogue, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9000))),
            catalogue,
            socket: data_dir.join("dormouse.sock"),
            data_dir,
            keep_warm: Duration::from_secs(60),
            keep_dedup: Duration::from_secs(3600),
            concurrency: 10,
            queue_len: 100,
            // Longer than a cold start with its ten seconds, shorter than most clients' patience.
            queue_wait: Duration::from_secs(30),
            init_timeout: Duration::from_secs(10), // Lambda's.
            region: "us-east-1".to_owned(),
            python: std::env::var_os("DORMOUSE_PYTHON").map(|named| findable(named.into())),
            isolation: Isolation::default(),
        }
    }
}

/// A name to be looked for in `PATH` as it is; a path from here, as functions start elsewhere.
fn findable(named: PathBuf) -> PathBuf {
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
    /// The operator's socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The data directory cannot be written to.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

/// A running server. Call `shutdown`; dropping it just stops taking requests.
pub struct Server {
    addr: Option<SocketAddr>,
    socket: PathBuf,
    dispatch: Dispatch,
    deployer: Deployer,
    stop: watch::Sender<bool>,
    door: Option<JoinHandle<()>>,
    admin: JoinHandle<()>,
    _socket_file: SocketFile,
}

impl Server {
    /// Starts serving. The node stays the caller's: shut it down after the server.
    pub async fn start(config: ServerConfig, node: Node) -> Result<Server, ServerError> {
        Self::start_with(config, Arc::new(node)).await
    }

    pub(crate) async fn start_with(
        config: ServerConfig,
        node: Arc<dyn NodeHands>,
    ) -> Result<Server, ServerError> {
        let launcher = Launcher::new(&config)?;
        let listener = match config.listen {
            Some(addr) => Some(bind(addr).await?),
            None => None,
        };
        let addr = listener.as_ref().map(|(_, addr)| *addr);
        let (unix, socket_file) = socket::listen(&config.socket).await?;

        let metrics = Metrics::new();
        let dispatch = Dispatch::start(Setup {
            plan: plan(&config),
            launcher: Arc::new(launcher),
            node: Arc::clone(&node),
            metrics: metrics.clone(),
        });
        let catalogue = LiveCatalogue::default();
        let deployer = Deployer::new(catalogue.clone(), dispatch.clone());
        for function in config.catalogue.iter() {
            deployer.put(Version::Latest, function.clone()).await;
        }
        let router = Door::new(dispatch.clone(), catalogue, &config.region).router();
        let admin = Admin { dispatch: dispatch.clone(), node, metrics }.router();
        let (stop, stopped) = watch::channel(false);
        let door = listener.map(|(listener, _)| {
            // Head and body are two writes: Nagle's algorithm would hold the second back for 40 ms.
            let listener = listener.tap_io(|stream| {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
            });
            spawn(axum::serve(listener, router).with_graceful_shutdown(ended(stopped.clone())))
        });
        Ok(Server {
            addr,
            socket: config.socket,
            dispatch,
            deployer,
            door,
            admin: spawn(axum::serve(unix, admin).with_graceful_shutdown(ended(stopped))),
            stop,
            _socket_file: socket_file,
        })
    }

    /// Where invocations come in.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// For changes of functions, versions and aliases while it runs.
    pub fn deployer(&self) -> &Deployer {
        &self.deployer
    }

    /// The operator's socket.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Takes no more requests, lets running invocations end for ten seconds, and purges the sandboxes.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        if let Some(mut door) = self.door
            && tokio::time::timeout(DRAIN_MAX, &mut door).await.is_err()
        {
            tracing::warn!("invocations still run after {DRAIN_MAX:?}: they are cut off");
            door.abort();
        }
        self.dispatch.shutdown(PURGE_MAX).await;
        self.admin.abort();
    }
}

async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}

/// A task for one of the two doors. Serving ends by graceful shutdown only: accept errors are retried inside.
fn spawn<F: IntoFuture<Output = std::io::Result<()>, IntoFuture: Send + 'static>>(
    serve: F,
) -> JoinHandle<()> {
    let serving = serve.into_future();
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "serve");
        }
    })
}

/// Resolves when the server is to stop, or was dropped.
async fn ended(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

fn plan(config: &ServerConfig) -> Plan {
    Plan {
        region: config.region.clone(),
        init_timeout: config.init_timeout,
        function: FunctionPlan {
            concurrency: config.concurrency,
            keep_warm: config.keep_warm,
            keep_dedup: config.keep_dedup,
            queue_len: config.queue_len,
            queue_wait: config.queue_wait,
        },
    }
}

#[cfg(test)]
mod tests;
