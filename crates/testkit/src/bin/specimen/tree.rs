//! `tree [DEPTH] [FAN]`: a parent with children and grandchildren, and one process whose own parent has gone. All
//! share the pages of the first until they write, and each has some of its own.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::content;
use crate::control::{Control, number, unknown};
use crate::raw;
use crate::region::Region;

/// Bytes that all share at first.
const SHARED_BYTES: usize = 2 << 20;

/// Bytes that each process has of its own.
const OWN_BYTES: usize = 512 << 10;

/// Generations below the first, and children of each, where the test does not say.
const DEPTH_DEFAULT: u64 = 2;
const FAN_DEFAULT: u64 = 2;

/// A process of the tree, with lines to those below it.
struct Member {
    shared: Region,
    own: Region,
    below: Vec<Control>,
}

/// Builds the tree, then answers for all of it.
pub(crate) fn run(mut control: Control, args: &[&str]) -> io::Result<()> {
    let depth = if args.is_empty() { DEPTH_DEFAULT } else { number(args, 0)? };
    let fan = if args.len() < 2 { FAN_DEFAULT } else { number(args, 1)? };
    let mut shared = Region::private("shared", SHARED_BYTES)?;
    content::fill(shared.bytes_mut(), 1);
    let mut lines = vec![control.raw_fd()];
    let mut first = Member::grow(shared, 1, depth, fan, &mut lines)?;
    first.below.push(orphan(&mut first.shared, &lines)?);
    let ready = format!("processes={}", first.pids()?.len());
    control.serve(&ready, |verb, rest| first.answer(verb, rest))
}

impl Member {
    /// Fills its own memory, then forks its children. `lines` are descriptors a child must not keep: while it had
    /// them, nobody would see the other end close.
    fn grow(shared: Region, place: u64, depth: u64, fan: u64, lines: &mut Vec<RawFd>) -> io::Result<Member> {
        let mut own = Region::private("own", OWN_BYTES)?;
        content::fill(own.bytes_mut(), place);
        let mut member = Member { shared, own, below: Vec::new() };
        if depth == 0 {
            return Ok(member);
        }
        for index in 0..fan {
            let shared = member.shared.again();
            let place = place * (fan + 1) + index + 1;
            let line = fork(lines, move |lines| Member::grow(shared, place, depth - 1, fan, lines))?;
            lines.push(line.raw_fd());
            member.below.push(line);
        }
        Ok(member)
    }

    fn answer(&mut self, verb: &str, rest: &[&str]) -> io::Result<String> {
        match verb {
            "checksum" => {
                let mut sums = vec![self.shared.sum()?, self.own.sum()?];
                for answer in self.ask_below("checksum")? {
                    sums.push(content::sum(answer.as_bytes()));
                }
                Ok(format!("all={:016x}", content::combine(sums)))
            }
            "mutate" => {
                let seed = number(rest, 0)?;
                self.shared.mutate(seed)?;
                self.own.mutate(seed ^ 1)?;
                self.ask_below(&format!("mutate {}", seed.wrapping_add(1)))?;
                Ok("mutated".to_owned())
            }
            "pids" => Ok(self.pids()?.join(" ")),
            verb => Err(unknown(verb)),
        }
    }

    /// Its own number and those of all below it.
    fn pids(&mut self) -> io::Result<Vec<String>> {
        let mut pids = vec![std::process::id().to_string()];
        for answer in self.ask_below("pids")? {
            pids.extend(answer.split(' ').map(str::to_owned));
        }
        Ok(pids)
    }

    fn ask_below(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.below.iter_mut().map(|line| line.ask(command)).collect()
    }
}

/// Forks a process that becomes the member `grow` returns and answers on the line returned here.
fn fork(
    lines: &mut Vec<RawFd>,
    grow: impl FnOnce(&mut Vec<RawFd>) -> io::Result<Member>,
) -> io::Result<Control> {
    let (ours, theirs) = UnixStream::pair()?;
    lines.push(ours.as_raw_fd());
    raw::fork(|| {
        close_all(lines);
        lines.clear();
        lines.push(theirs.as_raw_fd());
        i32::from(grow(lines).and_then(|member| serve(theirs, member)).is_err())
    })?;
    lines.pop();
    let mut line = Control::over(ours.into())?;
    line.hear()?;
    Ok(line)
}

/// A process whose parent ended right after forking it, so that the kernel gave it another.
fn orphan(shared: &mut Region, lines: &[RawFd]) -> io::Result<Control> {
    let shared = shared.again();
    let (ours, theirs) = UnixStream::pair()?;
    let ours_raw = ours.as_raw_fd();
    let between = raw::fork(|| {
        let born = raw::fork(|| {
            close_all(lines);
            close_all(&[ours_raw]);
            let grown = Member::grow(shared, 0, 0, 0, &mut Vec::new());
            i32::from(grown.and_then(|member| serve(theirs, member)).is_err())
        });
        i32::from(born.is_err())
    })?;
    raw::wait(between)?;
    let mut line = Control::over(ours.into())?;
    line.hear()?;
    Ok(line)
}

fn serve(line: UnixStream, mut member: Member) -> io::Result<()> {
    Control::over(line.into())?.serve("member", |verb, rest| member.answer(verb, rest))
}

fn close_all(lines: &[RawFd]) {
    for line in lines {
        // SAFETY: this runs in a new child, whose copies of these descriptors nothing uses.
        unsafe { libc::close(*line) };
    }
}
