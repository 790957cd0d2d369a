//! `spin [THREADS]`: burns CPU in user mode. No thread is ever blocked in a system call, so none can be caught in
//! one. With one thread, even the one that answers spins.

use std::hint::black_box;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::content;
use crate::control::{Control, number};

/// Bytes that each thread hashes over and over.
const BYTES: usize = 256 << 10;

/// Rounds of the answering thread between two looks at its line.
const ROUNDS_PER_LOOK: u64 = 16;

static ROUNDS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// Starts the threads (one, where the test does not say), then spins and answers.
pub(crate) fn run(mut control: Control, args: &[&str]) -> io::Result<()> {
    let threads = if args.is_empty() { 1 } else { number(args, 0)? };
    for seed in 1..threads {
        thread::Builder::new().name("spin".to_owned()).spawn(move || spin(seed))?;
    }
    control.say(&format!("ready threads={threads}"))?;
    let line = control.as_fd().try_clone_to_owned()?;
    fcntl_setfl(&line, fcntl_getfl(&line)? | OFlags::NONBLOCK)?;
    answer(line.into(), &mut control)
}

fn spin(seed: u64) {
    let (bytes, expected) = filled(seed);
    loop {
        round(&bytes, expected);
    }
}

fn filled(seed: u64) -> (Vec<u8>, u64) {
    let mut bytes = vec![0; BYTES];
    content::fill(&mut bytes, seed);
    let expected = content::sum(&bytes);
    (bytes, expected)
}

/// Every round checks all the memory this thread has.
fn round(bytes: &[u8], expected: u64) {
    if content::sum(black_box(bytes)) != expected {
        WRONG.fetch_add(1, SeqCst);
    }
    ROUNDS.fetch_add(1, SeqCst);
}

/// Spins, with a look at the line now and then: `counts`, `await-rounds N`, `ping`, `quit`.
fn answer(mut line: std::fs::File, control: &mut Control) -> io::Result<()> {
    let (bytes, expected) = filled(0);
    let mut heard = Vec::new();
    loop {
        for _ in 0..ROUNDS_PER_LOOK {
            round(&bytes, expected);
        }
        let mut byte = [0u8; 256];
        match line.read(&mut byte) {
            Ok(0) => return Ok(()),
            Ok(count) => heard.extend_from_slice(&byte[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(end) = heard.iter().position(|byte| *byte == b'\n') {
            let command: Vec<u8> = heard.drain(..=end).collect();
            let text = String::from_utf8_lossy(&command);
            let words: Vec<&str> = text.split_whitespace().collect();
            let Some(reply) = reply(&words, &bytes, expected) else { return Ok(()) };
            control.say(&reply)?;
        }
    }
}

/// `None` ends it.
fn reply(words: &[&str], bytes: &[u8], expected: u64) -> Option<String> {
    match words {
        [] | ["quit"] => return None,
        ["ping"] => return Some("pong".to_owned()),
        ["counts"] => {}
        ["await-rounds", rest @ ..] => {
            let goal = ROUNDS.load(SeqCst) + number(rest, 0).unwrap_or(1);
            while ROUNDS.load(SeqCst) < goal {
                round(bytes, expected);
            }
        }
        _ => return Some("error unknown command".to_owned()),
    }
    Some(format!("rounds={} wrong={}", ROUNDS.load(SeqCst), WRONG.load(SeqCst)))
}
