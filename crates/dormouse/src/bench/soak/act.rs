//! What happens next: chosen here, done in `stage`.

use std::time::Duration;

use super::chance::Chance;

/// Numbers that sandboxes are asked for; as many right answers of each worker are known.
pub(super) const NUMBERS: u64 = 16;
/// A sleep of the largest worker, beside others that fall asleep, takes about as long.
const LONGEST_WAIT: Duration = Duration::from_millis(400);

/// What happens to one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It is asked for a number, and woken for it if it sleeps.
    Invoke(u64),
    /// It is woken, and nobody asks.
    Wake,
    /// It is put to sleep.
    Sleep,
    /// It is put to sleep, and so long after that asked for a number.
    Interrupt(Duration, u64),
    /// It sleeps and wakes, and all its memory is compared.
    Check,
    /// It dies, and another one comes in its place.
    Die(Death, Moment),
}

/// How a sandbox dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Somebody sends SIGKILL to its first process.
    Kill,
    /// The node is told to.
    Purge,
}

/// In the middle of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Nothing.
    Still,
    /// So long after it was told to sleep.
    FallingAsleep(Duration),
    /// So long after it was told to wake.
    Waking(Duration),
}

/// What becomes of a base while others of its lineage sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It sleeps on.
    Stays,
    /// It is asked for a number.
    Wakes(u64),
    /// It dies.
    Dies(Death),
}

impl Act {
    /// The next act for a sandbox that sleeps, or does not.
    pub(super) fn choose(chance: &mut Chance, is_asleep: bool) -> Act {
        match (chance.below(100), is_asleep) {
            (0..2, _) => Act::Die(Death::choose(chance), Moment::choose(chance)),
            (2..72, true) => Act::Invoke(chance.below(NUMBERS)),
            (_, true) => Act::Wake,
            (2..60, false) => Act::Sleep,
            (60..78, false) => Act::Interrupt(chance.moment(LONGEST_WAIT), chance.below(NUMBERS)),
            (78..90, false) => Act::Check,
            (_, false) => Act::Invoke(chance.below(NUMBERS)),
        }
    }

    /// What the table calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Act::Invoke(_) => "invocations",
            Act::Wake => "wakes that nobody waits for",
            Act::Sleep => "sleeps",
            Act::Interrupt(..) => "invocations while falling asleep",
            Act::Check => "sleeps with all memory compared",
            Act::Die(Death::Kill, Moment::Still) => "kills",
            Act::Die(Death::Kill, Moment::FallingAsleep(_)) => "kills while falling asleep",
            Act::Die(Death::Kill, Moment::Waking(_)) => "kills while waking",
            Act::Die(Death::Purge, _) => "purges",
        }
    }
}

impl Death {
    fn choose(chance: &mut Chance) -> Death {
        if chance.below(3) == 0 { Death::Purge } else { Death::Kill }
    }
}

impl Moment {
    fn choose(chance: &mut Chance) -> Moment {
        match chance.below(4) {
            0 => Moment::FallingAsleep(chance.moment(LONGEST_WAIT)),
            1 => Moment::Waking(chance.moment(LONGEST_WAIT)),
            _ => Moment::Still,
        }
    }
}

impl Fate {
    /// All are as likely.
    pub(super) fn choose(chance: &mut Chance) -> Fate {
        match chance.below(3) {
            0 => Fate::Stays,
            1 => Fate::Wakes(chance.below(NUMBERS)),
            _ => Fate::Dies(Death::choose(chance)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of all acts that come up.
    #[track_caller]
    fn check(is_asleep: bool, expected: &[&str]) {
        let mut chance = Chance::new(7);
        let found: BTreeSet<_> = (0..5000).map(|_| Act::choose(&mut chance, is_asleep).name()).collect();
        assert_eq!(found, expected.iter().copied().collect());
    }

    const DEATHS: [&str; 4] = ["kills", "kills while falling asleep", "kills while waking", "purges"];

    #[test]
    fn who_sleeps_is_woken_or_dies() {
        check(true, &[&DEATHS[..], &["invocations", "wakes that nobody waits for"]].concat());
    }

    #[test]
    fn who_is_awake_is_put_to_sleep_or_asked_or_dies() {
        let others =
            ["invocations", "invocations while falling asleep", "sleeps", "sleeps with all memory compared"];
        check(false, &[&DEATHS[..], &others].concat());
    }

    #[test]
    fn a_base_has_every_fate() {
        let mut chance = Chance::new(7);
        let fates: Vec<_> = (0..50).map(|_| Fate::choose(&mut chance)).collect();
        assert!(fates.contains(&Fate::Stays));
        assert!(fates.iter().any(|fate| matches!(fate, Fate::Wakes(_))));
        assert!(fates.contains(&Fate::Dies(Death::Kill)) && fates.contains(&Fate::Dies(Death::Purge)));
    }
}
