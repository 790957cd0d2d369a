//! What a woken process may do next to its address space: each act does it and states the result.

use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use super::{Memory, stacks};
use crate::content::{self, PAGE_BYTES};
use crate::raw;
use crate::region::{Region, is_unmapped};

/// Regions that a child does not have as its parent does.
const NOT_INHERITED: [&str; 2] = ["dontfork", "wipeonfork"];

/// Exit code of a child that saw what it should.
const SAW_THE_SAME: i32 = 0;
const SAW_OTHER_BYTES: i32 = 1;
const SAW_UNWIPED: i32 = 2;
const SAW_DONTFORK: i32 = 3;

impl Memory {
    /// A child made now sees what we see, zeros in `wipeonfork`, and no `dontfork`.
    pub(super) fn fork(&mut self) -> io::Result<String> {
        let expected = self.inherited_sum()?;
        let pid = raw::fork(|| self.judge(expected))?;
        match libc::WEXITSTATUS(raw::wait(pid)?) {
            SAW_THE_SAME => Ok(format!("forked sum={expected:016x}")),
            SAW_OTHER_BYTES => Err(io::Error::other("the child sees other bytes")),
            SAW_UNWIPED => Err(io::Error::other("the child sees bytes that fork should wipe")),
            SAW_DONTFORK => Err(io::Error::other("the child has a region that fork should leave out")),
            code => Err(io::Error::other(format!("the child ended with {code}"))),
        }
    }

    fn judge(&mut self, expected: u64) -> i32 {
        let Ok(sum) = self.inherited_sum() else { return SAW_OTHER_BYTES };
        let wiped = self.region("wipeonfork").is_ok_and(|region| content::all_zero(region.bytes()));
        let absent = self.region("dontfork").is_ok_and(|region| is_unmapped(region.base()));
        match (sum == expected, wiped, absent) {
            (false, _, _) => SAW_OTHER_BYTES,
            (_, false, _) => SAW_UNWIPED,
            (_, _, false) => SAW_DONTFORK,
            (true, true, true) => SAW_THE_SAME,
        }
    }

    fn inherited_sum(&mut self) -> io::Result<u64> {
        let inherited = self.regions.iter_mut().filter(|region| !NOT_INHERITED.contains(&region.name()));
        let regions: io::Result<Vec<u64>> = inherited.map(Region::sum).collect();
        let image = self.image.sums().map(|(_, sum)| sum);
        let rest = [self.heap.sum(), self.jit.call()?];
        Ok(content::combine(regions?.into_iter().chain(image).chain(rest)))
    }

    /// Becomes a fresh `memory` of the same seed, which says `ready` on the same line. Returns only on failure.
    pub(super) fn exec(&mut self, control: RawFd) -> io::Error {
        if let Err(error) = self.child.dismiss() {
            return error;
        }
        // SAFETY: `F_SETFD` takes a number; the descriptor is the one we talk over.
        if let Err(error) = raw::check_int(unsafe { libc::fcntl(control, libc::F_SETFD, 0) }) {
            return error;
        }
        let me = match std::env::current_exe() {
            Ok(me) => me,
            Err(error) => return error,
        };
        let (fd, seed) = (control.to_string(), self.seed.to_string());
        Command::new(me).args(["--fd", &fd, "memory", &seed]).exec()
    }

    /// A new thread has a stack that works.
    pub(super) fn thread(&self) -> io::Result<String> {
        Ok(format!("thread sum={:016x}", stacks::sum_on_new_stack(self.seed)?))
    }

    /// A new mapping starts empty and keeps what is written.
    pub(super) fn mmap(&mut self, mib: u64) -> io::Result<String> {
        let mut region = Region::private("new", (mib as usize) << 20)?;
        expect_zeros(region.bytes())?;
        content::fill(region.bytes_mut(), self.seed ^ mib);
        let sum = region.sum()?;
        self.regions.push(region);
        Ok(format!("mmapped sum={sum:016x}"))
    }

