//! What one way did in all rounds, and whether its answers were right.

use std::collections::HashMap;

use report::bench::{KeptParts, Measured, Outcome};
use report::stats::Summary;

use super::keep::{Asleep, Woken};

/// The right answer to each request: the first that anybody gave. All ways run the same program on the same data.
#[derive(Debug, Default)]
pub(crate) struct Answers(HashMap<u64, String>);

impl Answers {
    /// Whether this is the right answer to request `number`.
    pub(crate) fn is_right(&mut self, number: u64, answer: &str) -> bool {
        self.0.entry(number).or_insert_with(|| answer.to_owned()) == answer
    }
}

/// Collected over the rounds.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    warm_bytes: Vec<u64>,
    kept_bytes: Vec<u64>,
    kept_parts: Option<KeptParts>,
    sleep_us: Vec<u64>,
    wake_us: Vec<u64>,
    disturbed_us: Vec<u64>,
    right: u64,
    wrong: u64,
}

impl Samples {
    /// Adds a round. The answer counts in every round, the figures only where they are `measured`: the first sleep
    /// and the first wake warm up whatever keeps the worker.
    pub(crate) fn add(
        &mut self,
        answers: &mut Answers,
        number: u64,
        asleep: &Asleep,
        woken: Woken,
        measured: bool,
    ) {
        if measured {
            self.warm_bytes.push(asleep.warm_bytes);
            self.kept_bytes.push(asleep.kept_bytes);
            self.kept_parts = asleep.kept_parts;
            self.sleep_us.extend(asleep.sleep_us);
            self.wake_us.push(woken.wake_us);
        }
        self.look_at(answers, number, &woken);
    }

    /// Adds a request that came while the worker fell asleep.
    pub(crate) fn add_disturbed(&mut self, answers: &mut Answers, number: u64, woken: Woken) {
        self.disturbed_us.push(woken.wake_us);
        self.look_at(answers, number, &woken);
    }

    fn look_at(&mut self, answers: &mut Answers, number: u64, woken: &Woken) {
        match answers.is_right(number, &woken.answer) {
            true => self.right += 1,
            false => self.wrong += 1,
        }
    }

    /// The figures.
    pub(crate) fn outcome(&self, first_sleeps_us: &[u64]) -> Outcome {
        let median = |samples| Summary::of(samples).map(|summary| summary.p50);
        let (warm, kept) = (median(&self.warm_bytes), median(&self.kept_bytes));
        match (warm, kept, Summary::of(&self.wake_us)) {
            (Some(warm_bytes), Some(kept_bytes), Some(wake_us)) => Outcome::Measured(Measured {
                warm_bytes,
                kept_bytes,
                kept_parts: self.kept_parts,
                first_sleep_us: Summary::of(first_sleeps_us),
                sleep_us: Summary::of(&self.sleep_us),
                disturbed_us: Summary::of(&self.disturbed_us),
                wake_us,
                answers_right: self.right,
                answers_wrong: self.wrong,
            }),
            _ => Outcome::Absent { why: "no round was finished".to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(samples: &mut Samples, answers: &mut Answers, answer: &str, measured: bool) {
        let asleep = Asleep { warm_bytes: 100, kept_bytes: 3, kept_parts: None, sleep_us: Some(40) };
        samples.add(answers, 1, &asleep, Woken { wake_us: 7, answer: answer.to_owned() }, measured);
    }

    #[track_caller]
    fn check(rounds: &[(&str, bool)], expected: Option<(u64, u64, u64)>) {
        let (mut samples, mut answers) = (Samples::default(), Answers::default());
        for &(answer, measured) in rounds {
            round(&mut samples, &mut answers, answer, measured);
        }
        let counts = match samples.outcome(&[]) {
            Outcome::Measured(measured) => {
                Some((measured.wake_us.count, measured.answers_right, measured.answers_wrong))
            }
            Outcome::Absent { .. } => None,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn warming_up_counts_for_answers_but_not_for_figures() {
        check(&[("a", false), ("a", true), ("b", true)], Some((2, 2, 1)));
        check(&[("a", false)], None);
    }
}
