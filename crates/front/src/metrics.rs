//! What is counted, and how Prometheus reads it. `stats` shows the same counters: there is one of each.

mod node;
mod plain;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use brain::Origin;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use protocol::{FunctionName, FunctionRecord, NodeRecord, SleepRecord, WakeRecord};

use crate::dispatch::Count;
use crate::event_queue::EventMetrics;
use crate::outcome::Outcome;

use node::NodeMetrics;

type Labels = Vec<(&'static str, String)>;

type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text format 0.0.4, which everything reads.
    Plain,
    /// OpenMetrics 1.0, for those who ask for it.
    Open,
}

impl Format {
    /// What the values of an `Accept` header ask for.
    pub(crate) fn accepted(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") { Format::Open } else { Format::Plain }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Format::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How an invocation ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Answer,
    Error,
    Timeout,
    Throttle,
}

impl Ending {
    const ALL: [Ending; 4] = [Ending::Answer, Ending::Error, Ending::Timeout, Ending::Throttle];

    pub(crate) fn of(outcome: &Outcome) -> Ending {
        match outcome {
            Outcome::Answer { .. } => Ending::Answer,
            Outcome::FunctionError { is_timeout: true, .. } => Ending::Timeout,
            Outcome::FunctionError { .. } | Outcome::Removed | Outcome::ServiceError { .. } => Ending::Error,
            Outcome::Throttled(_) => Ending::Throttle,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Ending::Answer => "answer",
            Ending::Error => "error",
            Ending::Timeout => "timeout",
            Ending::Throttle => "throttle",
        }
    }
}

/// All counters. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Metrics {
    endings: Family<Labels, Counter>,
    starts: Family<Labels, Counter>,
    /// From the request to the outcome.
    invocation: Histograms,
    /// From the request to the sandbox that gets it.
    start: Histograms,
    sleep: Histogram,
    wake: Histogram,
    queued: Family<Labels, Gauge>,
    sandboxes: Family<Labels, Gauge>,
    /// Set from the node's record when somebody asks.
    node: NodeMetrics,
    /// Functions that have labels: as many as there are functions, as those of removed ones are taken away.
    labelled: Arc<Mutex<BTreeSet<FunctionName>>>,
    pub(crate) events: EventMetrics,
    registry: Arc<Mutex<Registry>>,
}

/// Half a millisecond to 16 s, doubling: a wake takes milliseconds, the sleep of a large sandbox seconds.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            endings: Family::default(),
            starts: Family::default(),
            invocation: Histograms::new_with_constructor(seconds),
            start: Histograms::new_with_constructor(seconds),
            sleep: seconds(),
            wake: seconds(),
            queued: Family::default(),
            sandboxes: Family::default(),
            node: NodeMetrics::default(),
            labelled: Arc::default(),
            events: EventMetrics::default(),
            registry: Arc::default(),
        };
        metrics.registry = Arc::new(Mutex::new(metrics.register()));
        metrics
    }

    fn register(&self) -> Registry {
        let mut r = Registry::with_prefix("dormouse");
        let invocations = "Invocations that ended, by function and outcome";
        r.register("invocations", invocations, self.endings.clone());
        let starts = "Invocations handed to a sandbox, by what they found: cold, warm or dedup";
        r.register("starts", starts, self.starts.clone());
        let invocation = "From the request to the outcome, by function";
        r.register_with_unit("invocation", invocation, Unit::Seconds, self.invocation.clone());
        let start = "From the request to the sandbox that gets it, by function and by what it found: cold, warm or dedup";
        r.register_with_unit("start", start, Unit::Seconds, self.start.clone());
        let sleep =
            "Of sandboxes of functions: from being stopped to asleep; the wait for a turn is not in it";
        r.register_with_unit("sleep", sleep, Unit::Seconds, self.sleep.clone());
        let wake = "Of sandboxes of functions: from the first page filled to running";
        r.register_with_unit("wake", wake, Unit::Seconds, self.wake.clone());
        r.register("queued", "Invocations that wait for a sandbox, by function", self.queued.clone());
        r.register("sandboxes", "Sandboxes that exist, by function", self.sandboxes.clone());
        self.node.register(&mut r);
        self.events.register(&mut r);
        r
    }

    /// An invocation ended, so long after its request came.
    pub(crate) fn ended(&self, function: &FunctionName, ending: Ending, after: Duration) {
        self.ending(function, ending).inc();
        self.invocation.get_or_create(&of(function)).observe(after.as_secs_f64());
    }

    /// An invocation ended because nobody answers under its name any more. What is counted of a function that is gone goes
    /// when somebody asks next.
    pub(crate) fn removed(&self, function: &FunctionName, after: Duration) {
        self.ended(function, Ending::Error, after);
        self.labelled.lock().unwrap_or_else(PoisonError::into_inner).insert(function.clone());
    }

    /// An invocation got its sandbox, so long after its request came.
    pub(crate) fn started(&self, function: &FunctionName, origin: Origin, after: Duration) {
        self.start(function, origin).inc();
        self.start.get_or_create(&started(function, origin)).observe(after.as_secs_f64());
    }

    pub(crate) fn slept(&self, record: &SleepRecord) {
        self.sleep.observe(record.total_us as f64 / 1e6);
    }

    pub(crate) fn woke(&self, record: &WakeRecord) {
        self.wake.observe(record.total_us as f64 / 1e6);
    }

    /// One function's counters, with what is there now.
    pub(crate) fn function_record(&self, count: Count) -> FunctionRecord {
        let name = count.function;
        let ended = |ending| self.ending(&name, ending).get();
        let started = |origin| self.start(&name, origin).get();
        let (errors, timeouts, throttles) =
            (ended(Ending::Error), ended(Ending::Timeout), ended(Ending::Throttle));
        FunctionRecord {
            invocations: ended(Ending::Answer) + errors + timeouts + throttles,
            errors,
            timeouts,
            throttles,
            cold_starts: started(Origin::Cold),
            warm_starts: started(Origin::Warm),
            dedup_starts: started(Origin::Dedup),
            queued: count.queued as u64,
            sandboxes: count.sandboxes as u64,
            name,
        }
    }

    /// Everything as text for Prometheus. `counts` are the functions that there are.
    pub(crate) fn render(
        &self,
        node: &NodeRecord,
        counts: &[Count],
        format: Format,
    ) -> Result<String, std::fmt::Error> {
        for count in counts {
            let labels = of(&count.function);
            self.queued.get_or_create(&labels).set(count.queued as i64);
            self.sandboxes.get_or_create(&labels).set(count.sandboxes as i64);
        }
        self.node.set(node);
        self.forget_others(counts);
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(match format {
            Format::Plain => plain::from_open(&text),
            Format::Open => text,
        })
    }

    /// Takes away what is counted of functions that are gone.
    fn forget_others(&self, counts: &[Count]) {
        let now: BTreeSet<FunctionName> = counts.iter().map(|count| count.function.clone()).collect();
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in labelled.difference(&now) {
            for ending in Ending::ALL {
                self.endings.remove(&ended(gone, ending));
            }
            for origin in [Origin::Cold, Origin::Warm, Origin::Dedup] {
                self.starts.remove(&started(gone, origin));
                self.start.remove(&started(gone, origin));
            }
            self.invocation.remove(&of(gone));
            self.queued.remove(&of(gone));
            self.sandboxes.remove(&of(gone));
        }
        *labelled = now;
    }

    fn ending(&self, function: &FunctionName, ending: Ending) -> Counter {
        self.endings.get_or_create_owned(&ended(function, ending))
    }

    fn start(&self, function: &FunctionName, origin: Origin) -> Counter {
        self.starts.get_or_create_owned(&started(function, origin))
    }
}

