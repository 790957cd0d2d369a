//! Threads that each hold content on their stack, and wait in between.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::content;

/// Threads.
const THREADS: u64 = 4;

/// Bytes filled on each stack, of the 2 MiB that Rust gives a thread.
const STACK_BYTES: usize = 128 << 10;

/// What a thread is asked to do with its stack, after which it answers with its hash.
#[derive(Clone, Copy)]
enum Ask {
    Sum,
    Mutate(u64),
}

/// The threads, each with a line to it and from it.
pub(super) struct Stacks {
    threads: Vec<(Sender<Ask>, Receiver<u64>)>,
}

impl Stacks {
    /// Starts the threads.
    pub(super) fn start(seed: u64) -> io::Result<Stacks> {
        let threads = (0..THREADS).map(|index| start_one(seed ^ (index << 8)));
        Ok(Stacks { threads: threads.collect::<io::Result<_>>()? })
    }

    /// Hash of all stacks.
    pub(super) fn sum(&self) -> io::Result<u64> {
        self.ask_all(Ask::Sum)
    }

    /// Changes some pages of each.
    pub(super) fn mutate(&self, seed: u64) -> io::Result<u64> {
        self.ask_all(Ask::Mutate(seed))
    }

    fn ask_all(&self, ask: Ask) -> io::Result<u64> {
        let gone = |_| io::Error::other("a thread is gone");
        for (to, _) in &self.threads {
            to.send(ask).map_err(|_| io::Error::other("a thread is gone"))?;
        }
        let sums: Result<Vec<u64>, _> = self.threads.iter().map(|(_, from)| from.recv()).collect();
        Ok(content::combine(sums.map_err(gone)?))
    }
}

/// A thread of its own that fills its stack, states its hash once and ends.
pub(super) fn sum_on_new_stack(seed: u64) -> io::Result<u64> {
    let work = move || {
        let mut stack = [0u8; STACK_BYTES];
        content::fill(&mut stack, seed);
        content::sum(std::hint::black_box(&stack))
    };
    let thread = thread::Builder::new().name("short".to_owned()).spawn(work)?;
    thread.join().map_err(|_| io::Error::other("the thread died"))
}

fn start_one(seed: u64) -> io::Result<(Sender<Ask>, Receiver<u64>)> {
    let (ask_tx, ask_rx) = channel();
    let (sum_tx, sum_rx) = channel();
    thread::Builder::new().name("stack".to_owned()).spawn(move || hold(seed, &ask_rx, &sum_tx))?;
    Ok((ask_tx, sum_rx))
}

fn hold(seed: u64, asks: &Receiver<Ask>, sums: &Sender<u64>) {
    let mut stack = [0u8; STACK_BYTES];
    content::fill(&mut stack, seed);
    for ask in asks {
        let stack = std::hint::black_box(&mut stack);
        if let Ask::Mutate(mutation) = ask {
            content::mutate(stack, mutation ^ seed);
        }
        if sums.send(content::sum(stack)).is_err() {
            return;
        }
    }
}
