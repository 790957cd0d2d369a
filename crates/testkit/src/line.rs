//! A line at a time to and from another process, never without a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The longest answer a test takes.
const LINE_LEN_MAX: usize = 1 << 20;

/// The test's end of the line.
pub(crate) struct Line {
    socket: UnixStream,
    heard: Vec<u8>,
}

impl Line {
    /// Waits until somebody connects; `None` when the time is over.
    pub(crate) fn accept(listener: &UnixListener, within: Duration) -> io::Result<Option<Line>> {
        if !readable(listener, within)? {
            return Ok(None);
        }
        let (socket, _) = listener.accept()?;
        Ok(Some(Line { socket, heard: Vec::new() }))
    }

    /// Sends one line.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<()> {
        self.socket.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line, without its end. `TimedOut` and `UnexpectedEof` are what they say.
    pub(crate) fn hear(&mut self, within: Duration) -> io::Result<String> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.heard.len() > LINE_LEN_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "the answer has no end"));
            }
            self.hear_more(deadline.saturating_duration_since(Instant::now()))?;
        }
    }

    fn hear_more(&mut self, within: Duration) -> io::Result<()> {
        if !readable(&self.socket, within)? {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut buffer = [0u8; 4096];
        match self.socket.read(&mut buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.heard.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

fn readable(fd: &impl AsFd, within: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let timeout = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
    Ok(poll(&mut fds, Some(&timeout))? > 0)
}
