//! How a test talks to a specimen: a line each way. The specimen says `ready …` once; then each command line gets
//! one answer line, which starts with `error` when the command could not be carried out.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The longest command a test may send.
const LINE_LEN_MAX: u64 = 4096;

/// One end of the talk.
pub(crate) struct Control {
    reader: BufReader<File>,
    /// Where answers go, when that is not where commands come from.
    writer: Option<File>,
}

impl Control {
    /// Connects to the socket on which the test listens.
    pub(crate) fn connect(path: &Path) -> io::Result<Control> {
        Self::over(UnixStream::connect(path)?.into())
    }

    /// Talks over the standard input and output.
    pub(crate) fn stdio() -> io::Result<Control> {
        let reader = rustix::stdio::stdin().try_clone_to_owned()?;
        let writer = rustix::stdio::stdout().try_clone_to_owned()?;
        Ok(Control { reader: BufReader::new(reader.into()), writer: Some(writer.into()) })
    }

    /// Talks over a socket that is already there.
    pub(crate) fn over(socket: OwnedFd) -> io::Result<Control> {
        Ok(Control { reader: BufReader::new(socket.into()), writer: None })
    }

    /// Sends one line.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<()> {
        let mut writer = self.writer.as_ref().unwrap_or(self.reader.get_ref());
        writer.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line, without its end; `None` when the other side has gone.
    pub(crate) fn hear(&mut self) -> io::Result<Option<String>> {
        use io::Read;
        let mut line = String::new();
        (&mut self.reader).take(LINE_LEN_MAX).read_line(&mut line)?;
        Ok(line.strip_suffix('\n').map(str::to_owned))
    }

    /// Sends a command to the other side and hears its answer.
    pub(crate) fn ask(&mut self, command: &str) -> io::Result<String> {
        self.say(command)?;
        self.hear()?.ok_or_else(|| io::Error::other("the other side has gone"))
    }

    /// Says `ready`, then answers commands until the other side goes or says `quit`.
    pub(crate) fn serve(
        &mut self,
        ready: &str,
        mut answer: impl FnMut(&str, &[&str]) -> io::Result<String>,
    ) -> io::Result<()> {
        self.say(format!("ready {ready}").trim_end())?;
        while let Some(line) = self.hear()? {
            let words: Vec<&str> = line.split_whitespace().collect();
            let outcome = match words.as_slice() {
                [] | ["quit"] => break,
                ["ping"] => Ok("pong".to_owned()),
                [verb, rest @ ..] => answer(verb, rest),
            };
            self.say(&outcome.unwrap_or_else(|error| format!("error {error}")))?;
        }
        Ok(())
    }

    /// Says, instead of `ready`, why this machine does not have what the specimen is to hold.
    pub(crate) fn unavailable(&mut self, why: &io::Error) -> io::Result<()> {
        self.say(&format!("unavailable: {why}"))
    }

    /// The descriptor of the incoming side.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.reader.get_ref().as_raw_fd()
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().as_fd()
    }
}

/// The answer to a command that this specimen does not have.
pub(crate) fn unknown(verb: &str) -> io::Error {
    io::Error::other(format!("unknown command {verb:?}"))
}

/// A number among the words of a command.
pub(crate) fn number(words: &[&str], at: usize) -> io::Result<u64> {
    let word = words.get(at).ok_or_else(|| io::Error::other(format!("word {} is missing", at + 1)))?;
    word.parse().map_err(|_| io::Error::other(format!("{word:?} is no number")))
}
