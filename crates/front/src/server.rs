//! The whole server: the Lambda door on TCP, the operator's door on a unix socket, dispatch between them and
//! the node.

mod config;
mod stored_events;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use node::Node;
use protocol::FunctionName;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use config::{ServerConfig, ServerError};
use stored_events::StoredEvents;

use crate::access::Access;
use crate::admin::Admin;
use crate::catalogue::{LiveCatalogue, Version};
use crate::connections::{self, ended};
use crate::control::Control;
use crate::deploy::Deployer;
use crate::dispatch::{Dispatch, Setup};
use crate::door;
use crate::event_queue::EventTask;
use crate::hands::NodeHands;
use crate::invoke::Door;
use crate::isolation::Isolation;
use crate::keys::Keys;
use crate::launch::{DataDirError, Launcher};
use crate::log_store::LogStore;
use crate::metrics::Metrics;
use crate::socket::{self, SocketFile};
use crate::watch::Watch;

/// How long running invocations may take to end when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long purged sandboxes may take to die.
const PURGE_MAX: Duration = Duration::from_secs(10);

/// A running server. Call `shutdown`; dropping it just stops taking requests.
pub struct Server {
    addr: Option<SocketAddr>,
    metrics_addr: Option<SocketAddr>,
    socket: PathBuf,
    dispatch: Dispatch,
    logs: LogStore,
    deployer: Deployer,
    catalogue: LiveCatalogue,
    events: EventTask,
    stop: watch::Sender<bool>,
    door: Option<JoinHandle<()>>,
    admin: JoinHandle<()>,
    watch: Option<JoinHandle<()>>,
    /// Dropped last: whoever watches sees the end.
    _close_watch: watch::Sender<bool>,
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
        config::check_networks(&config)?;
        let launcher = Launcher::new(&config)?;
        let networks = launcher.networks().clone();
        let listeners = Listeners::open(&config).await?;
        let addr = listeners.door.as_ref().map(|(_, addr)| *addr);
        let stored = StoredEvents::open(&config).await?;
        let metrics = Metrics::new();
        let logs = open_logs(&config.data_dir)?;
        let dispatch = Dispatch::start(Setup {
            logs: logs.clone(),
            plan: config::plan(&config),
            launcher: Arc::new(launcher),
            node: Arc::clone(&node),
            metrics: metrics.clone(),
        });
        let catalogue = LiveCatalogue::default();
        let deployer = Deployer::new(catalogue.clone(), dispatch.clone(), config.account_concurrency);
        for function in config.catalogue.iter() {
            deployer.put(Version::Latest, function.clone()).await;
        }
        let url_host = url_host(&config.region, addr);
        let folders = &config.catalogue;
        let events_of = (stored.configs.clone(), stored.destinations.clone());
        let (dir, region) = (&config.data_dir, &config.region);
        let opened = Control::open(dir, region, url_host, folders, deployer.clone(), networks, events_of);
        let control = opened.await?;
        // Not before its functions are there.
        let (events, event_task) = stored.work(&config, &dispatch, &deployer, &catalogue, &metrics, &control);
        let region = config.region.as_str().into();
        let calls =
            Door::new(dispatch.clone(), catalogue.clone(), events.clone(), Arc::clone(&control), region);
        let (stop, stopped) = watch::channel(false);
        let watch = Watch {
            dispatch: dispatch.clone(),
            node: Arc::clone(&node),
            metrics: metrics.clone(),
            events: events.clone(),
            stopped: stopped.clone(),
        };
        let metrics_addr = listeners.metrics.as_ref().map(|(_, addr)| *addr);
        let (close_watch, open) = watch::channel(false);
        let watching =
            listeners.metrics.map(|(listener, _)| spawn_door(listener, watch.clone().router(), None, open));
        // Where there are no cells, nobody is in one.
        let callers = (config.isolation == Isolation::Cell).then(|| Arc::clone(&node));
        let admin = Admin { dispatch: dispatch.clone(), node, metrics, watch, logs: logs.clone() }.router();
        let admin = admin.fallback_service(door::api(calls.clone(), &control));
        let door = listeners.door.map(|(listener, addr)| {
            let router = door::router(calls, &control, Access::new(listeners.keys, addr.ip()));
            // Elsewhere nobody comes in without a key, whoever it is.
            spawn_door(listener, router, callers.filter(|_| addr.ip().is_loopback()), stopped.clone())
        });
        Ok(Server {
            addr,
            metrics_addr,
            watch: watching,
            _close_watch: close_watch,
            socket: config.socket,
            dispatch,
            logs,
            deployer,
            catalogue,
            events: event_task,
            door,
            admin: spawn(axum::serve(listeners.unix, admin).with_graceful_shutdown(ended(stopped))),
            stop,
            _socket_file: listeners.socket_file,
        })
    }

    /// Where invocations come in.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Where metrics and health can be asked for.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// For changes of functions, versions and aliases while it runs.
    pub fn deployer(&self) -> &Deployer {
        &self.deployer
    }

    /// The functions that it serves now.
    pub fn functions(&self) -> Vec<FunctionName> {
        self.catalogue.snapshot().keys().cloned().collect()
    }

    /// The operator's socket.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Takes no more requests, lets running invocations end for ten seconds, and purges the sandboxes. Events that
    /// are queued stay queued.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        tokio::join!(drain(self.door), self.events.rest(DRAIN_MAX));
        self.events.close().await; // Not before the door is: events whose requests were under way are kept.
        self.dispatch.shutdown(PURGE_MAX).await;
        self.logs.flush().await;
        self.admin.abort();
        self.watch.iter().for_each(JoinHandle::abort);
    }
}

