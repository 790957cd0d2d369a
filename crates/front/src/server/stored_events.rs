//! The queue of asynchronous invocations as the server finds it when it starts.

use std::sync::Arc;

use events::{OpenError, Queue};

use super::{ServerConfig, ServerError};
use crate::catalogue::LiveCatalogue;
use crate::control::Control;
use crate::deploy::Deployer;
use crate::dispatch::Dispatch;
use crate::event_queue::{
    self, Clock, Destinations, EventConfigs, EventLookup, EventQueue, EventTask, Routes,
};
use crate::functions::Catalogue;
use crate::metrics::Metrics;

/// The events of earlier runs, and what the functions say of theirs.
pub(super) struct StoredEvents {
    queue: Queue,
    clock: Clock,
    pub(super) destinations: Destinations,
    pub(super) configs: EventConfigs,
}

impl StoredEvents {
    /// Opening checks the whole file.
    pub(super) async fn open(config: &ServerConfig) -> Result<Self, ServerError> {
        let destinations = Destinations::new(&config.destinations);
        let configs = event_configs(&config.catalogue, &destinations)?;
        let (path, bounds, clock) =
            (config.data_dir.join("events.redb"), config.event_bounds, Clock::start());
        let failed = |source| OpenError::Io { path: config.data_dir.clone(), source };
        let opened = tokio::task::spawn_blocking(move || Queue::open(&path, bounds, clock.now()));
        let queue = opened.await.map_err(|error| failed(std::io::Error::other(error)))??;
        Ok(Self { queue, clock, destinations, configs })
    }

    /// From now on they are tried.
    pub(super) fn work(
        self,
        config: &ServerConfig,
        dispatch: &Dispatch,
        deployer: &Deployer,
        catalogue: &LiveCatalogue,
        metrics: &Metrics,
        control: &Arc<Control>,
    ) -> (EventQueue, EventTask) {
        EventQueue::start(event_queue::Setup {
            queue: self.queue,
            clock: self.clock,
            hands: Arc::new(Routes {
                dispatch: dispatch.clone(),
                catalogue: catalogue.clone(),
                configs: Arc::clone(control) as Arc<dyn EventLookup>,
                deployer: deployer.clone(),
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
