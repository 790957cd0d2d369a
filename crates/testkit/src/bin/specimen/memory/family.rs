//! A child, forked early, that shares some of the parent's pages until one of them writes.

use std::io;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;

use crate::content;
use crate::control::{Control, number, unknown};
use crate::raw;
use crate::region::Region;

/// The child, and the line to it.
pub(super) struct Child {
    pid: libc::pid_t,
    line: Control,
}

impl Child {
    /// Forks it. It lives until its line ends.
    pub(super) fn fork(regions: &mut [Region], control: RawFd) -> io::Result<Child> {
        let (ours, theirs) = UnixStream::pair()?;
        let ours_raw = std::os::fd::AsRawFd::as_raw_fd(&ours);
        let pid = raw::fork(|| {
            close(control);
            close(ours_raw);
            let served = Control::over(theirs.into()).and_then(|line| serve(line, regions));
            i32::from(served.is_err())
        })?;
        let mut line = Control::over(ours.into())?;
        line.hear()?;
        Ok(Child { pid, line })
    }

    /// Hash of what it sees.
    pub(super) fn sum(&mut self) -> io::Result<u64> {
        let answer = self.line.ask("sum")?;
        u64::from_str_radix(&answer, 16).map_err(|_| io::Error::other(format!("the child said {answer:?}")))
    }

    /// Lets it write to some of its pages.
    pub(super) fn mutate(&mut self, seed: u64) -> io::Result<()> {
        self.line.ask(&format!("mutate {seed}"))?;
        Ok(())
    }

    /// Lets it end, and waits for that.
    pub(super) fn dismiss(&mut self) -> io::Result<()> {
        self.line.say("quit")?;
        raw::wait(self.pid)?;
        Ok(())
    }
}

fn serve(mut line: Control, regions: &mut [Region]) -> io::Result<()> {
    line.serve("child", |verb, rest| match verb {
        "sum" => Ok(format!("{:016x}", sum(regions)?)),
        "mutate" => {
            for region in regions.iter_mut() {
                region.mutate(number(rest, 0)?)?;
            }
            Ok("mutated".to_owned())
        }
        verb => Err(unknown(verb)),
    })
}

fn sum(regions: &mut [Region]) -> io::Result<u64> {
    let sums: io::Result<Vec<u64>> = regions.iter_mut().map(Region::sum).collect();
    Ok(content::combine(sums?))
}

fn close(fd: RawFd) {
    // SAFETY: this runs in the child, whose copy of the descriptor nothing else uses.
    unsafe { libc::close(fd) };
}
