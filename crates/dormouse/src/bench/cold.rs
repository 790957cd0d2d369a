//! Nothing is kept: the worker is killed, and started anew for the next request. The new one makes no warm-up
//! calls, which a cold function would not make either.

use std::time::Instant;

use super::error::BenchError;
use super::keep::{Asleep, Keep, Woken, micros_since};
use super::worker::Worker;
use super::workshop::{Kind, Workshop};

/// A worker that is killed and started.
pub(crate) struct Cold<'a> {
    workshop: &'a Workshop,
    kind: Kind,
    /// Between a wake and the next sleep.
    worker: Option<Worker>,
}

impl<'a> Cold<'a> {
    /// Starts the first one.
    pub(crate) fn start(workshop: &'a Workshop, kind: Kind) -> Result<Cold<'a>, BenchError> {
        let worker = workshop.start(kind, "cold", true)?;
        worker.line().ask_when_ready(0)?.answer()?;
        Ok(Cold { workshop, kind, worker: Some(worker) })
    }
}

impl Keep for Cold<'_> {
    fn sleep(&mut self) -> Result<Asleep, BenchError> {
        let warm_bytes = match self.worker.take() {
            Some(worker) => worker.memory()?.private_bytes,
            None => 0,
        };
        Ok(Asleep { warm_bytes, kept_bytes: 0, kept_parts: None, sleep_us: None })
    }

    fn wake(&mut self, number: u64) -> Result<Woken, BenchError> {
        let started = Instant::now();
        let worker = self.workshop.start(self.kind, "cold", false)?;
        let answer = worker.line().ask_when_ready(number)?.answer()?;
        let wake_us = micros_since(started);
        self.worker = Some(worker);
        Ok(Woken { wake_us, answer })
    }
}
