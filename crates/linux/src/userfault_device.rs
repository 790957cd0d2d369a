//! `/dev/userfaultfd`: userfaultfds of processes that may not make one themselves.
//!
//! The system call asks for CAP_SYS_PTRACE over the whole machine, which no sandbox should have. Of the device
//! (Linux 6.1) rights are asked at `open` alone; whoever holds its descriptor may then make userfaultfds of its own
//! memory. So we open it, and a stopped process gets the descriptor for the time of a few injected calls.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::inject::{InjectError, Vehicle};
use crate::process::Process;
use crate::sys;

const PATH: &str = "/dev/userfaultfd";

/// Its argument is flags, no pointer.
const USERFAULTFD_IOC_NEW: u64 = sys::ioc(sys::IOC_NONE, 0xaa, 0x00, 0);

/// Of a userfaultfd, however it is made. Faults inside system calls are to be served too.
const FLAGS: i32 = libc::O_CLOEXEC | libc::O_NONBLOCK;

/// The open device.
#[derive(Debug)]
pub struct UserfaultDevice {
    file: File,
}

impl UserfaultDevice {
    /// `NotFound`: this kernel has none. `PermissionDenied`: it is for others.
    pub fn open() -> io::Result<UserfaultDevice> {
        Ok(UserfaultDevice { file: File::options().read(true).write(true).open(PATH)? })
    }

    /// A userfaultfd of our own memory.
    pub fn create(&self) -> io::Result<OwnedFd> {
        sys::ioctl_number(self.file.as_fd(), USERFAULTFD_IOC_NEW, FLAGS).map(sys::own)
    }
}

/// A userfaultfd of our own memory by the system call.
pub fn create_by_call() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    sys::check(unsafe { libc::syscall(libc::SYS_userfaultfd, FLAGS) }).map(sys::own)
}

impl Vehicle<'_> {
    /// Has the process create a userfaultfd for its own memory; returns the descriptor's number in the process. It is
    /// closed when the thread is put back, unless it is to stay.
    ///
    /// By the system call where the process may; else by way of `device`.
    pub fn create_userfaultfd(&mut self, device: Option<&UserfaultDevice>) -> Result<i32, InjectError> {
        let flags = FLAGS as u64;
        // TRACEE: a descriptor that the program does not know; closed again, or kept so that faults wait.
        let called = self.call("userfaultfd", libc::SYS_userfaultfd, [flags, 0, 0, 0, 0, 0]);
        let fd = match (called, device) {
            (Err(InjectError::Refused { .. }), Some(device)) => {
                let device = self.lend(device)?;
                // TRACEE: as above.
                self.call("ioctl", libc::SYS_ioctl, [device as u64, USERFAULTFD_IOC_NEW, flags, 0, 0, 0])?
            }
            (called, _) => called?,
        };
        self.adopt(fd as i32);
        Ok(fd as i32)
    }

    /// Puts the device among the descriptors of the process until the thread is put back; its number there.
    fn lend(&mut self, device: &UserfaultDevice) -> Result<i32, InjectError> {
        if let Some(lent) = self.lent_device {
            return Ok(lent);
        }
        let [near, far] = self.socket_pair()?;
        let failed = |source| InjectError::Refused { what: "sendmsg", pid: self.pid(), source };
        Process::open(self.pid())
            .and_then(|process| process.get_fd(far))
            .and_then(|socket| send(&socket, &device.file))
            .map_err(failed)?;
        let lent = self.receive(near)?;
        self.close(near)?;
        self.close(far)?;
        self.lent_device = Some(lent);
        Ok(lent)
    }

    fn socket_pair(&mut self) -> Result<[i32; 2], InjectError> {
        let scratch = self.scratch()?;
        let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64;
        // TRACEE: two descriptors that the program does not know, closed again; their numbers go into our scratch pages.
        self.call("socketpair", libc::SYS_socketpair, [libc::AF_UNIX as u64, kind, 0, scratch, 0, 0])?;
        let pair = [self.scratch_word(0)? as u32 as i32, (self.scratch_word(0)? >> 32) as i32];
        pair.into_iter().for_each(|fd| self.adopt(fd));
        Ok(pair)
    }

    /// Has the process receive the descriptor that waits at its socket; its number there.
    fn receive(&mut self, socket: i32) -> Result<i32, InjectError> {
        // In the scratch pages: `struct msghdr` (7 words), `struct iovec` (2), the byte that is sent (1), and
        // `struct cmsghdr` (2) with the descriptor behind it (1).
        const VECTOR_AT: u64 = 7 * 8;
        const BYTE_AT: u64 = 9 * 8;
        const CONTROL_AT: u64 = 10 * 8;
        const CONTROL_BYTES: u64 = 3 * 8;
        const DESCRIPTOR_WORD: u64 = 12;
        let scratch = self.scratch()?;
        let header = [0, 0, scratch + VECTOR_AT, 1, scratch + CONTROL_AT, CONTROL_BYTES, 0];
        let vector = [scratch + BYTE_AT, 1];
        let none_yet = [0, 0, 0, u64::MAX];
        let words: Vec<u8> =
            header.iter().chain(&vector).chain(&none_yet).flat_map(|word| word.to_le_bytes()).collect();
        let pid = self.pid();
        // TRACEE: into our own scratch pages.
        self.memory().write(scratch, &words).map_err(|source| InjectError::Memory { pid, source })?;
        let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as u64;
        // TRACEE: the socket is ours; what is received goes into our scratch pages.
        self.call("recvmsg", libc::SYS_recvmsg, [socket as u64, scratch, flags, 0, 0, 0])?;
        let fd = self.scratch_word(DESCRIPTOR_WORD)? as u32 as i32;
        if fd < 0 {
            // As many files are open as may be.
            let source = io::Error::from_raw_os_error(libc::EMFILE);
            return Err(InjectError::Refused { what: "recvmsg", pid, source });
        }
        self.adopt(fd);
        Ok(fd)
    }

    fn scratch_word(&mut self, index: u64) -> Result<u64, InjectError> {
        let mut word = [0; 8];
        let (at, pid) = (self.scratch()? + 8 * index, self.pid());
        self.memory().read(at, &mut word).map_err(|source| InjectError::Memory { pid, source })?;
        Ok(u64::from_le_bytes(word))
    }
}

/// Sends a descriptor with one byte, for nothing is no message.
fn send(socket: &OwnedFd, file: &File) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    let file = [file.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&file));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(b".")], &mut ancillary, flags).map_err(io::Error::from)?;
    Ok(())
}
