//! Chance that can be had again: the same seed makes the same choices.

use std::time::Duration;

/// Choices, one after the other (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// All choices that follow from `seed`.
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Choices of their own for whoever has this `number`; the same whenever they are asked for.
    pub(super) fn of(&self, number: u64) -> Chance {
        let mut own = Chance(self.0 ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        own.next();
        own
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`; 0 where there is none.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// One of them.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len() as u64) as usize).copied()
    }

    /// Any order.
    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// Up to `longest`; short times are as likely as long ones.
    pub(super) fn moment(&mut self, longest: Duration) -> Duration {
        let halvings = self.below(8) as u32;
        let longest_us = (longest.as_micros() as u64) >> halvings;
        Duration::from_micros(self.below(longest_us + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_had_again_and_another_is_not() {
        let draw = |mut chance: Chance| [chance.below(1000), chance.below(1000), chance.below(1000)];
        let seed = Chance::new(7);
        assert_eq!(draw(seed.clone()), draw(Chance::new(7)));
        assert_ne!(draw(seed.clone()), draw(Chance::new(8)));
        assert_eq!(draw(seed.of(3)), draw(seed.of(3)));
        assert_ne!(draw(seed.of(3)), draw(seed.of(4)));
    }

    #[test]
    fn everything_has_its_turn() {
        let mut chance = Chance::new(7);
        let picked: std::collections::BTreeSet<_> =
            (0..100).filter_map(|_| chance.pick(&[1, 2, 3])).collect();
        assert_eq!(picked, [1, 2, 3].into());
        assert_eq!(chance.pick::<u8>(&[]), None);
        let mut order: Vec<u32> = (0..20).collect();
        chance.shuffle(&mut order);
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert_eq!(order, (0..20).collect::<Vec<_>>());
        assert!((0..100).all(|_| chance.moment(Duration::from_millis(5)) <= Duration::from_millis(5)));
    }
}
