//! Whose a connection is. The kernel is asked for the socket at the other end (`sock_diag(7)`): one system call to ask
//! and one to hear, however many sockets there are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// `SOCK_DIAG_BY_FAMILY`, in both directions.
const BY_FAMILY: u16 = 20;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

/// `NLMSG_ERROR`.
const ERROR: u16 = 2;

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// `struct inet_diag_req_v2` behind it.
const QUESTION_BYTES: usize = 56;

/// In `struct inet_diag_msg`: both ports, as in the question.
const PORTS_AT: usize = 4;
const USER_AT: usize = 64;
const INODE_AT: usize = 68;

/// Its size; attributes follow.
const ANSWER_BYTES: usize = 72;

/// Who has a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// The user who made it, as this machine knows him.
    pub user: u32,
    /// What `/proc/PID/fd` calls it: `socket:[INODE]`.
    pub inode: u32,
}

/// Knows whose the connections of one network are: that in which it was made, whoever asks it.
#[derive(Debug)]
pub struct Witness(Mutex<OwnedFd>);

impl Witness {
    /// In the network of the calling process.
    pub fn new() -> io::Result<Witness> {
        let flags = SocketFlags::CLOEXEC;
        let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG))?;
        Ok(Witness::from(kernel))
    }

    /// The owner of the TCP socket that is connected from `from` to `to`, both in this network and of one version of the
    /// protocol. `None`: there is none any more.
    pub fn of_connection(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Option<SocketOwner>> {
        // One at a time: else who asks could hear what another was told.
        let kernel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sendto(&*kernel, &question(from, to), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut said = [0; 4096];
        let (length, _) = rustix::io::retry_on_intr(|| recv(&*kernel, &mut said[..], RecvFlags::empty()))?;
        understand(said.get(..length).unwrap_or_default(), ports(from, to))
    }

    /// To be handed to another process.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<OwnedFd> for Witness {
    fn from(socket: OwnedFd) -> Witness {
        Witness(Mutex::new(socket))
    }
}

fn ports(from: SocketAddr, to: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (from.port().to_be_bytes(), to.port().to_be_bytes());
    [a, b, c, d]
}

/// An address as the kernel wants it: there is room for 16 bytes.
fn words_of(address: IpAddr) -> [u8; 16] {
    let mut words = [0; 16];
    match address {
        IpAddr::V4(address) => words[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => words = address.octets(),
    }
    words
}

fn question(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    const TCP: u8 = libc::IPPROTO_TCP as u8;
    let length = (HEADER_BYTES + QUESTION_BYTES) as u32;
    // What an IPv6 socket has connected to or accepted from an IPv4 address is found by that.
    let ends = [from, to].map(|end| end.ip().to_canonical());
    let family = if ends[0].is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut words = Vec::with_capacity(length as usize);
    words.extend(length.to_ne_bytes());
    words.extend([BY_FAMILY, REQUEST].map(u16::to_ne_bytes).concat());
    words.extend([0; 8]); // Sequence and sender: one answer comes, and it is the kernel's.
    words.extend([family as u8, TCP, 0, 0]);
    words.extend(u32::MAX.to_ne_bytes()); // In whatever state.
    words.extend(ports(from, to));
    ends.into_iter().for_each(|end| words.extend(words_of(end)));
    words.extend([0; 4]); // Any interface.
    words.extend([0xff; 8]); // Any cookie.
    words
}

/// Where no connection is found, the kernel looks for who listens at the first port: that one has no second. A socket
/// that its process has closed has no inode.
fn understand(said: &[u8], ports: [u8; 4]) -> io::Result<Option<SocketOwner>> {
    let odd =
        || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer about a socket is too short");
    let word = |at: usize| {
        let bytes = said.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        bytes.map(u32::from_ne_bytes).ok_or_else(odd)
    };
    if word(4)? as u16 == ERROR {
        let code = word(HEADER_BYTES)? as i32;
        return match -code {
            libc::ENOENT => Ok(None),
            code => Err(io::Error::from_raw_os_error(code)),
        };
    }
    if said.len() < HEADER_BYTES + ANSWER_BYTES {
        return Err(odd());
    }
    let is_it = said.get(HEADER_BYTES + PORTS_AT..).is_some_and(|rest| rest.starts_with(&ports));
    let owner = SocketOwner { user: word(HEADER_BYTES + USER_AT)?, inode: word(HEADER_BYTES + INODE_AT)? };
    Ok(Some(owner).filter(|owner| is_it && owner.inode != 0))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    /// Somebody who listens at the first address is connected to at the second.
    fn check(listen: &str, connect: &str) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(format!("{connect}:{port}")).unwrap();
        let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let witness = Witness::new().unwrap();
        let inode = |socket: &TcpStream| rustix::fs::fstat(socket.as_fd()).unwrap().st_ino as u32;
        let expected =
            |socket| SocketOwner { user: rustix::process::geteuid().as_raw(), inode: inode(socket) };
        assert_eq!(witness.of_connection(from, to).unwrap(), Some(expected(&client)), "{listen} {connect}");
        assert_eq!(
            witness.of_connection(to, from).unwrap(),
            None,
            "not the listener, and nobody has accepted"
        );
        let (server, seen) = listener.accept().unwrap();
        assert_eq!(witness.of_connection(to, from).unwrap(), Some(expected(&server)), "{listen} {connect}");
        let local = server.local_addr().unwrap();
        assert_eq!(witness.of_connection(seen, local).unwrap(), Some(expected(&client)), "{seen} {local}");
        drop(client);
        assert_eq!(witness.of_connection(from, to).unwrap(), None, "it has closed its end");
    }

    #[test]
    fn the_other_end_of_a_connection_is_found_and_no_other() {
        check("127.0.0.1:0", "127.0.0.1");
        if TcpListener::bind("[::1]:0").is_ok() {
            check("[::1]:0", "[::1]");
            check("[::]:0", "127.0.0.1");
        }
    }

    #[test]
    fn short_answers_are_errors() {
        for length in 0..HEADER_BYTES + ANSWER_BYTES {
            assert!(understand(&vec![0; length], [0; 4]).is_err(), "{length}");
        }
    }
}
