//! What the node reports of itself, set when somebody asks.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use protocol::{Account, NodeRecord};

use super::Labels;

/// Name, help, and where it stands in the record.
type Fact = (&'static str, &'static str, fn(&NodeRecord) -> u64);

/// What there is now.
const GAUGES: [Fact; 9] = [
    ("sandboxes_alive", "Sandboxes, those that `dormouse run` started included", |node| node.sandboxes),
    ("sandboxes_asleep", "Sandboxes whose memory is in the store", |node| node.dedup_sandboxes),
    ("sandboxes_coming_back", "Sandboxes that run while some memory is still on its way back", |node| {
        node.coming_back
    }),
    ("sandboxes_shadowed", "Sandboxes awake of which it is known what is unchanged", |node| node.shadows),
    ("bases", "Sleepers against whose pages others are kept", |node| node.bases),
    ("store_pages", "Distinct pages in the store", |node| node.store_pages),
    ("store_groups", "Groups of pages that are compressed together", |node| node.store_groups),
    ("registry_chunks", "Chunks of base pages by which alike pages are found", |node| node.registry_chunks),
    ("ready", "1 while the node can start sandboxes and put them to sleep", |node| {
        u64::from(node.not_ready.is_none())
    }),
];

/// What has happened since the node started.
const COUNTERS: [Fact; 8] = [
    ("sleeps", "Sleeps that ended in sleep", |node| node.sleeps),
    ("sleeps_interrupted", "Sleeps broken off by an invocation", |node| node.sleeps_interrupted),
    ("sleeps_refused", "Sleeps that came to nothing: the sandbox is left warm", |node| node.sleeps_refused),
    ("wakes", "Wakes", |node| node.wakes),
    ("regrouped", "Sleepers whose working set was moved together in the store", |node| node.regrouped),
    ("pages_damaged", "Pages whose check failed when they were rebuilt; each cost a sandbox", |node| {
        node.pages_damaged
    }),
    ("deaths", "Sandboxes that ended, however they ended", |node| node.deaths),
    ("store_strays", "References given back to the store that nobody had: a bug", |node| node.store_strays),
];

/// The node's part of the metrics. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub(super) struct NodeMetrics {
    account: Family<Labels, Gauge>,
    own: Family<Labels, Gauge>,
    gauges: [Gauge; GAUGES.len()],
    counters: [Counter; COUNTERS.len()],
}

impl NodeMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        let account = "Memory of all sandboxes by kind: warm before they slept, saved = warm minus all that is kept; \
                       shared is not counted as kept";
        r.register_with_unit("account", account, Unit::Bytes, self.account.clone());
        let own = "Memory of the node itself by what it is for: store is what encodings take, tables and registry what \
                   is known of them, process all that is resident and private";
        r.register_with_unit("node", own, Unit::Bytes, self.own.clone());
        for ((name, help, _), gauge) in GAUGES.iter().zip(&self.gauges) {
            r.register(*name, *help, gauge.clone());
        }
        for ((name, help, _), counter) in COUNTERS.iter().zip(&self.counters) {
            r.register(*name, *help, counter.clone());
        }
    }

    pub(super) fn set(&self, node: &NodeRecord) {
        let by = |family: &Family<Labels, Gauge>, label, (of, bytes): (&str, i64)| {
            family.get_or_create(&vec![(label, of.to_owned())]).set(bytes);
        };
        account_by_kind(&node.account).into_iter().for_each(|one| by(&self.account, "kind", one));
        let own = [
            ("store", node.store_bytes),
            ("tables", node.store_table_bytes),
            ("registry", node.registry_bytes),
            ("process", node.own_resident_bytes),
        ];
        own.into_iter().for_each(|(part, bytes)| by(&self.own, "part", (part, bytes as i64)));
        for ((.., fact), gauge) in GAUGES.iter().zip(&self.gauges) {
            gauge.set(fact(node) as i64);
        }
        for ((.., fact), counter) in COUNTERS.iter().zip(&self.counters) {
            counter.inner().store(fact(node), Ordering::Relaxed);
        }
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
