//! What falls due if a sandbox lets it: at most one thing for each. The actor looks at them itself: a task for each
//! invocation, only to be stopped again, would cost more than the rest of the invocation.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{InvocationId, SandboxId};
use tokio::time::Instant;

/// What a sandbox owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owes {
    /// To ask for its first invocation.
    Init,
    /// To answer this one, and to ask for the next.
    Answer(InvocationId),
    /// To end: its extensions were told to.
    End,
}

/// All that is owed, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, SandboxId)>,
    by_sandbox: BTreeMap<SandboxId, (Instant, Owes)>,
}

impl Timers {
    /// This is owed by then, and nothing else any more.
    pub(super) fn set(&mut self, id: SandboxId, at: Instant, owes: Owes) {
        self.clear(id);
        self.by_time.insert((at, id));
        self.by_sandbox.insert(id, (at, owes));
    }

    /// Nothing is owed any more.
    pub(super) fn clear(&mut self, id: SandboxId) {
        if let Some((at, _)) = self.by_sandbox.remove(&id) {
            self.by_time.remove(&(at, id));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the first that is overdue.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(SandboxId, Owes)> {
        let (_, id) = self.by_time.first().filter(|(at, _)| *at <= now).copied()?;
        let (_, owes) = self.by_sandbox.get(&id).cloned()?;
        self.clear(id);
        Some((id, owes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_sandbox_owes_one_thing_and_the_earliest_comes_first() {
        let now = Instant::now();
        let at = |s| now + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set(SandboxId(1), at(5), Owes::Init);
        timers.set(SandboxId(2), at(3), Owes::Init);
        timers.set(SandboxId(1), at(1), Owes::Answer(InvocationId("a".to_owned())));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop(now), None);
        let answer = Owes::Answer(InvocationId("a".to_owned()));
        assert_eq!(timers.pop(at(9)), Some((SandboxId(1), answer)));
        timers.clear(SandboxId(2));
        assert_eq!((timers.pop(at(9)), timers.next()), (None, None));
    }
}
