//! What was promised, and how often it was kept. Shared by all threads.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use report::soak::{ActCount, PromiseCount};

use crate::bench::error::{BenchError, with_causes};

/// More broken promises than this say nothing new; the soak ends.
const FAILURES_MAX: usize = 20;

/// What a node promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// A sandbox answers what it answered before it ever slept.
    Answer,
    /// All memory is after a sleep what it was before.
    Memory,
    /// What a sandbox is told to do, it does; and none dies that was not told to.
    Obeys,
    /// A dead sandbox is forgotten.
    Forgotten,
    /// A base goes with the last sleeper of its lineage.
    BaseGoes,
    /// No page is found damaged, and nothing is given back to the store twice.
    Store,
    /// The store is empty when nobody sleeps.
    Empty,
    /// Nothing is left behind.
    NothingLeft,
    /// What the account says is what the kernel says.
    Account,
}

impl Promise {
    const ALL: [Promise; 9] = [
        Promise::Answer,
        Promise::Memory,
        Promise::Obeys,
        Promise::Forgotten,
        Promise::BaseGoes,
        Promise::Store,
        Promise::Empty,
        Promise::NothingLeft,
        Promise::Account,
    ];

    fn name(self) -> &'static str {
        match self {
            Promise::Answer => "answers are right",
            Promise::Memory => "memory is what it was",
            Promise::Obeys => "sandboxes do what they are told",
            Promise::Forgotten => "the dead are forgotten",
            Promise::BaseGoes => "a base goes with its last sleeper",
            Promise::Store => "the store keeps pages and references",
            Promise::Empty => "the store has nothing more when nobody sleeps",
            Promise::NothingLeft => "nothing is left behind",
            Promise::Account => "the account is honest",
        }
    }
}

/// A promise was not kept.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) promise: Promise,
    pub(super) said: String,
}

impl Broken {
    pub(super) fn new(promise: Promise, said: impl Display) -> Broken {
        Broken { promise, said: said.to_string() }
    }

    /// For `map_err`: it was told to, and did not.
    pub(super) fn obeys<E: std::error::Error>(doing: &str) -> impl FnOnce(E) -> Broken + '_ {
        move |error| Broken::new(Promise::Obeys, format!("{doing}: {}", with_causes(&error)))
    }
}

impl From<BenchError> for Broken {
    fn from(error: BenchError) -> Self {
        Broken::new(Promise::Obeys, with_causes(&error))
    }
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    acts: BTreeMap<&'static str, u64>,
    promises: BTreeMap<Promise, PromiseCount>,
    failures: Vec<String>,
    must_end: bool,
}

impl Tally {
    /// Something was done, or happened.
    pub(super) fn count(&self, name: &'static str) {
        *self.counts().acts.entry(name).or_default() += 1;
    }

    /// A promise was kept once more.
    pub(super) fn kept(&self, promise: Promise) {
        self.counts().promises.entry(promise).or_default().kept += 1;
    }

    /// One was not, at this point of the soak. Wrong memory ends it: whatever comes after means nothing.
    pub(super) fn broken(&self, at: impl Display, broken: &Broken) {
        let mut counts = self.counts();
        counts.promises.entry(broken.promise).or_default().broken += 1;
        let failure = format!("{at}: {}", broken.said);
        tracing::error!("{failure}"); // At once: what is broken may keep us from ever coming to the report.
        counts.failures.push(failure);
        counts.must_end |= broken.promise == Promise::Memory || counts.failures.len() >= FAILURES_MAX;
    }

    /// Kept or broken, as the case may be.
    pub(super) fn judge(&self, at: impl Display, promise: Promise, result: Result<(), String>) {
        match result {
            Ok(()) => self.kept(promise),
            Err(said) => self.broken(at, &Broken { promise, said }),
        }
    }

    /// Whether it makes no sense to go on.
    pub(super) fn must_end(&self) -> bool {
        self.counts().must_end
    }

    /// For the report.
    pub(super) fn acts(&self) -> Vec<ActCount> {
        let acts = &self.counts().acts;
        acts.iter().map(|(name, &count)| ActCount { act: (*name).to_owned(), count }).collect()
    }

    /// For the report; also those that were never put to the test.
    pub(super) fn promises(&self) -> Vec<PromiseCount> {
        let counts = self.counts();
        let count = |promise: Promise| PromiseCount {
            promise: promise.name().to_owned(),
            ..counts.promises.get(&promise).cloned().unwrap_or_default()
        };
        Promise::ALL.into_iter().map(count).collect()
    }

    /// For the report.
    pub(super) fn failures(&self) -> Vec<String> {
        self.counts().failures.clone()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(promise: Promise, times: usize, must_end: bool) {
        let tally = Tally::default();
        tally.kept(Promise::Answer);
        for _ in 0..times {
            tally.broken("round 1", &Broken::new(promise, "no"));
        }
        assert_eq!(tally.must_end(), must_end);
        assert_eq!(tally.failures(), vec!["round 1: no"; times]);
        let broken: u64 = tally.promises().iter().map(|count| count.broken).sum();
        assert_eq!((broken, tally.promises()[0].kept), (times as u64, 1));
    }

    #[test]
    fn wrong_memory_ends_it_at_once_and_other_failures_when_they_are_many() {
        check(Promise::Memory, 1, true);
        check(Promise::Answer, 1, false);
        check(Promise::Obeys, FAILURES_MAX, true);
    }
}
