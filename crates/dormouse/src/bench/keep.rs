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
