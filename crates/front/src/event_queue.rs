//! Asynchronous invocations: taken from the queue when they are due, tried, tried again, and what became of them sent
//! on. The queue itself, which survives a crash, is crate `events`.

mod attempt;
mod configs;
mod follow_up;
mod hands;
mod line;
mod metrics;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use events::{AcceptError, Event, Lane, NewEvent, Queue, Taken, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

pub use configs::InvalidDestination;
pub(crate) use configs::{Destinations, EventConfigs, EventLookup, parse};
pub(crate) use hands::{EventHands, Routes};
pub(crate) use metrics::EventMetrics;
pub(crate) use settings::EventsToml;

use attempt::Attempts;

/// Events of all functions that are tried at the same time: with the largest payloads, 750 MB.
const RUNNING_MAX: usize = 128;

/// How long to wait after the queue's file could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// The time of day, as it goes on from the start of the server: it does not jump while the server runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at: Timestamp::default().after(since_1970) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.started_at.after(self.started.elapsed())
    }

    fn instant(&self, time: Timestamp) -> Instant {
        self.started + time.since(self.started_at)
    }
}

/// What works on events needs.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) hands: Arc<dyn EventHands>,
    pub(crate) destinations: Destinations,
    pub(crate) metrics: EventMetrics,
    /// For the addresses of functions in records.
    pub(crate) region: Arc<str>,
}

/// A handle to what works on the queue. Cloning gives another to the same.
#[derive(Clone)]
pub(crate) struct EventQueue {
    queue: Queue,
    clock: Clock,
    metrics: EventMetrics,
    /// Something was accepted.
    accepted: Arc<Notify>,
}

/// The task behind the handles. Dropping it lets it go on: call `rest`, then `close`.
pub(crate) struct EventTask {
    queue: Queue,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl EventQueue {
    /// Starts to work on the queue, with whatever is in it.
    pub(crate) fn start(setup: Setup) -> (EventQueue, EventTask) {
        let (queue, clock, metrics) = (setup.queue.clone(), setup.clock, setup.metrics.clone());
        let accepted = Arc::new(Notify::new());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(work(setup, Arc::clone(&accepted), stopped));
        let task = EventTask { queue: queue.clone(), stop, task };
        (EventQueue { queue, clock, metrics, accepted }, task)
    }

    /// Queues an event of a client. It is on the disk when this returns.
    pub(crate) async fn accept(&self, event: NewEvent) -> Result<(), AcceptError> {
        self.queue.accept(event, self.clock.now()).await?;
        self.accepted.notify_one();
        Ok(())
    }

    /// Sets the gauges to what is queued now.
    pub(crate) fn measure(&self) {
        self.metrics.measure(&self.queue.facts(), self.clock.now());
    }
}

impl EventTask {
    /// Tries no more events, and lets those that run end for so long. What comes meanwhile is still queued.
    pub(crate) async fn rest(&mut self, wait: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(wait, &mut self.task).await.is_err() {
            tracing::warn!(
                "events are still tried after {wait:?}: they will be tried again after the next start"
            );
            self.task.abort();
        }
    }

    /// Closes the queue. What is left is tried after the next start, also what was cut off; what comes from now on is
    /// refused.
    pub(crate) async fn close(self) {
        let closed = tokio::task::spawn_blocking(move || self.queue.close());
        if let Err(error) = closed.await {
            tracing::error!(%error, "close the event queue");
        }
    }
}

/// What can be tried now, and what to wait for then.
struct Round {
    events: Vec<Event>,
    then: Then,
}

enum Then {
    At(Timestamp),
    OnChange,
}

async fn work(setup: Setup, accepted: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
    let attempts = Arc::new(Attempts::new(setup.clone()));
    let mut running = JoinSet::new();
    while !*stopped.borrow() {
        let round = take(&setup, RUNNING_MAX - running.len()).await;
        for event in round.events {
            let attempts = Arc::clone(&attempts);
            running.spawn(async move { attempts.make(event).await });
        }
        tokio::select! {
            _ = running.join_next(), if !running.is_empty() => {}
            () = accepted.notified() => {}
            () = until(&setup.clock, &round.then), if running.len() < RUNNING_MAX => {}
            changed = stopped.changed() => if changed.is_err() { break }, // Nobody is left to stop it.
        }
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

async fn until(clock: &Clock, then: &Then) {
    match then {
        Then::At(time) => tokio::time::sleep_until(clock.instant(*time)).await,
        Then::OnChange => std::future::pending().await,
    }
}

async fn take(setup: &Setup, room: usize) -> Round {
    let (queue, hands, now) = (setup.queue.clone(), Arc::clone(&setup.hands), setup.clock.now());
    let taken = tokio::task::spawn_blocking(move || take_blocking(&queue, &*hands, now, room));
    taken.await.unwrap_or_else(|error| {
        tracing::error!(%error, "take events");
        Round { events: Vec::new(), then: Then::At(now.after(READ_PAUSE)) }
    })
}

fn take_blocking(queue: &Queue, hands: &dyn EventHands, now: Timestamp, room: usize) -> Round {
    let may_run = |lane: &Lane| match lane {
        Lane::Function(name) => hands.may_run(name),
        Lane::File(_) => 1, // Lines one after the other.
    };
    let mut events = Vec::new();
    while events.len() < room {
        match queue.take(now, &may_run) {
            Ok(Taken::Event(event)) => events.push(event),
            Ok(Taken::NothingBefore(time)) => return Round { events, then: Then::At(time) },
            Ok(Taken::Nothing) => return Round { events, then: Then::OnChange },
            Err(error) => {
                tracing::error!(%error, "an event cannot be read");
                return Round { events, then: Then::At(now.after(READ_PAUSE)) };
            }
        }
    }
    Round { events, then: Then::OnChange }
}
