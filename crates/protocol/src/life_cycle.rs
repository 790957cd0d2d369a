//! The life cycle of a sandbox: one table, and every change of state goes through it.

use serde::{Deserialize, Serialize};

/// Where a sandbox stands. How much of its memory is back after a wake is a fact beside the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The process runs, but has not yet asked for its first invocation.
    Starting,
    /// Idle, all memory resident.
    Warm,
    /// Serves an invocation.
    Busy,
    /// Stopped; its memory is being put into the store, and is still whole.
    Freezing,
    /// Idle, memory kept as a manifest.
    Dedup,
    /// Its memory is coming back.
    Restoring,
    /// Dead. Nothing comes after this.
    Gone,
}

/// What happens to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It asked for its first invocation.
    Ready,
    /// It was given an invocation.
    Invoke,
    /// It answered.
    Answer,
    /// It is to sleep.
    Freeze,
    /// Sleep was broken off before anything was emptied.
    Thaw,
    /// Its memory has left.
    Emptied,
    /// It is to wake.
    Restore,
    /// It runs again.
    Restored,
    /// It died, or was killed.
    Die,
}

/// The event does not fit the state. The sandbox is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sandbox that is {state:?} cannot take {event:?}")]
pub struct Refused {
    /// Where the sandbox stands.
    pub state: State,
    /// What was to happen.
    pub event: Event,
}

impl State {
    /// The state after `event`, or why it cannot be.
    pub fn after(self, event: Event) -> Result<State, Refused> {
        use {Event as E, State as S};
        Ok(match (self, event) {
            (S::Starting, E::Ready) => S::Warm,
            (S::Warm, E::Invoke) => S::Busy,
            (S::Busy, E::Answer) => S::Warm,
            (S::Warm, E::Freeze) => S::Freezing,
            (S::Freezing, E::Thaw) => S::Warm, // An invocation that comes mid-freeze wins.
            (S::Freezing, E::Emptied) => S::Dedup,
            (S::Dedup, E::Restore) => S::Restoring,
            (S::Restoring, E::Restored) => S::Warm,
            (state, E::Die) if state != S::Gone => S::Gone,
            (state, event) => return Err(Refused { state, event }),
        })
    }

    /// The word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Warm => "warm",
            State::Busy => "busy",
            State::Freezing => "freezing",
            State::Dedup => "dedup",
            State::Restoring => "restoring",
            State::Gone => "gone",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Event as E;

    /// Walks from `Starting` through `events`; `expected` is the last state, or the event that was refused.
    #[track_caller]
    fn check(events: &[Event], expected: Result<State, Event>) {
        let mut state = Ok(State::Starting);
        for &event in events {
            state = state.and_then(|s| s.after(event));
        }
        assert_eq!(state.map_err(|refused| refused.event), expected);
    }

    #[test]
    fn a_sandbox_serves_sleeps_and_serves_again() {
        let sleep = [E::Freeze, E::Emptied, E::Restore, E::Restored];
        let life = [&[E::Ready, E::Invoke, E::Answer][..], &sleep, &[E::Invoke]].concat();
        check(&life, Ok(State::Busy));
    }

    #[test]
    fn a_busy_sandbox_is_never_frozen() {
        check(&[E::Ready, E::Invoke, E::Freeze], Err(E::Freeze));
    }

    #[test]
    fn an_invocation_in_the_middle_of_freezing_wins() {
        check(&[E::Ready, E::Freeze, E::Thaw, E::Invoke], Ok(State::Busy));
    }

    #[test]
    fn a_sleeping_sandbox_must_be_restored_before_it_serves() {
        check(&[E::Ready, E::Freeze, E::Emptied, E::Invoke], Err(E::Invoke));
    }

    #[test]
    fn death_comes_once_and_from_anywhere() {
        check(&[E::Die], Ok(State::Gone));
        check(&[E::Ready, E::Freeze, E::Emptied, E::Restore, E::Die], Ok(State::Gone));
        check(&[E::Die, E::Die], Err(E::Die));
        check(&[E::Die, E::Ready], Err(E::Ready));
    }
}
