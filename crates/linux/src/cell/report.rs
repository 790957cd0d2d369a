//! What the builder of a cell and its two processes tell the node: lines of text, and sockets of the cell.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::{At, Inmates, Sockets};
use crate::process::Process;

/// Longest report: two numbers, and what is wrong.
const BYTES_MAX: usize = 64 << 10;

/// Descriptors of one `Sockets`.
const SOCKETS: usize = 3;

/// What was told until now.
#[derive(Debug, Default)]
pub(super) struct Report {
    keeper: Option<i32>,
    program: Option<i32>,
    sockets: Option<Sockets>,
    error: Option<io::Error>,
}

impl Report {
    /// Until all of them have closed their end: the program's is closed when it has been started.
    pub(super) fn read(node: &UnixStream) -> io::Result<Report> {
        let (mut text, mut sockets) = (Vec::new(), Vec::new());
        let read = loop {
            match receive(node, &mut text, &mut sockets) {
                Ok(0) => break Ok(()),
                Ok(_) if text.len() > BYTES_MAX => break Err(io::Error::other("its report has no end")),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        let mut report = Report::parse(&String::from_utf8_lossy(&text));
        if let Err(error) = read {
            report.error.get_or_insert(error); // Then whoever lives of them is killed.
        }
        if let Ok([listener, way_in, witness]) = <[OwnedFd; SOCKETS]>::try_from(sockets) {
            report.sockets = Some(Sockets { listener: listener.into(), way_in, witness: witness.into() });
        }
        Ok(report)
    }

    fn parse(text: &str) -> Report {
        let mut report = Report::default();
        for (word, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            match word {
                "keeper" => report.keeper = rest.parse().ok(),
                "program" => report.program = rest.parse().ok(),
                "error" if report.error.is_none() => {
                    let (code, what) = rest.split_once(' ').unwrap_or(("0", rest));
                    let kind = io::Error::from_raw_os_error(code.parse().unwrap_or(0)).kind();
                    report.error = Some(io::Error::new(kind, what.to_owned()));
                }
                _ => {} // What comes after the first error follows from it.
            }
        }
        report
    }

    /// Both, or the reason why not; then none is left.
    pub(super) fn inmates(self) -> io::Result<Inmates> {
        // They are our children, and not collected: their numbers mean them.
        let open = |pid: Option<i32>| pid.and_then(|pid| Process::open(pid).ok());
        match (open(self.program), open(self.keeper), self.error) {
            (Some(program), Some(keeper), None) => Ok(Inmates { program, keeper, sockets: self.sockets }),
            (program, keeper, error) => {
                program.into_iter().chain(keeper).for_each(|process| _ = process.kill_and_collect());
                Err(error.unwrap_or_else(|| io::Error::other("the builder of the cell died")))
            }
        }
    }
}

/// The next piece: how many bytes.
fn receive(node: &UnixStream, text: &mut Vec<u8>, sockets: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut piece = [0; 1024];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(node, &mut [IoSliceMut::new(&mut piece)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    text.extend(&piece[..received.bytes]);
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    Ok(received.bytes)
}

/// What is said to the node, in `run_inside`.
pub(super) fn say(mut to: impl Write, word: &str, rest: impl std::fmt::Display) -> io::Result<()> {
    to.write_all(format!("{word} {rest}\n").as_bytes())
}

pub(super) fn say_error(to: impl Write, error: &io::Error) -> io::Result<()> {
    let source = error.get_ref().and_then(|inner| inner.downcast_ref::<At>());
    let code = source.map_or(error.raw_os_error(), |at| at.source.raw_os_error()).unwrap_or(0);
    say(to, "error", format_args!("{code} {}", error.to_string().replace('\n', " ")))
}

/// Gives the node sockets of the cell.
pub(super) fn hand_over(node: impl AsFd, sockets: Sockets) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    let witness = sockets.witness.into_socket();
    let descriptors = [sockets.listener.as_fd(), sockets.way_in.as_fd(), witness.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let line = [IoSlice::new(b"sockets \n")];
    rustix::io::retry_on_intr(|| sendmsg(&node, &line, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::at;
    use super::*;
    use crate::socket_owner::Witness;

    #[test]
    fn a_report_is_understood_and_the_first_error_counts() {
        let report = Report::parse("keeper 12\nprogram 13\n");
        assert_eq!((report.keeper, report.program, report.error.is_none()), (Some(12), Some(13), true));
        let mut said = Vec::new();
        let error = at("bind /nowhere")(io::Error::from_raw_os_error(libc::ENOENT));
        say_error(&mut said, &error).unwrap();
        say_error(&mut said, &io::Error::other("second")).unwrap();
        let error = Report::parse(&String::from_utf8(said).unwrap()).error.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("bind /nowhere: "), "{error}");
        assert!(Report::parse("nonsense\n\nerror\nerror x").error.is_some());
    }

    #[test]
    fn sockets_arrive_with_what_is_said_around_them() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        say(&theirs, "keeper", 12).unwrap();
        let way_in = listener.try_clone().unwrap().into();
        let witness = Witness::new().unwrap();
        hand_over(&theirs, Sockets { listener, way_in, witness }).unwrap();
        say(&theirs, "program", 13).unwrap();
        drop(theirs);
        let mut report = Report::read(&ours).unwrap();
        assert_eq!((report.keeper, report.program), (Some(12), Some(13)));
        assert_eq!(report.sockets.take().unwrap().listener.local_addr().unwrap(), address);
    }
}
