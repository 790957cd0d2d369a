//! What all ways have in common: a worker is put to sleep, and woken with a request that waits already.

use report::bench::KeptParts;

use super::error::BenchError;

/// A way to keep one worker while nobody needs it. It is warm when it comes, and after each wake. Dropping it leaves
/// nothing behind.
pub(crate) trait Keep {
    /// Puts the worker to sleep.
    fn sleep(&mut self) -> Result<Asleep, BenchError>;

    /// Wakes it for request `number`. It is warm again.
    fn wake(&mut self, number: u64) -> Result<Woken, BenchError>;

    /// Has request `number` come while a worker that is warm falls asleep, when it has used that `part` of the time that
    /// it needs (0 to 1). It is warm again. `None`: falling asleep takes no time.
    fn disturb(&mut self, _number: u64, _part: f64) -> Result<Option<Woken>, BenchError> {
        Ok(None)
    }

    /// How long the first sleeps took, where there was something to encode; microseconds.
    fn first_sleeps_us(&self) -> &[u64] {
        &[]
    }
}

/// A worker that sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asleep {
    /// Its private memory before.
    pub(crate) warm_bytes: u64,
    /// What it costs now, everything counted.
    pub(crate) kept_bytes: u64,
    /// The same in parts, where they are known.
    pub(crate) kept_parts: Option<KeptParts>,
    /// How long it took, where there is something to wait for.
    pub(crate) sleep_us: Option<u64>,
}

/// A worker that answered.
#[derive(Clone, Debug)]
pub(crate) struct Woken {
    /// From the command to the answer in hand.
    pub(crate) wake_us: u64,
    /// The answer.
    pub(crate) answer: String,
}

/// Microseconds since `started`.
pub(crate) fn micros_since(started: std::time::Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