    /// Takes the last quarter off `mapped`.
    pub(super) fn munmap(&mut self) -> io::Result<String> {
        let mapped = self.region("mapped")?;
        let keep_bytes = pages(mapped.len_bytes() / 4 * 3);
        mapped.truncate(keep_bytes)?;
        state("munmapped", mapped)
    }

    /// Makes `mapped` unreadable, then read-only, then writable again, with its content as before.
    pub(super) fn mprotect(&mut self) -> io::Result<String> {
        let mapped = self.region("mapped")?;
        let before = mapped.sum()?;
        for prot in [libc::PROT_NONE, libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            mapped.protect(prot)?;
        }
        expect_same(before, mapped)?;
        state("mprotected", mapped)
    }

    /// Doubles `mapped`: what was there stays, what is new is zero.
    pub(super) fn mremap_grow(&mut self) -> io::Result<String> {
        let mapped = self.region("mapped")?;
        let (before, old_bytes) = (mapped.sum()?, mapped.len_bytes());
        mapped.grow(2 * old_bytes)?;
        let (old, new) = mapped.bytes().split_at(old_bytes);
        expect_zeros(new)?;
        if content::sum(old) != before {
            return Err(io::Error::other("growing changed the content"));
        }
        state("grown", mapped)
    }

    /// Moves `mapped` elsewhere.
    pub(super) fn mremap_move(&mut self) -> io::Result<String> {
        let mapped = self.region("mapped")?;
        let (old, before) = (mapped.base(), mapped.sum()?);
        mapped.relocate()?;
        expect_same(before, mapped)?;
        if !is_unmapped(old) {
            return Err(io::Error::other("the old place is still mapped"));
        }
        state("moved", mapped)
    }

    /// Gives the first half of `mapped` back to the kernel: it must read as zeros.
    pub(super) fn dontneed(&mut self) -> io::Result<String> {
        let mapped = self.region("mapped")?;
        let half = pages(mapped.len_bytes() / 2);
        mapped.advise(half, libc::MADV_DONTNEED)?;
        expect_zeros(&mapped.bytes()[..half])?;
        state("given back", mapped)
    }

    /// Sends `big` through a pipe into a new mapping: the kernel, not we, touches both.
    pub(super) fn pipe(&mut self) -> io::Result<String> {
        let big = self.region("big")?.bytes();
        let mut copy = Region::private("copy", big.len())?;
        let (mut reader, mut writer) = io::pipe()?;
        let written = thread::scope(|scope| {
            let write = scope.spawn(move || writer.write_all(big));
            reader.read_exact(copy.bytes_mut())?;
            write.join().map_err(|_| io::Error::other("the writer died"))?
        });
        written?;
        if copy.bytes() != big {
            return Err(io::Error::other("other bytes came out of the pipe"));
        }
        Ok(format!("piped sum={:016x}", content::sum(big)))
    }
}

/// A process started by `posix_spawn`, which shares our memory until it execs.
pub(super) fn spawn() -> io::Result<String> {
    let status = Command::new(std::env::current_exe()?).arg("until-eof").stdin(Stdio::null()).status()?;
    Ok(format!("spawned {status}"))
}

fn pages(bytes: usize) -> usize {
    bytes / PAGE_BYTES * PAGE_BYTES
}

fn state(done: &str, region: &mut Region) -> io::Result<String> {
    Ok(format!("{done} bytes={} sum={:016x}", region.len_bytes(), region.sum()?))
}

fn expect_zeros(bytes: &[u8]) -> io::Result<()> {
    match bytes.iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => Err(io::Error::other(format!("byte {at} is not zero"))),
    }
}

fn expect_same(before: u64, region: &mut Region) -> io::Result<()> {
    if region.sum()? == before { Ok(()) } else { Err(io::Error::other("the content changed")) }
}
