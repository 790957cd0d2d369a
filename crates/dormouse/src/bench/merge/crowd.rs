//! Sandboxes of one worker that stand side by side, and what they cost together.

use std::time::Instant;

use linux::process::{self, Rollup};
use report::merge::Resident;

use super::{pages_of, processor_time};
use crate::bench::error::BenchError;
use crate::bench::keep::{Woken, micros_since};
use crate::bench::samples::Answers;
use crate::bench::worker::Worker;
use crate::bench::workshop::{Kind, Workshop};

/// Requests that each has answered before anything is merged; the same ones are asked again afterwards.
pub(super) const REQUESTS_KNOWN: u64 = 2;

/// Sandboxes that are warm. Dropping it ends them.
pub(super) struct Crowd<'a> {
    workshop: &'a Workshop,
    kind: Kind,
    is_marked: bool,
    workers: Vec<Worker>,
}

/// Answers so far, by whether they were right.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) right: u64,
    pub(super) wrong: u64,
}

impl Tally {
    /// Adds an answer.
    pub(super) fn add(&mut self, answers: &mut Answers, number: u64, answer: &str) {
        match answers.is_right(number, answer) {
            true => self.right += 1,
            false => self.wrong += 1,
        }
    }
}

impl<'a> Crowd<'a> {
    /// Starts so many at once. `is_marked`: KSM may merge them.
    pub(super) fn start(
        workshop: &'a Workshop,
        (kind, count): (Kind, u64),
        is_marked: bool,
    ) -> Result<Crowd<'a>, BenchError> {
        let mut crowd = Crowd { workshop, kind, is_marked, workers: Vec::new() };
        for number in 0..count {
            let worker = crowd.start_one(&format!("merged{number:02}"), true)?;
            crowd.workers.push(worker);
        }
        Ok(crowd)
    }

    /// Waits until each has answered the known requests.
    pub(super) fn all_answer(&self, answers: &mut Answers, tally: &mut Tally) -> Result<(), BenchError> {
        for worker in &self.workers {
            for number in 0..REQUESTS_KNOWN {
                tally.add(answers, number, &worker.line().ask_when_ready(number)?.answer()?);
            }
        }
        Ok(())
    }

    fn start_one(&self, name: &str, is_warmed_up: bool) -> Result<Worker, BenchError> {
        self.workshop.start_prepared(self.kind, name, is_warmed_up, |command| {
            if self.is_marked {
                linux::spawn::mark_mergeable(command);
            }
        })
    }

    /// Their processes.
    pub(super) fn pids(&self) -> Vec<i32> {
        self.workers.iter().map(Worker::pid).collect()
    }

    /// Asks the one whose turn it is.
    pub(super) fn ask(&self, turn: u64, number: u64) -> Result<Woken, BenchError> {
        let place = turn as usize % self.workers.len().max(1);
        let Some(worker) = self.workers.get(place) else {
            return Err(BenchError::Silent { worker: self.kind.name(), within_s: 0 });
        };
        let started = Instant::now();
        let answer = worker.line().ask(number)?.answer()?;
        Ok(Woken { wake_us: micros_since(started), answer })
    }

    /// Starts one more, asks it, and ends it.
    pub(super) fn cold_start(&self, number: u64) -> Result<Woken, BenchError> {
        let started = Instant::now();
        let worker = self.start_one("cold", false)?;
        let answer = worker.line().ask_when_ready(number)?.answer()?;
        Ok(Woken { wake_us: micros_since(started), answer })
    }

    /// Page faults of all of them so far.
    pub(super) fn faults(&self) -> u64 {
        self.pids().into_iter().filter_map(processor_time::faults).sum()
    }

    /// What one has, on average.
    pub(super) fn resident(&self) -> Resident {
        let all: Vec<_> = self.pids().into_iter().filter_map(|pid| process::rollup(pid).ok()).collect();
        let mean = |of: fn(&Rollup) -> u64| all.iter().map(of).sum::<u64>() / all.len().max(1) as u64;
        Resident { rss_bytes: mean(|rollup| rollup.rss_bytes), pss_bytes: mean(|rollup| rollup.pss_bytes) }
    }

    /// Their private pages by content.
    pub(super) fn content(&self) -> Result<pages_of::Count, BenchError> {
        pages_of::by_content(&self.pids()).map_err(BenchError::system("read the memory of workers"))
    }

    /// The same by frame.
    pub(super) fn frames(&self) -> Result<pages_of::Count, BenchError> {
        pages_of::by_frame(&self.pids()).map_err(BenchError::system("read the page maps of workers"))
    }
}
