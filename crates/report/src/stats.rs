//! Samples in, the few numbers that stand for them out.

use serde::{Deserialize, Serialize};

/// What a set of samples says, in the samples' own unit. Percentiles are by nearest rank: the smallest sample that
/// at least so many per cent of all samples do not exceed. It is always a sample that was taken; of fewer than a
/// hundred samples, p99 is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many samples.
    pub count: u64,
    /// The smallest.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// Nearly the largest.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Summary {
    /// `None` where there is nothing to sum up.
    pub fn of(samples: &[u64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let (p50, p99) = (nearest_rank(&sorted, 50)?, nearest_rank(&sorted, 99)?);
        Some(Self { count: sorted.len() as u64, min, p50, p99, max })
    }
}

/// Median of `of` over median of `to`. `None` where one of them is missing or `to` is zero.
pub fn ratio_of_medians(of: &[u64], to: &[u64]) -> Option<f64> {
    ratio(Summary::of(of)?.p50, Summary::of(to)?.p50)
}

/// `of` over `to`, unless `to` is zero.
pub fn ratio(of: u64, to: u64) -> Option<f64> {
    (to != 0).then(|| of as f64 / to as f64)
}

fn nearest_rank(sorted: &[u64], per_cent: usize) -> Option<u64> {
    let rank = (sorted.len() * per_cent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(samples: &[u64], p50_p99: Option<(u64, u64)>) {
        assert_eq!(Summary::of(samples).map(|s| (s.p50, s.p99)), p50_p99);
    }

    #[test]
    fn a_percentile_is_a_sample_that_was_taken() {
        check(&[], None);
        check(&[7], Some((7, 7)));
        check(&[4, 1, 3, 2], Some((2, 4)));
        check(&[9, 1, 5], Some((5, 9)));
        check(&(1..=200).collect::<Vec<_>>(), Some((100, 198)));
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        assert_eq!(ratio_of_medians(&[10, 30, 20], &[5, 4, 6]), Some(4.0));
        assert_eq!(ratio_of_medians(&[10], &[]), None);
        assert_eq!(ratio_of_medians(&[10], &[0]), None);
    }
}
