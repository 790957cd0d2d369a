//! A socket in the file system at which processes leave short messages, of which the kernel says whose each is.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, shutdown, socket_with,
};

/// Hears who sends to one path. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Datagrams {
    socket: OwnedFd,
    path: PathBuf,
    is_closed: AtomicBool,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its length; the rest of what was longer than the buffer is lost.
    pub bytes: usize,
    /// The process that sent it, as we number processes. It may be dead, and its number somebody else's. `None`: it lives
    /// where we cannot see it.
    pub sender: Option<i32>,
}

impl Datagrams {
    /// Listens at `path`, to everybody who can reach it; what has that name goes. Paths longer than 107 bytes are invalid.
    pub fn listen(path: &Path) -> io::Result<Datagrams> {
        let address = SocketAddrUnix::new(path)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        set_socket_passcred(&socket, true)?; // Before the first message can come.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => bind(&socket, &address)?,
        }
        let datagrams = Datagrams { socket, path: path.to_owned(), is_closed: AtomicBool::new(false) };
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        Ok(datagrams)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next message. Descriptors that come with it are thrown away. `None`: it was closed.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<Option<Datagram>> {
        let mut control = Control([0; CREDENTIALS_SPACE]);
        let mut place = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        // SAFETY: integers and pointers, for which zero and null are values.
        let mut head: libc::msghdr = unsafe { std::mem::zeroed() };
        (head.msg_iov, head.msg_iovlen) = (&raw mut place, 1);
        // No room for more than one set of credentials: for descriptors of a sender the kernel then has no place.
        (head.msg_control, head.msg_controllen) = (control.0.as_mut_ptr().cast(), CREDENTIALS_SPACE as _);
        // SAFETY: the kernel writes into `into` and `control`, both live and as long as the head says, and into the head.
        let bytes = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut head, libc::MSG_CMSG_CLOEXEC) };
        if self.is_closed.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let bytes = usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?;
        Ok(Some(Datagram { bytes, sender: control.sender() }))
    }

    /// Ends all waiting, now and from now on.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let _ = shutdown(&self.socket, Shutdown::Both); // It is a socket, so there is nothing that could fail.
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // A stale one would be replaced anyway.
    }
}

/// `CMSG_SPACE(sizeof(struct ucred))`.
const CREDENTIALS_SPACE: usize = 32;

/// What comes beside a message: a `cmsghdr` of 16 bytes, and behind it a `ucred`, which begins with the process.
#[repr(C, align(8))]
struct Control([u8; CREDENTIALS_SPACE]);

impl Control {
    fn sender(&self) -> Option<i32> {
        let word = |at: usize| {
            let bytes = self.0.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            bytes.map(i32::from_ne_bytes)
        };
        let is_credentials = word(8) == Some(libc::SOL_SOCKET) && word(12) == Some(libc::SCM_CREDENTIALS);
        word(16).filter(|pid| is_credentials && *pid > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixDatagram;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    fn open_files() -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_message_comes_whole_and_with_its_sender() {
        // The folder of one test: crates that make temporary ones are not needed for more.
        let path = std::env::temp_dir().join(format!("dormouse-test-datagrams-{}", std::process::id()));
        fs::write(&path, "what was there").unwrap();
        let datagrams = Datagrams::listen(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        sender.send(b"hello").unwrap();
        sender.send(b"").unwrap();
        let mut room = [0; 4];
        let us = Some(std::process::id() as i32);
        let heard = datagrams.receive(&mut room).unwrap();
        assert_eq!((heard, &room), (Some(Datagram { bytes: 4, sender: us }), b"hell"));
        assert_eq!(datagrams.receive(&mut room).unwrap(), Some(Datagram { bytes: 0, sender: us }));
        send_descriptor(&sender);
        let before = open_files();
        assert_eq!(datagrams.receive(&mut room).unwrap(), Some(Datagram { bytes: 1, sender: us }));
        assert_eq!(open_files(), before, "a descriptor came in");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| datagrams.receive(&mut [0; 4]).unwrap());
            datagrams.close();
            assert_eq!(waiting.join().unwrap(), None);
        });
        assert_eq!(datagrams.receive(&mut room).unwrap(), None);
        drop(datagrams);
        assert!(!path.exists() && sender.send(b"late").is_err());
    }

    fn send_descriptor(sender: &UnixDatagram) {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        let descriptors = [sender.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(sender, &[IoSlice::new(b".")], &mut ancillary, SendFlags::empty()).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let path = std::env::temp_dir().join("x".repeat(108));
        assert!(Datagrams::listen(&path).is_err());
    }
}
