//! What is counted of events.

use std::time::Duration;

use events::{GivenUp, Lane, LaneFacts, Timestamp};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use protocol::FunctionName;

type Labels = Vec<(&'static str, String)>;

/// All counters of events. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub(crate) struct EventMetrics {
    waiting: Family<Labels, Gauge>,
    running: Family<Labels, Gauge>,
    bytes: Family<Labels, Gauge>,
    age: Family<Labels, Gauge>,
    retries: Family<Labels, Counter>,
    given_up: Family<Labels, Counter>,
    undelivered: Family<Labels, Counter>,
}

impl EventMetrics {
    pub(crate) fn register(&self, r: &mut Registry) {
        let waiting = "Events that wait for their next attempt, by target: a function, or a file";
        r.register("events_waiting", waiting, self.waiting.clone());
        r.register("events_running", "Events that are being tried, by target", self.running.clone());
        let bytes = "What queued events take, by target";
        r.register_with_unit("events", bytes, Unit::Bytes, self.bytes.clone());
        let age = "Time since the oldest queued event was accepted, by target";
        r.register_with_unit("events_oldest_age", age, Unit::Seconds, self.age.clone());
        let retries = "Events that are tried again after an error of their function, by function";
        r.register("event_retries", retries, self.retries.clone());
        let given_up = "Events that were given up, by function and reason";
        r.register("events_given_up", given_up, self.given_up.clone());
        let undelivered = "Records and dead letters that reached nobody, by target and reason";
        r.register("destination_failures", undelivered, self.undelivered.clone());
    }

    /// Targets without events are left out.
    pub(super) fn measure(&self, facts: &[LaneFacts], now: Timestamp) {
        let gauges = [&self.waiting, &self.running, &self.bytes, &self.age];
        gauges.iter().for_each(|gauge| gauge.clear());
        for fact in facts {
            let labels = vec![("target", name(&fact.lane))];
            let age = fact.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
            let values = [fact.waiting, fact.running, fact.bytes, age.as_secs()];
            for (gauge, value) in gauges.iter().zip(values) {
                gauge.get_or_create(&labels).set(value as i64);
            }
        }
    }

    pub(super) fn retried(&self, function: &FunctionName) {
        self.retries.get_or_create(&vec![("function", function.to_string())]).inc();
    }

    pub(super) fn given_up(&self, function: &FunctionName, why: GivenUp) {
        self.gave_up(function, why.as_str());
    }

    /// It was removed while events of it waited.
    pub(super) fn no_function(&self, function: &FunctionName) {
        self.gave_up(function, "NoFunction");
    }

    fn gave_up(&self, function: &FunctionName, why: &str) {
        let labels = vec![("function", function.to_string()), ("reason", why.to_owned())];
        self.given_up.get_or_create(&labels).inc();
    }

    pub(super) fn undelivered(&self, lane: &Lane, why: Undelivered) {
        let labels = vec![("target", name(lane)), ("reason", why.as_str().to_owned())];
        self.undelivered.get_or_create(&labels).inc();
    }
}

fn name(lane: &Lane) -> String {
    match lane {
        Lane::Function(name) => name.to_string(),
        Lane::File(path) => format!("file://{}", path.display()),
    }
}

/// Why a record reached nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// The queue had no room for it.
    QueueFull,
    /// It is too large.
    TooLarge,
    /// Too many events led to it: a loop.
    Loop,
    /// Its file could not be written for as long as an event lives.
    File,
}

impl Undelivered {
    fn as_str(self) -> &'static str {
        match self {
            Undelivered::QueueFull => "queue_full",
            Undelivered::TooLarge => "too_large",
            Undelivered::Loop => "loop",
            Undelivered::File => "file",
        }
    }
}
