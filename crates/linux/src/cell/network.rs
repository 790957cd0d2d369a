//! The network of a cell, and what is handed out of it: sockets stay in the network in which they were made, whoever
//! uses them. So the node can listen in a cell, and reach what listens there, without ever entering it.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde::{Deserialize, Serialize};

use super::at;
use crate::sys;

/// Which network a cell has; from the least to the most that it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// One of its own, that leads nowhere: a loopback interface.
    None,
    /// That of the machine.
    Host,
}

/// Sockets in the network of a cell, for who serves it from outside.
#[derive(Debug)]
pub struct Sockets {
    /// Listens on the loopback interface, at the port that was asked for.
    pub listener: TcpListener,
    /// A TCP socket, not connected: whoever connects it reaches the cell.
    pub way_in: OwnedFd,
}

impl Network {
    /// Whether it is another than the machine's.
    pub fn is_own(self) -> bool {
        self != Network::Host
    }
}

/// In a new network: sets its loopback interface up.
pub(super) fn set_up() -> io::Result<()> {
    let socket = stream()?;
    // SAFETY: a structure of numbers, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, letter) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *letter as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    sys::ioctl(socket.as_fd(), libc::SIOCSIFFLAGS, &mut request)
        .map(drop)
        .map_err(at("set the loopback interface up"))
}

/// Makes them in the network of the calling process.
pub(super) fn sockets(port: u16) -> io::Result<Sockets> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    Ok(Sockets { listener: listener.map_err(at(format!("listen at port {port}")))?, way_in: stream()? })
}

fn stream() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}
