//! What is counted, and how Prometheus reads it. `stats` shows the same counters: there is one of each.

use std::sync::{Arc, Mutex, PoisonError};

use brain::Origin;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use protocol::{Account, FunctionName, FunctionRecord, NodeRecord, SleepRecord, WakeRecord};

use crate::dispatch::Count;
use crate::event_queue::EventMetrics;
use crate::outcome::Outcome;

type Labels = Vec<(&'static str, String)>;

/// How an invocation ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Answer,
    Error,
    Timeout,
    Throttle,
}

impl Ending {
    pub(crate) fn of(outcome: &Outcome) -> Ending {
        match outcome {
            Outcome::Answer { .. } => Ending::Answer,
            Outcome::FunctionError { is_timeout: true, .. } => Ending::Timeout,
            Outcome::FunctionError { .. } | Outcome::Removed | Outcome::ServiceError { .. } => Ending::Error,
            Outcome::Throttled(_) => Ending::Throttle,
        }
    }

    fn as_str(self) -> &'static str {
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
    sleep: Histogram,
    wake: Histogram,
    queued: Family<Labels, Gauge>,
    sandboxes: Family<Labels, Gauge>,
    /// Set from the node's record when somebody asks.
    account: Family<Labels, Gauge>,
    node: Family<Labels, Gauge>,
    pub(crate) events: EventMetrics,
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // Half a millisecond to 16 s, doubling: a wake takes milliseconds, the sleep of a large sandbox seconds.
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let mut metrics = Self {
            endings: Family::default(),
            starts: Family::default(),
            sleep: seconds(),
            wake: seconds(),
            queued: Family::default(),
            sandboxes: Family::default(),
            account: Family::default(),
            node: Family::default(),
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
        let sleep =
            "Of sandboxes of functions: from being stopped to asleep; the wait for a turn is not in it";
        r.register_with_unit("sleep", sleep, Unit::Seconds, self.sleep.clone());
        let wake = "Of sandboxes of functions: from the first page filled to running";
        r.register_with_unit("wake", wake, Unit::Seconds, self.wake.clone());
        r.register("queued", "Invocations that wait for a sandbox, by function", self.queued.clone());
        r.register("sandboxes", "Sandboxes that exist, by function", self.sandboxes.clone());
        let account = "Memory of all sandboxes by kind: warm before they slept, saved = warm minus all that is kept; \
                       shared is not counted as kept";
        r.register_with_unit("account", account, Unit::Bytes, self.account.clone());
        let node = "What the node reports of itself, by fact: bytes, what there is now, and (sleeps..., wakes, \
                    store_strays, pages_damaged, deaths) counts since its start";
        r.register("node", node, self.node.clone());
        self.events.register(&mut r);
        r
    }

    pub(crate) fn ended(&self, function: &FunctionName, ending: Ending) {
        self.ending(function, ending).inc();
    }

    pub(crate) fn started(&self, function: &FunctionName, origin: Origin) {
        self.start(function, origin).inc();
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

    /// Everything as text for Prometheus.
    pub(crate) fn render(&self, node: &NodeRecord, counts: &[Count]) -> Result<String, std::fmt::Error> {
        for count in counts {
            let labels = vec![("function", count.function.to_string())];
            self.queued.get_or_create(&labels).set(count.queued as i64);
            self.sandboxes.get_or_create(&labels).set(count.sandboxes as i64);
        }
        for (kind, bytes) in account_by_kind(&node.account) {
            self.account.get_or_create(&vec![("kind", kind.to_owned())]).set(bytes);
        }
        for (fact, value) in node_facts(node) {
            self.node.get_or_create(&vec![("fact", fact.to_owned())]).set(value as i64);
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn ending(&self, function: &FunctionName, ending: Ending) -> Counter {
        let outcome = ending.as_str().to_owned();
        self.endings.get_or_create_owned(&vec![("function", function.to_string()), ("outcome", outcome)])
    }

    fn start(&self, function: &FunctionName, origin: Origin) -> Counter {
        let found = match origin {
            Origin::Cold => "cold",
            Origin::Warm => "warm",
            Origin::Dedup => "dedup",
        };
        let labels = vec![("function", function.to_string()), ("found", found.to_owned())];
        self.starts.get_or_create_owned(&labels)
    }
}

fn account_by_kind(account: &Account) -> [(&'static str, i64); 11] {
    [
        ("warm", account.warm_bytes as i64),
        ("resident", account.resident_bytes as i64),
        ("shared", account.shared_bytes as i64),
        ("store_identical", account.store_identical_bytes as i64),
        ("store_patched", account.store_patched_bytes as i64),
        ("store_packed", account.store_packed_bytes as i64),
        ("store_whole", account.store_whole_bytes as i64),
        ("manifest", account.manifest_bytes as i64),
        ("page_table", account.page_table_bytes as i64),
        ("kernel", account.kernel_bytes as i64),
        ("saved", account.saved_bytes()),
    ]
}

fn node_facts(node: &NodeRecord) -> [(&'static str, u64); 18] {
    [
        ("sandboxes", node.sandboxes),
        ("dedup_sandboxes", node.dedup_sandboxes),
        ("coming_back", node.coming_back),
        ("shadows", node.shadows),
        ("bases", node.bases),
        ("store_bytes", node.store_bytes),
        ("store_pages", node.store_pages),
        ("store_groups", node.store_groups),
        ("store_strays", node.store_strays),
        ("store_table_bytes", node.store_table_bytes),
        ("own_resident_bytes", node.own_resident_bytes),
        ("sleeps", node.sleeps),
        ("sleeps_interrupted", node.sleeps_interrupted),
        ("sleeps_refused", node.sleeps_refused),
        ("wakes", node.wakes),
        ("regrouped", node.regrouped),
        ("pages_damaged", node.pages_damaged),
        ("deaths", node.deaths),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_and_prometheus_read_the_same_counters() {
        let metrics = Metrics::new();
        let name: FunctionName = "f".parse().unwrap();
        metrics.ended(&name, Ending::Answer);
        metrics.ended(&name, Ending::Timeout);
        metrics.started(&name, Origin::Dedup);
        metrics.woke(&WakeRecord { total_us: 7000, ..WakeRecord::default() });
        let count = || Count { function: name.clone(), queued: 3, sandboxes: 2 };

        let record = metrics.function_record(count());
        assert_eq!((record.invocations, record.timeouts, record.dedup_starts), (2, 1, 1));

        let node = NodeRecord { store_strays: 3, ..NodeRecord::default() };
        let text = metrics.render(&node, &[count()]).unwrap();
        for line in [
            r#"dormouse_invocations_total{function="f",outcome="timeout"} 1"#,
            r#"dormouse_starts_total{function="f",found="dedup"} 1"#,
            r#"dormouse_queued{function="f"} 3"#,
            r#"dormouse_wake_seconds_count 1"#,
            "# HELP dormouse_sleep_seconds Of sandboxes of functions: from being stopped to asleep",
            r#"dormouse_account_bytes{kind="resident"} 0"#,
            r#"dormouse_node{fact="store_strays"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