fn of(function: &FunctionName) -> Labels {
    vec![("function", function.to_string())]
}

fn ended(function: &FunctionName, ending: Ending) -> Labels {
    vec![("function", function.to_string()), ("outcome", ending.as_str().to_owned())]
}

fn started(function: &FunctionName, origin: Origin) -> Labels {
    let found = match origin {
        Origin::Cold => "cold",
        Origin::Warm => "warm",
        Origin::Dedup => "dedup",
    };
    vec![("function", function.to_string()), ("found", found.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_and_prometheus_read_the_same_counters() {
        let metrics = Metrics::new();
        let name: FunctionName = "f".parse().unwrap();
        metrics.ended(&name, Ending::Answer, Duration::from_millis(3));
        metrics.ended(&name, Ending::Timeout, Duration::from_secs(3));
        metrics.started(&name, Origin::Dedup, Duration::from_millis(2));
        metrics.woke(&WakeRecord { total_us: 7000, ..WakeRecord::default() });
        let count = || Count { function: name.clone(), queued: 3, sandboxes: 2 };

        let record = metrics.function_record(count());
        assert_eq!((record.invocations, record.timeouts, record.dedup_starts), (2, 1, 1));

        let node = NodeRecord { store_strays: 3, ..NodeRecord::default() };
        let text = metrics.render(&node, &[count()], Format::Open).unwrap();
        for line in [
            r#"dormouse_invocations_total{function="f",outcome="timeout"} 1"#,
            r#"dormouse_starts_total{function="f",found="dedup"} 1"#,
            r#"dormouse_queued{function="f"} 3"#,
            r#"dormouse_wake_seconds_count 1"#,
            "# HELP dormouse_sleep_seconds Of sandboxes of functions: from being stopped to asleep",
            r#"dormouse_account_bytes{kind="resident"} 0"#,
            r#"dormouse_invocation_seconds_count{function="f"} 2"#,
            r#"dormouse_start_seconds_bucket{le="0.002",function="f",found="dedup"} 1"#,
            "dormouse_store_strays_total 3",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn a_function_that_is_gone_has_no_labels() {
        let metrics = Metrics::new();
        let count = |name: &str| Count { function: name.parse().unwrap(), queued: 0, sandboxes: 0 };
        for name in ["a", "b"] {
            metrics.ended(&name.parse().unwrap(), Ending::Answer, Duration::ZERO);
            metrics.started(&name.parse().unwrap(), Origin::Cold, Duration::ZERO);
        }
        let node = NodeRecord::default();
        let render = |counts: &[Count]| metrics.render(&node, counts, Format::Plain).unwrap();
        assert!(render(&[count("a"), count("b")]).contains("function=\"b\""));
        let text = render(&[count("a")]);
        assert!(text.contains("function=\"a\"") && !text.contains("function=\"b\""), "{text}");
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let of_prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(Format::accepted(of_prometheus), Format::Open);
        assert_eq!(Format::accepted("*/*"), Format::Plain);
        assert_eq!(Format::accepted(""), Format::Plain);
    }
}
