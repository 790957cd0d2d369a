//! How the bench talks to a worker: one connection for each request, a line there and a line back. The kernel keeps
//! a request for a worker that does not run, so a request is waiting before the wake begins.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::error::BenchError;
use super::workshop::Kind;
use crate::stop::Stop;

/// The slowest cold start seen took 3 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a worker that starts is called; the resolution of cold starts.
const CALL_INTERVAL: Duration = Duration::from_micros(500);
/// How often a wait looks whether we were asked to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A way to talk to a worker, however it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    worker: &'static str,
    socket: PathBuf,
    stop: Stop,
}

impl Line {
    /// To a worker that listens there.
    pub(crate) fn to(kind: Kind, socket: PathBuf, stop: Stop) -> Line {
        Line { worker: kind.name(), socket, stop }
    }

    /// Sends a request to a worker that listens, whether it runs or not.
    pub(crate) fn ask(&self, number: u64) -> Result<Asked, BenchError> {
        let doing = || BenchError::system(format!("send a request to worker {}", self.worker));
        let mut stream = UnixStream::connect(&self.socket).map_err(doing())?;
        writeln!(stream, "{number}").map_err(doing())?;
        stream.set_read_timeout(Some(LOOK_INTERVAL)).map_err(doing())?;
        Ok(Asked { line: self.clone(), stream })
    }

    /// Sends a request as soon as somebody listens.
    pub(crate) fn ask_when_ready(&self, number: u64) -> Result<Asked, BenchError> {
        let started = Instant::now();
        loop {
            match self.ask(number) {
                Ok(asked) => return Ok(asked),
                Err(_) if started.elapsed() < ANSWER_TIMEOUT && !self.stop.is_asked() => {
                    std::thread::sleep(CALL_INTERVAL);
                }
                Err(_) => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> BenchError {
        match self.stop.is_asked() {
            true => BenchError::Interrupted,
            false => BenchError::Silent { worker: self.worker, within_s: ANSWER_TIMEOUT.as_secs() },
        }
    }
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    line: Line,
    stream: UnixStream,
}

impl Asked {
    /// Waits for the answer.
    pub(crate) fn answer(mut self) -> Result<String, BenchError> {
        let (started, mut answer, mut piece) = (Instant::now(), Vec::new(), [0; 256]);
        while !answer.ends_with(b"\n") {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(self.line.silent()),
                Ok(len) => answer.extend(piece.iter().take(len)),
                Err(error) if is_just_slow(&error) => {}
                Err(error) => return Err(BenchError::system("read an answer")(error)),
            }
            if started.elapsed() > ANSWER_TIMEOUT || self.line.stop.is_asked() {
                return Err(self.line.silent());
            }
        }
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }
}

fn is_just_slow(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
