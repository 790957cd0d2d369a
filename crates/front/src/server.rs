//! The whole server: the Lambda door on TCP, the operator's door on a unix socket, dispatch between them and
//! the node.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use brain::{Beyond, FunctionPlan};
use events::{OpenError, Queue};
use node::Node;
use protocol::FunctionName;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::admin::Admin;
use crate::catalogue::{LiveCatalogue, Version};
use crate::control::{Control, DeployedError};
use crate::deploy::Deployer;
use crate::dispatch::{Dispatch, Plan, Setup};
use crate::door;
use crate::event_queue::{
    self, Clock, Destinations, EventConfigs, EventQueue, EventTask, InvalidDestination, Routes,
};
use crate::functions::Catalogue;
use crate::hands::NodeHands;
use crate::invoke::Door;
use crate::keys::{Keys, KeysError};
use crate::launch::{DataDirError, Launcher};
use crate::metrics::Metrics;
use crate::socket::{self, SocketError, SocketFile};
use crate::watch::Watch;

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
            destinations: Vec::new(),
            event_bounds: events::Bounds::default(),
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
    /// A function's events are to go where none may go.
    #[error("function {function}: {source}")]
    Destination {
        /// The function.
        function: FunctionName,
        /// Why not.
        source: InvalidDestination,
    },
}

/// A running server. Call `shutdown`; dropping it just stops taking requests.
pub struct Server {
    addr: Option<SocketAddr>,
    metrics_addr: Option<SocketAddr>,
    socket: PathBuf,
    dispatch: Dispatch,
    deployer: Deployer,
    catalogue: LiveCatalogue,
    events: EventTask,
    stop: watch::Sender<bool>,
    door: Option<JoinHandle<()>>,
    admin: JoinHandle<()>,
    watch: Option<JoinHandle<()>>,
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
        let launcher = Launcher::new(&config.data_dir, &config.region, config.python.clone())?;
        let keys = Keys::in_dir(&config.data_dir);
        let listener = match config.listen {
            Some(addr) if !addr.ip().is_loopback() && keys.all()?.is_empty() => {
                return Err(ServerError::NoKeys { addr });
            }
            Some(addr) => Some(bind(addr).await?),
            None => None,
        };
        let addr = listener.as_ref().map(|(_, addr)| *addr);
        let metrics_listener = match config.metrics_listen {
            Some(addr) => Some(bind(addr).await?),
            None => None,
        };
        let (unix, socket_file) = socket::listen(&config.socket).await?;

        let stored = StoredEvents::open(&config).await?;
        let metrics = Metrics::new();
        let dispatch = Dispatch::start(Setup {
            plan: plan(&config),
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
        let of_events = (stored.configs.clone(), stored.destinations.clone());
        let (data, region) = (&config.data_dir, &config.region);
        let opened = Control::open(data, region, url_host, folders, deployer.clone(), of_events);
        let control = Arc::new(opened.await?);
        // Not before its functions are there.
        let (events, event_task) = stored.work(&config, &dispatch, &catalogue, &metrics);
        let region = config.region.as_str().into();
        let calls = Door::new(dispatch.clone(), catalogue.clone(), events.clone(), region);
        let (stop, stopped) = watch::channel(false);
        let watch = Watch {
            dispatch: dispatch.clone(),
            node: Arc::clone(&node),
            metrics: metrics.clone(),
            events: events.clone(),
            stopped: stopped.clone(),
        };
        let metrics_addr = metrics_listener.as_ref().map(|(_, addr)| *addr);
        let watching =
            metrics_listener.map(|(listener, _)| spawn(axum::serve(listener, watch.clone().router())));
        let admin = Admin { dispatch: dispatch.clone(), node, metrics, watch }.router();
        let admin = admin.fallback_service(door::api(calls.clone(), &control));
        let door = listener.map(|(listener, addr)| {
            serve_tcp(listener, door::router(calls, &control, Access::new(keys, addr.ip())), stopped.clone())
        });
        Ok(Server {
            addr,
            metrics_addr,
            watch: watching,
            socket: config.socket,
            dispatch,
            deployer,
            catalogue,
            events: event_task,
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
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        tokio::join!(drain(self.door), self.events.stop(DRAIN_MAX));
        self.dispatch.shutdown(PURGE_MAX).await;
        self.admin.abort();
        self.watch.iter().for_each(JoinHandle::abort);
    }
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

/// The events of earlier runs, and what the functions say of theirs.
struct StoredEvents {
    queue: Queue,
    clock: Clock,
    destinations: Destinations,
    configs: EventConfigs,
}

impl StoredEvents {
    /// Opening checks the whole file.
    async fn open(config: &ServerConfig) -> Result<Self, ServerError> {
        let destinations = Destinations::new(&config.destinations);
        let configs = event_configs(&config.catalogue, &destinations)?;
        let (path, bounds, clock) =
            (config.data_dir.join("events.redb"), config.event_bounds, Clock::start());
        let failed = |source| OpenError::Io { path: config.data_dir.clone(), source };
        let opened = tokio::task::spawn_blocking(move || Queue::open(&path, bounds, clock.now()));
        let queue = opened.await.map_err(|error| failed(std::io::Error::other(error)))??;
        Ok(Self { queue, clock, destinations, configs })
    }

    fn work(
        self,
        config: &ServerConfig,
        dispatch: &Dispatch,
        catalogue: &LiveCatalogue,
        metrics: &Metrics,
    ) -> (EventQueue, EventTask) {
        EventQueue::start(event_queue::Setup {
            queue: self.queue,
            clock: self.clock,
            hands: Arc::new(Routes {
                dispatch: dispatch.clone(),
                catalogue: catalogue.clone(),
                configs: self.configs,
                concurrency: config.concurrency,
            }),
            destinations: self.destinations,
            metrics: metrics.events.clone(),
            region: config.region.as_str().into(),
        })
    }
}

/// What the functions' files say of their events.
fn event_configs(catalogue: &Catalogue, allowed: &Destinations) -> Result<EventConfigs, ServerError> {
    let configs = EventConfigs::default();
    for function in catalogue.iter() {
        let (name, config) = (&function.name, &function.events);
        for target in [&config.on_success, &config.on_failure, &config.dead_letter].into_iter().flatten() {
            let refused = |source| ServerError::Destination { function: name.clone(), source };
            allowed.check(target).map_err(refused)?;
        }
        configs.set(name.clone(), None, config.clone());
    }
    Ok(configs)
}

async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}

/// The door for everybody.
fn serve_tcp(listener: TcpListener, router: axum::Router, stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    // Head and body are two writes: Nagle's algorithm would hold the second back for 40 ms.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    spawn(axum::serve(listener, router).with_graceful_shutdown(ended(stopped)))
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
        account: config.account_concurrency,
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

#[cfg(test)]
mod tests;
