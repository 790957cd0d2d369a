//! One frame of `dormouse top`: what runs and sleeps now, what it costs, and how fast it answers.

use std::time::Duration;

use protocol::{FunctionRecord, SandboxRecord, State, StatsRecord};

use crate::quantity::{bytes, micros, percent, signed_bytes};
use crate::table::{Column, Table};

/// What is known of a server at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The node and its functions.
    pub stats: StatsRecord,
    /// Every sandbox.
    pub sandboxes: Vec<SandboxRecord>,
    /// Its metrics in Prometheus' text format, for the latencies.
    pub metrics: String,
}

/// The frame for `now`. Rates and latencies are of the time since `before`; without it there are no rates, and
/// latencies are of all invocations since the start.
pub fn frame(now: &Sample, before: Option<(&Sample, Duration)>, width: usize) -> String {
    let ready = now.stats.node.not_ready.as_deref();
    let ready = ready.map_or("ready".to_owned(), |why| format!("not ready: {why}"));
    let states = states(&now.sandboxes);
    format!("{states} · {ready}\n{}\n\n{}", memory(&now.stats), functions(now, before, width))
}

fn states(sandboxes: &[SandboxRecord]) -> String {
    let all = [State::Starting, State::Warm, State::Busy, State::Freezing, State::Dedup, State::Restoring];
    let count = |state: State| sandboxes.iter().filter(|sandbox| sandbox.state == state).count();
    let counts = all.map(|state| (state, count(state)));
    let words: Vec<_> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    match words.is_empty() {
        true => "no sandboxes".to_owned(),
        false => format!("{} sandboxes: {}", sandboxes.len(), words.join(", ")),
    }
}

/// By tier: what is resident, what the store has, what the kernel needs.
fn memory(stats: &StatsRecord) -> String {
    let account = &stats.node.account;
    let share = match account.warm_bytes {
        0 => String::new(),
        warm => {
            format!(" ({} of {} when warm)", percent(account.kept_bytes() as f64 / warm as f64), bytes(warm))
        }
    };
    format!(
        "kept {}{share}: {} resident, {} in store, {} kernel · saved {}",
        bytes(account.kept_bytes()),
        bytes(account.resident_bytes),
        bytes(account.store_bytes()),
        bytes(account.page_table_bytes + account.kernel_bytes),
        signed_bytes(account.saved_bytes())
    )
}

fn functions(now: &Sample, before: Option<(&Sample, Duration)>, width: usize) -> String {
    let mut table = Table::new([
        Column::left("function").shrinking(),
        Column::right("sandboxes"),
        Column::right("queued").optional(2),
        Column::right("calls/s"),
        Column::right("cold/s").optional(4),
        Column::right("dedup/s").optional(5),
        Column::right("errors/s").optional(3),
        Column::right("throttled/s").optional(1),
        Column::right("p50"),
        Column::right("p99"),
    ]);
    for function in &now.stats.functions {
        let is_same = |old: &&FunctionRecord| old.name == function.name;
        let old =
            before.and_then(|(before, over)| Some((before.stats.functions.iter().find(is_same)?, over)));
        let rate = |count: fn(&FunctionRecord) -> u64| match old {
            Some((old, over)) if !over.is_zero() => {
                format!("{:.1}", count(function).saturating_sub(count(old)) as f64 / over.as_secs_f64())
            }
            _ => "-".to_owned(),
        };
        let buckets = buckets(now, before.map(|(before, _)| before), function);
        table.row([
            function.name.to_string(),
            function.sandboxes.to_string(),
            function.queued.to_string(),
            rate(|function| function.invocations),
            rate(|function| function.cold_starts),
            rate(|function| function.dedup_starts),
            rate(|function| function.errors + function.timeouts),
            rate(|function| function.throttles),
            quantile(&buckets, 0.5),
            quantile(&buckets, 0.99),
        ]);
    }
    table.render(width)
}

/// The histogram of one function: upper bounds in seconds, and how many were not above.
type Buckets = Vec<(f64, u64)>;

