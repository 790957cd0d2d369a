//! What was measured, what was to be reached, and how it is shown.

use report::stats::{Summary, ratio};
use report::table::{Column, Table};
use serde::Serialize;

/// A warm invocation costs at most so many times one through the minimal server.
const RATIO_MAX: f64 = 1.3;

/// Invocations a second of the Rust function.
const INVOKES_PER_S_MIN: f64 = 1500.0;

/// Its p99 over its p50.
const TAIL_MAX: f64 = 10.0;

/// All figures.
#[derive(Debug, Serialize)]
pub(super) struct ServeBench {
    pub(super) cores: u64,
    pub(super) connections: u64,
    pub(super) python: String,
    pub(super) rounds: Vec<Round>,
}

/// One round. Latencies are from the call to the whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    /// The Python handler through the minimal server.
    pub(super) minimal_us: Summary,
    /// The same through dormouse.
    pub(super) ours_us: Summary,
    /// The Rust function.
    pub(super) load: Load,
}

/// Many callers at once.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    pub(super) invokes_per_s: f64,
    pub(super) latency_us: Summary,
}

impl Round {
    fn ratio(&self) -> f64 {
        ratio(self.ours_us.p50, self.minimal_us.p50).unwrap_or(f64::INFINITY)
    }
}

impl Load {
    fn tail(&self) -> f64 {
        ratio(self.latency_us.p99, self.latency_us.p50).unwrap_or(f64::INFINITY)
    }
}

impl ServeBench {
    /// The round that is judged, by all goals: the one whose ratio is the median. Goals that are met in different rounds
    /// are not met together.
    fn judged(&self) -> Option<(usize, &Round)> {
        let mut rounds: Vec<_> = self.rounds.iter().enumerate().collect();
        rounds.sort_by(|(_, a), (_, b)| a.ratio().total_cmp(&b.ratio()));
        rounds.get(rounds.len() / 2).copied()
    }

    /// The goals that the judged round missed.
    pub(super) fn missed(&self) -> Vec<String> {
        let Some((_, round)) = self.judged() else { return vec!["there was no round".to_owned()] };
        let (price, tail, rate) = (round.ratio(), round.load.tail(), round.load.invokes_per_s);
        let goals = [
            (
                price <= RATIO_MAX,
                format!("a warm invocation costs {price:.2} times the minimal server's, {RATIO_MAX} at most"),
            ),
            (
                rate >= INVOKES_PER_S_MIN,
                format!("{rate:.0} invocations a second, {INVOKES_PER_S_MIN} at least"),
            ),
            (tail <= TAIL_MAX, format!("p99 is {tail:.1} times p50, {TAIL_MAX} at most")),
        ];
        goals.into_iter().filter(|(is_met, _)| !is_met).map(|(_, goal)| goal).collect()
    }

    fn verdict(&self) -> String {
        let judged = self.judged().map_or(0, |(index, _)| index + 1);
        let missed = self.missed();
        let found = match missed.is_empty() {
            true => "it meets every goal".to_owned(),
            false => format!("it missed: {}", missed.join("; ")),
        };
        format!("judged is round {judged}, whose ratio is the median, by all goals: {found}")
    }

    pub(super) fn table(&self, width: usize) -> String {
        let heads = ["round", "minimal p50", "dormouse p50", "ratio", "invokes/s", "p50", "p99", "p99/p50"];
        let mut table = Table::new(heads.map(Column::right));
        for (number, round) in self.rounds.iter().enumerate() {
            let load = &round.load;
            table.row([
                (number + 1).to_string(),
                format!("{} us", round.minimal_us.p50),
                format!("{} us", round.ours_us.p50),
                format!("{:.2}", round.ratio()),
                format!("{:.0}", load.invokes_per_s),
                format!("{} us", load.latency_us.p50),
                format!("{} us", load.latency_us.p99),
                format!("{:.1}", load.tail()),
            ]);
        }
        table.note(&format!(
            "left: an empty handler in Python {}, one call after the other; right: a function in Rust, {} callers; {} cores for all",
            self.python, self.connections, self.cores
        ));
        table.note(&self.verdict());
        table.render(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(ours_us: u64, invokes_per_s: f64, p99: u64) -> ServeBench {
        let summary = |p50, p99| Summary { count: 1, min: p50, p50, p99, max: p99 };
        let load = Load { invokes_per_s, latency_us: summary(1000, p99) };
        let round = Round { minimal_us: summary(1000, 1000), ours_us: summary(ours_us, ours_us), load };
        ServeBench { cores: 2, connections: 8, python: "3".to_owned(), rounds: vec![round] }
    }

    #[test]
    fn each_goal_that_is_missed_is_named() {
        assert!(bench(1300, 1500.0, 10_000).missed().is_empty());
        assert_eq!(bench(1301, 1499.0, 10_001).missed().len(), 3);
    }

    #[test]
    fn one_round_is_judged_by_all_goals() {
        let mut three = bench(2000, 1.0, 20_000);
        three.rounds.extend(bench(1200, 2000.0, 1000).rounds);
        three.rounds.extend(bench(1000, 1.0, 1000).rounds);
        assert!(three.missed().is_empty());
        assert!(three.verdict().starts_with("judged is round 2,"), "{}", three.verdict());
        // What another round has reached does not help.
        let mut split = bench(1200, 1.0, 1000);
        split.rounds.extend(bench(1000, 2000.0, 1000).rounds);
        assert_eq!(split.missed(), ["1 invocations a second, 1500 at least"]);
    }
}
