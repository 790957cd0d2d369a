//! The result of `dormouse bench sleep` as a table.

use super::{Measured, Outcome, SleepBench, WayResult, WorkerResult};
use crate::quantity::{bytes, micros, percent, ratio};
use crate::stats;
use crate::table::{Column, Table};

impl SleepBench {
    /// The result for people.
    pub fn table(&self, width: usize) -> String {
        let mut table = Table::new([
            Column::left("worker"),
            Column::left("way").shrinking(),
            Column::right("warm").optional(1),
            Column::right("kept"),
            Column::right("of warm"),
            Column::right("to sleep").optional(2),
            Column::right("answer p50"),
            Column::right("p99").optional(3),
            Column::right("to frozen"),
            Column::right("answers").optional(0),
        ]);
        for worker in &self.workers {
            for (place, way) in worker.ways.iter().enumerate() {
                let name = if place == 0 { worker.worker.clone() } else { String::new() };
                table.row(row(name, worker, way));
            }
        }
        self.absences()
            .chain(self.parts())
            .chain(self.sleeps())
            .chain(self.notes.iter().cloned())
            .for_each(|note| table.note(&note));
        format!("{}\n\n{}", self.headline(), table.render(width))
    }

    fn headline(&self) -> String {
        let (environment, setting) = (&self.environment, &self.setting);
        format!(
            "{environment}\n{} rounds, all ways in turn in each; {} sandboxes of each worker, {} layout",
            setting.rounds, setting.sandboxes, setting.layout,
        )
    }

    /// A line for each way of which is known what its cost consists of.
    fn parts(&self) -> impl Iterator<Item = String> {
        self.workers.iter().flat_map(|worker| {
            worker.ways.iter().filter_map(|WayResult { way, outcome }| match outcome {
                Outcome::Measured(Measured { kept_parts: Some(parts), .. }) => {
                    Some(format!("{}, {}: {parts}", worker.worker, way.label()))
                }
                _ => None,
            })
        })
    }

    /// A line for each way that takes time to fall asleep.
    fn sleeps(&self) -> impl Iterator<Item = String> {
        self.workers.iter().flat_map(|worker| {
            worker.ways.iter().filter_map(|WayResult { way, outcome }| match outcome {
                Outcome::Measured(measured) => {
                    Some(format!("{}, {}: {}", worker.worker, way.label(), measured.sleeps()?))
                }
                Outcome::Absent { .. } => None,
            })
        })
    }

    /// A line for each way that has no figures; once for all workers where the reason is the same.
    fn absences(&self) -> impl Iterator<Item = String> {
        let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
        for worker in &self.workers {
            for WayResult { way, outcome } in &worker.ways {
                let Outcome::Absent { why } = outcome else { continue };
                let line = format!("{}: {why}", way.label());
                match lines.iter_mut().find(|(known, _)| *known == line) {
                    Some((_, workers)) => workers.push(&worker.worker),
                    None => lines.push((line, vec![&worker.worker])),
                }
            }
        }
        let all = self.workers.len();
        lines
            .into_iter()
            .map(move |(line, workers)| match workers.len() == all {
                true => line,
                false => format!("{line} ({})", workers.join(", ")),
            })
            .collect::<Vec<_>>()
            .into_iter()
    }
}

impl Measured {
    /// What falling asleep takes, where memory is encoded, and what it is to a request that comes meanwhile.
    fn sleeps(&self) -> Option<String> {
        let (first, again, disturbed) = (self.first_sleep_us?, self.sleep_us?, self.disturbed_us?);
        let speed = |us: u64| format!("{} ({} MB/s)", micros(us), self.warm_bytes / us.max(1));
        Some(format!(
            "falls asleep in {} the first time, in {} later; a request that comes meanwhile has its answer after {}, \
             {} at most",
            speed(first.p50),
            speed(again.p50),
            micros(disturbed.p50),
            micros(disturbed.max)
        ))
    }
}

fn row(name: String, worker: &WorkerResult, result: &WayResult) -> Vec<String> {
    let mut cells = vec![name, result.way.label().to_owned()];
    let Outcome::Measured(measured) = &result.outcome else {
        cells.extend((0..8).map(|_| "-".to_owned()));
        return cells;
    };
    let dash = || "-".to_owned();
    cells.extend([
        bytes(measured.warm_bytes),
        bytes(measured.kept_bytes),
        stats::ratio(measured.kept_bytes, measured.warm_bytes).map_or_else(dash, percent),
        measured.sleep_us.map_or_else(dash, |sleep| micros(sleep.p50)),
        micros(measured.wake_us.p50),
        micros(measured.wake_us.p99),
        worker.ratio_to_frozen(result.way).map_or_else(dash, ratio),
        match measured.answers_wrong {
            0 => format!("{} ok", measured.answers_right),
            wrong => format!("{wrong} WRONG"),
        },
    ]);
    cells
}

#[cfg(test)]
mod tests {
    use crate::bench::specimen;

    #[track_caller]
    fn check(width: usize, expected: &str) {
        let mut bench = specimen::bench();
        bench.workers.truncate(1);
        assert_eq!(bench.table(width), expected);
    }

    #[test]
    fn the_table_says_what_each_way_costs() {
        check(
            120,
            "\
Linux 6.18.0, 2 CPUs (a processor), 24.0 GiB; Python 3.11.7; stopped by cgroup freezer
11 rounds, all ways in turn in each; 8 sandboxes of each worker, pinned layout

worker  way                          warm      kept  of warm  to sleep  answer p50      p99  to frozen  answers
hello   frozen, memory resident  19.5 MiB  19.8 MiB    101 %     90 us     1.10 ms  2.20 ms       1.0x    11 ok
\x20       dormouse                 19.5 MiB   700 KiB    3.5 %   20.0 ms     4.70 ms  9.40 ms       4.3x    11 ok
\x20       dormouse, light sleep    19.5 MiB  5.86 MiB     30 %   20.0 ms     2.20 ms  4.40 ms       2.0x    11 ok
\x20       frozen, swapped to zram  19.5 MiB  8.79 MiB     45 %   40.0 ms     16.1 ms  32.2 ms        15x    11 ok
\x20       CRIU image                      -         -        -         -           -        -          -        -
\x20       killed, cold start       19.5 MiB       0 B      0 %         -     95.0 ms   190 ms        86x    11 ok
CRIU image: not installed
hello, dormouse: 8.00 KiB in the process, 292 KiB in the kernel, 300 KiB in the store, 100 KiB in tables
",
        );
    }
}