/// Of the invocations between two samples.
fn buckets(now: &Sample, before: Option<&Sample>, function: &FunctionRecord) -> Buckets {
    let read = |sample: &Sample| parse(&sample.metrics, function.name.as_str());
    let old = before.map(read).unwrap_or_default();
    let counted = |bound: f64| old.iter().find(|(old, _)| *old == bound).map_or(0, |(_, count)| *count);
    read(now).into_iter().map(|(bound, count)| (bound, count.saturating_sub(counted(bound)))).collect()
}

fn parse(metrics: &str, function: &str) -> Buckets {
    let label = format!("function=\"{function}\"");
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("dormouse_invocation_seconds_bucket{"));
    let bucket = |line: &str| {
        let (labels, count) = line.split_once("} ")?;
        let bound = labels.split(',').find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'))?;
        let is_ours = labels.split(',').any(|found| found == label);
        is_ours.then_some((bound.parse().unwrap_or(f64::INFINITY), count.trim().parse().ok()?))
    };
    lines.filter_map(bucket).collect()
}

/// The bound below which that share of the invocations ended.
fn quantile(buckets: &Buckets, share: f64) -> String {
    let all = buckets.last().map_or(0, |(_, count)| *count);
    if all == 0 {
        return "-".to_owned();
    }
    let wanted = (all as f64 * share).ceil() as u64;
    match buckets.iter().find(|(_, count)| *count >= wanted) {
        Some((bound, _)) if bound.is_finite() => format!("≤ {}", micros((bound * 1e6) as u64)),
        _ => buckets
            .iter()
            .rev()
            .nth(1)
            .map_or("-".to_owned(), |(most, _)| format!("> {}", micros((most * 1e6) as u64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Account, NodeRecord};

    fn sample(invocations: u64, buckets: [u64; 3]) -> Sample {
        let function = FunctionRecord {
            name: "hello".parse().unwrap(),
            invocations,
            errors: 1,
            timeouts: 0,
            throttles: 0,
            cold_starts: 2,
            warm_starts: invocations - 2,
            dedup_starts: 0,
            queued: 3,
            sandboxes: 2,
        };
        let account = Account { warm_bytes: 100 << 20, resident_bytes: 5 << 20, ..Account::default() };
        let node = NodeRecord { account, ..NodeRecord::default() };
        let [quick, slow, all] = buckets;
        let metrics = format!(
            "dormouse_invocation_seconds_bucket{{le=\"0.001\",function=\"hello\"}} {quick}\n\
             dormouse_invocation_seconds_bucket{{le=\"0.016\",function=\"hello\"}} {slow}\n\
             dormouse_invocation_seconds_bucket{{le=\"+Inf\",function=\"hello\"}} {all}\n\
             dormouse_invocation_seconds_bucket{{le=\"0.001\",function=\"other\"}} 999\n"
        );
        Sample { stats: StatsRecord { node, functions: vec![function] }, sandboxes: Vec::new(), metrics }
    }

    /// The words of the line of the one function.
    fn words(frame: &str) -> Vec<&str> {
        frame.lines().last().unwrap().split_whitespace().collect()
    }

    #[test]
    fn a_first_frame_has_latencies_and_no_rates() {
        let text = frame(&sample(10, [9, 10, 10]), None, 200);
        assert!(text.starts_with("no sandboxes · ready\nkept 5.00 MiB (5"), "{text}");
        let expected = ["hello", "2", "3", "-", "-", "-", "-", "-", "≤", "1.00", "ms", "≤", "16.0", "ms"];
        assert_eq!(words(&text), expected, "{text}");
    }

    #[test]
    fn later_frames_are_of_what_happened_since() {
        let (before, now) = (sample(10, [9, 10, 10]), sample(50, [10, 49, 50]));
        let text = frame(&now, Some((&before, Duration::from_secs(2))), 200);
        let expected =
            ["hello", "2", "3", "20.0", "0.0", "0.0", "0.0", "0.0", "≤", "16.0", "ms", ">", "16.0", "ms"];
        assert_eq!(words(&text), expected, "{text}");
    }
}
