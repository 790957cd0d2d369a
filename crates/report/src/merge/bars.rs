//! What merging by dormouse has to reach, beside the rivals of the same run.

use super::{MergeBench, MergeWay, MergeWorker};
use crate::quantity::{micros, percent};

/// So many times sooner than KSM that never pauses.
const SOONER: f64 = 10.0;

/// Share of the memory of the system that must be gone.
const SAVED: f64 = 0.7;

impl MergeBench {
    /// What was missed, in words; judged by the case with the most sandboxes.
    pub fn missed(&self) -> Vec<String> {
        let most = self.setting.sandboxes.iter().copied().max().unwrap_or_default();
        if self.workers.is_empty() {
            return vec!["there was no worker".to_owned()];
        }
        self.workers.iter().flat_map(|worker| worker.missed(most)).collect()
    }
}

impl MergeWorker {
    fn missed(&self, sandboxes: u64) -> Vec<String> {
        let case = |way| self.case(way, sandboxes);
        let (Some(off), Some(flat), Some(ours)) =
            (case(MergeWay::Off), case(MergeWay::KsmFlat), case(MergeWay::Dormouse))
        else {
            return vec![format!("{}: off, ksm-flat and dormouse must be there to be judged", self.worker)];
        };
        let saved = 1.0 - ours.system_bytes as f64 / off.system_bytes.max(1) as f64;
        let mut missed = Vec::new();
        if saved < SAVED {
            missed.push(format!("{} of the memory was saved, {} at least", percent(saved), percent(SAVED)));
        }
        let reached =
            |case: &super::MergeCase| Some((case.merging?.reached_us?, case.merging?.cpu_to_reach_us?));
        match (reached(flat), reached(ours)) {
            (_, None) => missed.push("95 % of what can be shared was not reached".to_owned()),
            (None, _) => {} // The rival did not get there at all.
            (Some((flat_us, flat_cpu_us)), Some((us, cpu_us))) => {
                if us as f64 * SOONER > flat_us as f64 {
                    let (us, flat) = (micros(us), micros(flat_us));
                    missed.push(format!("95 % after {us}, {SOONER} times sooner than {flat} at least"));
                }
                if cpu_us > flat_cpu_us {
                    let (cpu, flat) = (micros(cpu_us), micros(flat_cpu_us));
                    missed.push(format!("{cpu} of processor time, {flat} at most"));
                }
            }
        }
        missed.iter().map(|what| format!("{}, {sandboxes} sandboxes: {what}", self.worker)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::merge::{MergeBench, MergeOutcome, MergeWay, specimen};

    #[track_caller]
    fn check(bench: &MergeBench, expected: &[&str]) {
        let missed = bench.missed();
        assert_eq!(missed.len(), expected.len(), "{missed:?}");
        for (missed, expected) in missed.iter().zip(expected) {
            assert!(missed.contains(expected), "{missed}");
        }
    }

    /// Changes what dormouse did with sixteen.
    fn spoil(change: impl Fn(&mut crate::merge::MergeCase)) -> MergeBench {
        let mut bench = specimen::bench();
        for result in &mut bench.workers[0].ways {
            if let (MergeWay::Dormouse, MergeOutcome::Measured(cases)) = (result.way, &mut result.outcome) {
                cases.iter_mut().filter(|case| case.sandboxes == 16).for_each(&change);
            }
        }
        bench
    }

    #[test]
    fn each_bar_that_is_missed_is_named() {
        check(&specimen::bench(), &[]);
        check(&spoil(|case| case.system_bytes = 3200 << 20), &["50 % of the memory"]);
        check(&spoil(|case| case.merging = None), &["was not reached"]);
        let slower = spoil(|case| case.merging.as_mut().unwrap().reached_us = Some(641_000));
        check(&slower, &["10 times sooner"]);
        let dearer = spoil(|case| case.merging.as_mut().unwrap().cpu_to_reach_us = Some(7_000_000));
        check(&dearer, &["of processor time"]);
    }

    #[test]
    fn what_is_not_there_cannot_be_judged() {
        let mut bench = specimen::bench();
        bench.workers[0].ways.retain(|result| result.way != MergeWay::Dormouse);
        check(&bench, &["must be there"]);
        bench.workers.clear();
        check(&bench, &["no worker"]);
    }
}