/// All that is listened at. Taken before anything else is begun: an address that is in use costs nothing then.
struct Listeners {
    door: Option<(TcpListener, SocketAddr)>,
    keys: Keys,
    metrics: Option<(TcpListener, SocketAddr)>,
    unix: UnixListener,
    socket_file: SocketFile,
}

impl Listeners {
    async fn open(config: &ServerConfig) -> Result<Self, ServerError> {
        let keys = Keys::in_dir(&config.data_dir);
        let door = match config.listen {
            Some(addr) if !addr.ip().is_loopback() && keys.all()?.is_empty() => {
                return Err(ServerError::NoKeys { addr });
            }
            Some(addr) => Some(bind(addr).await?),
            None => None,
        };
        let metrics = match config.metrics_listen {
            Some(addr) => Some(bind(addr).await?),
            None => None,
        };
        let (unix, socket_file) = socket::listen(&config.socket).await?;
        Ok(Self { door, keys, metrics, unix, socket_file })
    }
}

/// A task for a door on TCP.
fn spawn_door(
    listener: TcpListener,
    router: Router,
    node: Option<Arc<dyn NodeHands>>,
    stopped: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::spawn(connections::serve(listener, router, node, stopped))
}

/// What follows the id in the hosts of function URLs. Names below `localhost` need no name server.
fn url_host(region: &str, addr: Option<SocketAddr>) -> String {
    let port = addr.map(|addr| format!(":{}", addr.port())).unwrap_or_default();
    format!("lambda-url.{region}.localhost{port}")
}

async fn drain(door: Option<JoinHandle<()>>) {
    if let Some(mut door) = door
        && tokio::time::timeout(DRAIN_MAX, &mut door).await.is_err()
    {
        tracing::warn!("invocations still run after {DRAIN_MAX:?}: they are cut off");
        door.abort();
    }
}

fn open_logs(data_dir: &Path) -> Result<LogStore, DataDirError> {
    let dir = data_dir.join("logs");
    LogStore::start(&dir).map_err(|source| DataDirError { path: dir, source })
}

async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}

/// A task for the operator's door. Serving ends by graceful shutdown only: accept errors are retried inside.
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

#[cfg(test)]
mod tests;
