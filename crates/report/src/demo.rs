//! The table that `dormouse demo` ends with, and the sentence below it.

use serde::{Deserialize, Serialize};

use crate::quantity::{bytes, micros, percent, ratio};
use crate::stats;
use crate::table::{Column, Table};

/// What the demo saw of one function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DemoRow {
    /// The function.
    pub function: String,
    /// Its sandboxes.
    pub sandboxes: u64,
    /// Their private memory when warm, together.
    pub warm_bytes: u64,
    /// What they cost asleep, together, everything counted.
    pub asleep_bytes: u64,
    /// Median time from a request to the answer of a sleeping sandbox.
    pub wake_us: Option<u64>,
    /// The same of a warm one.
    pub warm_us: Option<u64>,
    /// The same where the sandbox had to be started first.
    pub cold_us: Option<u64>,
    /// Answers compared with the first answer to the same request.
    pub answers: Checked,
    /// Sandboxes whose memory was hashed before a sleep and after a wake.
    pub memories: Checked,
}

/// How many comparisons were made, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Equal.
    pub same: u64,
    /// Not equal, or not to be had.
    pub failed: u64,
}

impl Checked {
    /// Counts one comparison.
    pub fn count(&mut self, same: bool) {
        match same {
            true => self.same += 1,
            false => self.failed += 1,
        }
    }

    fn shown(self) -> String {
        match self {
            Checked { same: 0, failed: 0 } => "-".to_owned(),
            Checked { same, failed: 0 } => format!("{same} ok"),
            Checked { same, failed } => format!("{failed} of {} FAILED", same + failed),
        }
    }
}

/// Whether every comparison of every function came out equal.
pub fn all_same(rows: &[DemoRow]) -> bool {
    rows.iter().all(|row| row.answers.failed == 0 && row.memories.failed == 0)
}

/// The table, and the sentence.
pub fn table(rows: &[DemoRow], width: usize) -> String {
    let mut table = Table::new([
        Column::left("function").shrinking(),
        Column::right("sandboxes").optional(0),
        Column::right("warm"),
        Column::right("asleep"),
        Column::right("kept"),
        Column::right("woken answer"),
        Column::right("warm answer").optional(2),
        Column::right("cold start").optional(3),
        Column::right("answers").optional(4),
        Column::right("memory").optional(5),
    ]);
    for row in rows {
        table.row([
            row.function.clone(),
            row.sandboxes.to_string(),
            bytes(row.warm_bytes),
            bytes(row.asleep_bytes),
            share(row.asleep_bytes, row.warm_bytes),
            time(row.wake_us),
            time(row.warm_us),
            time(row.cold_us),
            row.answers.shown(),
            row.memories.shown(),
        ]);
    }
    format!("{}\n{}\n", table.render(width), sentence(rows))
}

/// All of it in one line.
pub fn sentence(rows: &[DemoRow]) -> String {
    let sum = |of: fn(&DemoRow) -> u64| rows.iter().map(of).sum::<u64>();
    let (sandboxes, warm, asleep) =
        (sum(|row| row.sandboxes), sum(|row| row.warm_bytes), sum(|row| row.asleep_bytes));
    let mut text = format!(
        "{sandboxes} sandboxes kept warm in {} instead of {} ({})",
        bytes(asleep),
        bytes(warm),
        share(asleep, warm)
    );
    if let Some(least) = least_gain(rows) {
        text += &format!(", each at least {} faster awake than started cold", ratio(least));
    }
    let failed = sum(|row| row.answers.failed + row.memories.failed);
    text += &match failed {
        0 => format!(
            "; {} answers and {} memories checked, all the same.",
            sum(|row| row.answers.same),
            sum(|row| row.memories.same)
        ),
        failed => format!("; {failed} CHECKS FAILED."),
    };
    text
}

/// The smallest gain over a cold start among all functions, where each has both figures.
fn least_gain(rows: &[DemoRow]) -> Option<f64> {
    let gains: Option<Vec<f64>> = rows.iter().map(|row| stats::ratio(row.cold_us?, row.wake_us?)).collect();
    gains?.into_iter().reduce(f64::min)
}

fn share(part: u64, whole: u64) -> String {
    stats::ratio(part, whole).map_or_else(|| "-".to_owned(), percent)
}

fn time(us: Option<u64>) -> String {
    us.map_or_else(|| "-".to_owned(), micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(failed: u64) -> DemoRow {
        DemoRow {
            function: "pandas".to_owned(),
            sandboxes: 3,
            warm_bytes: 162 << 20,
            asleep_bytes: 4 << 20,
            wake_us: Some(15_100),
            warm_us: Some(3_400),
            cold_us: Some(420_000),
            answers: Checked { same: 18, failed },
            memories: Checked { same: 3, failed: 0 },
        }
    }

    #[track_caller]
    fn check(rows: &[DemoRow], expected: &str) {
        assert_eq!(table(rows, 120), expected);
    }

    #[test]
    fn the_sentence_sums_up_the_table() {
        check(
            &[row(0)],
            "\
function  sandboxes     warm    asleep   kept  woken answer  warm answer  cold start  answers  memory
pandas            3  162 MiB  4.00 MiB  2.5 %       15.1 ms      3.40 ms      420 ms    18 ok    3 ok

3 sandboxes kept warm in 4.00 MiB instead of 162 MiB (2.5 %), each at least 28x faster awake than started cold; \
18 answers and 3 memories checked, all the same.
",
        );
    }

    #[test]
    fn a_failed_check_is_not_overlooked() {
        assert!(!all_same(&[row(1)]));
        assert!(sentence(&[row(1)]).ends_with("; 1 CHECKS FAILED."));
    }
}
