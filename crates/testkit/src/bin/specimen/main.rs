//! Programs with known behaviour, which tests put to sleep and wake. Each subcommand is one specimen; all talk
//! over the line protocol of [`control`]. What a test makes of the answers is not decided here.
//!
//! `specimen [--socket PATH | --fd N] NAME [ARGS…]`; without either it talks over standard input and output.

// Specimens exist to make raw system calls on themselves; nothing of them is part of the product.
#![allow(unsafe_code)]

mod aio;
mod blocked;
mod content;
mod control;
mod huge;
mod memory;
mod raw;
mod region;
mod signals;
mod spin;
mod traced;
mod tree;
mod uffd;
mod uring;
mod vfork;

use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::ExitCode;

use control::Control;

/// What `until-eof` exits with, so that a waiting parent sees a value that nothing else has.
const UNTIL_EOF_EXIT: u8 = 7;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("specimen {}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<ExitCode> {
    let (control, rest) = match words {
        ["until-eof"] => return until_eof(),
        ["--socket", path, rest @ ..] => (Control::connect(Path::new(path))?, rest),
        ["--fd", fd, rest @ ..] => (Control::over(inherited(fd)?)?, rest),
        rest => (Control::stdio()?, rest),
    };
    match rest {
        ["blocked", kinds @ ..] => blocked::run(control, kinds)?,
        ["memory", args @ ..] => memory::run(control, args)?,
        ["signals"] => signals::run(control)?,
        ["tree", args @ ..] => tree::run(control, args)?,
        ["spin", args @ ..] => spin::run(control, args)?,
        ["uring"] => uring::run(control)?,
        ["uffd"] => uffd::run(control)?,
        ["traced"] => traced::run(control)?,
        ["aio"] => aio::run(control)?,
        ["huge"] => huge::run(control)?,
        ["vfork"] => vfork::run(control)?,
        _ => return Err(io::Error::other("no such specimen")),
    }
    Ok(ExitCode::SUCCESS)
}

/// A child for those who wait for one: ends when its standard input does.
fn until_eof() -> io::Result<ExitCode> {
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(ExitCode::from(UNTIL_EOF_EXIT))
}

fn inherited(fd: &str) -> io::Result<OwnedFd> {
    let fd: RawFd = fd.parse().map_err(io::Error::other)?;
    // SAFETY: whoever started us with `--fd` left that descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
