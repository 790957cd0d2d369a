//! The result of `dormouse bench merge` as a table.

use super::{
    MergeBench, MergeCase, MergeOutcome, MergeSetting, MergeWay, MergeWayResult, MergeWorker, Merging,
};
use crate::quantity::{bytes, micros, percent, ratio, signed_bytes};
use crate::stats;
use crate::table::{Column, Table};

impl MergeBench {
    /// The result for people.
    pub fn table(&self, width: usize) -> String {
        let mut table = Table::new([
            Column::left("worker"),
            Column::left("way"),
            Column::right("n"),
            Column::right("RSS").optional(1),
            Column::right("PSS"),
            Column::right("footprint").optional(4),
            Column::right("system"),
            Column::right("to off"),
            Column::right("sharable").optional(5),
            Column::right("to 95 %"),
            Column::right("CPU"),
            Column::right("after").optional(3),
            Column::right("request").optional(7),
            Column::right("faults").optional(0),
            Column::right("cold start").optional(6),
            Column::right("answers").optional(2),
        ]);
        for worker in &self.workers {
            let mut name = worker.worker.as_str();
            for result in &worker.ways {
                let MergeOutcome::Measured(cases) = &result.outcome else { continue };
                for (place, case) in cases.iter().enumerate() {
                    let way = if place == 0 { result.way.to_string() } else { String::new() };
                    table.row(row(std::mem::take(&mut name), way, case, worker, &self.setting));
                }
            }
        }
        self.absences()
            .chain(self.workers.iter().filter_map(|w| Some(format!("{}: {}", w.worker, w.data.as_ref()?))))
            .chain(self.workers.iter().flat_map(MergeWorker::added))
            .chain(self.notes.iter().cloned())
            .for_each(|note| table.note(&note));
        format!("{}\n\n{}", self.headline(), table.render(width))
    }

    fn headline(&self) -> String {
        let setting = &self.setting;
        format!(
            "{}\n{} requests and {} cold starts in each case, {} layout; merging is waited for {} s",
            self.environment, setting.requests, setting.cold_starts, setting.layout, setting.patience_s
        )
    }

    /// A line for each way that has no figures.
    fn absences(&self) -> impl Iterator<Item = String> {
        self.workers.iter().flat_map(|worker| {
            worker.ways.iter().filter_map(|MergeWayResult { way, outcome }| match outcome {
                MergeOutcome::Absent { why } => Some(format!("{}, {way}: {why}", worker.worker)),
                MergeOutcome::Measured(_) => None,
            })
        })
    }
}

impl MergeWorker {
    /// A line for each way that merges: what requests and cold starts cost beside none, over all cases.
    fn added(&self) -> Vec<String> {
        let added =
            |of: &[u64], to: &[u64]| stats::ratio_of_medians(of, to).map_or_else(|| "-".to_owned(), ratio);
        let requests = |way| self.cases(way).iter().map(|case| case.request_us.p50).collect::<Vec<_>>();
        let cold =
            |way| self.cases(way).iter().filter_map(|case| Some(case.cold_start_us?.p50)).collect::<Vec<_>>();
        let off = (requests(MergeWay::Off), cold(MergeWay::Off));
        let line = |&way: &MergeWay| {
            format!(
                "{}, {way}: requests take {} and cold starts {} of their time without merging",
                self.worker,
                added(&requests(way), &off.0),
                added(&cold(way), &off.1)
            )
        };
        let merges = |way: &&MergeWay| **way != MergeWay::Off && !self.cases(**way).is_empty();
        if off.0.is_empty() { Vec::new() } else { MergeWay::ALL.iter().filter(merges).map(line).collect() }
    }
}

fn row(
    name: &str,
    way: String,
    case: &MergeCase,
    worker: &MergeWorker,
    setting: &MergeSetting,
) -> Vec<String> {
    let dash = || "-".to_owned();
    let off = worker.case(MergeWay::Off, case.sandboxes);
    let to_off = off.map(|off| case.system_bytes as f64 / off.system_bytes.max(1) as f64 - 1.0);
    let merging = case.merging;
    vec![
        name.to_owned(),
        way,
        case.sandboxes.to_string(),
        bytes(case.after.rss_bytes),
        bytes(case.after.pss_bytes),
        bytes(case.footprint_bytes),
        signed_bytes(case.system_bytes),
        to_off.filter(|_| merging.is_some()).map_or_else(dash, percent),
        bytes(case.sharable_bytes),
        merging.map_or_else(dash, |merging| merging.reached(setting)),
        merging.and_then(|m| m.cpu_to_reach_us.or(m.cpu_us)).map_or_else(dash, micros),
        merging.and_then(|merging| merging.cpu_share_after).map_or_else(dash, percent),
        micros(case.request_us.p50),
        format!("{:.0}", case.faults_per_request),
        case.cold_start_us.map_or_else(dash, |cold| micros(cold.p50)),
        match case.answers_wrong {
            0 => format!("{} ok", case.answers_right),
            wrong => format!("{wrong} WRONG"),
        },
    ]
}

impl Merging {
    /// When 95 % were reached, or that they were not.
    fn reached(&self, setting: &MergeSetting) -> String {
        match self.reached_us {
            Some(us) => micros(us),
            None if self.waited_us < setting.patience_s * 1_000_000 => "never".to_owned(),
            None => format!("> {} s", setting.patience_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::merge::specimen;

    #[test]
    fn it_fits_a_terminal_and_says_what_is_missing() {
        let table = specimen::bench().table(100);
        let rows: Vec<&str> =
            table.lines().skip(3).take_while(|line| !line.starts_with("alexnet, ")).collect();
        assert_eq!(rows.len(), 1 + 4 * 5, "a head, and five cases of each way with figures:\n{table}");
        assert!(rows.iter().all(|row| row.chars().count() <= 100), "{table}");
        for words in [
            "alexnet, ksm: this kernel has no KSM",
            "random weights from a fixed seed",
            "> 120 s",
            "-70 %",
            "320 ms",
            "alexnet, dormouse: requests take 1.0x and cold starts 1.0x",
            "not shown for want of room: ",
        ] {
            assert!(table.contains(words), "{words:?} is not in\n{table}");
        }
    }

    #[test]
    fn with_room_everything_is_shown() {
        let table = specimen::bench().table(200);
        for words in ["RSS", "footprint", "sharable", "faults", "cold start", "30 ok", "98 %"] {
            assert!(table.contains(words), "{words:?} is not in\n{table}");
        }
    }
}
