//! The network of a cell, and what is handed out of it: sockets stay in the network in which they were made, whoever
//! uses them. So the node can listen in a cell, and reach what listens there, without ever entering it.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde::{Deserialize, Serialize};

use super::at;
use crate::socket_owner::Witness;
use crate::sys;

/// Where `ip netns` keeps the namespaces that it has given names.
const NAMED: &str = "/run/netns";

/// What `statfs` says of a namespace that was mounted: `NSFS_MAGIC`.
const NAMESPACE_MAGIC: i64 = 0x6e73_6673;

/// Before the name of a namespace, in settings.
const PREFIX: &str = "netns:";

/// Longest name of a file.
const NAME_MAX: usize = 255;

/// How often another port is tried, to get one of five digits. The kernel's range starts at 32768, unless somebody
/// changed it.
const PORT_TRIES_MAX: usize = 16;

/// Which network a cell has. As text: `none`, `host`, `netns:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Network {
    /// One of its own, that leads nowhere: a loopback interface.
    None,
    /// That of the machine.
    Host,
    /// One that the operator made, for all cells that are to have it.
    Named(NetworkName),
}

/// The name of a network namespace: a file of `/run/netns`, and of no other folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkName(String);

/// It is no network.
#[derive(Debug, thiserror::Error)]
pub enum InvalidNetwork {
    /// None of the words.
    #[error("{0:?} is no network: there are `none`, `host` and `netns:NAME`")]
    Unknown(String),
    /// It would be a file elsewhere.
    #[error(
        "{0:?} cannot name a network namespace: it takes a name as in `ip netns add NAME`, of at most 255 letters, \
         digits, `_`, `-` and `.`, that does not begin with `.` or `-`, and no path"
    )]
    Name(String),
}

/// No cell can have this network here.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Only root may.
    #[error(
        "netns:{0} is for servers that run as root: nobody else may put a process into a network namespace. Run as root, \
         or take `none` or `host`"
    )]
    NotRoot(String),
    /// Nobody made it.
    #[error("there is no network namespace {0}: make it by `ip netns add {0}` (it is then /run/netns/{0})")]
    Missing(String),
    /// The file is there, and nothing is mounted on it.
    #[error(
        "/run/netns/{0} is a file, and no network namespace any more: make it again by `ip netns delete {0}` and \
         `ip netns add {0}`"
    )]
    Stale(String),
    /// It cannot be looked at.
    #[error("open /run/netns/{name}")]
    Open {
        /// The namespace.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Where somebody outside listens for a sandbox, on the loopback interface of its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Port {
    /// Here.
    At(u16),
    /// At any free one of five digits, as others are in the network, too. The builder is the first to know it:
    /// it puts address and port into the variable of this name.
    Free {
        /// A variable of the program's environment.
        variable: String,
    },
}

/// Sockets in the network of a cell, for who serves it from outside.
#[derive(Debug)]
pub struct Sockets {
    /// Listens on the loopback interface, at the port that was asked for.
    pub listener: TcpListener,
    /// A TCP socket, not connected: whoever connects it reaches the cell.
    pub way_in: OwnedFd,
    /// Knows whose the connections of this network are.
    pub witness: Witness,
}

impl Network {
    /// Whether it is another than the machine's.
    pub fn is_own(&self) -> bool {
        *self != Network::Host
    }

    /// Whether other sandboxes are there, too, or processes of the machine.
    pub fn is_shared(&self) -> bool {
        *self != Network::None
    }

    /// Whether a cell can have it here, as far as that shows without building one. Reads a directory.
    pub fn check(&self) -> Result<(), NetworkError> {
        match self {
            Network::None | Network::Host => Ok(()),
            Network::Named(name) => name.open().map(drop),
        }
    }
}

impl NetworkName {
    fn open(&self) -> Result<File, NetworkError> {
        if !rustix::process::geteuid().is_root() {
            return Err(NetworkError::NotRoot(self.0.clone()));
        }
        let path = Path::new(NAMED).join(&self.0);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => NetworkError::Missing(self.0.clone()),
            _ => NetworkError::Open { name: self.0.clone(), source },
        };
        let file = File::open(path).map_err(failed)?;
        let found = rustix::fs::fstatfs(&file).map_err(|error| failed(error.into()))?;
        match found.f_type == NAMESPACE_MAGIC {
            true => Ok(file),
            false => Err(NetworkError::Stale(self.0.clone())),
        }
    }

    /// What programs of this namespace find in `/etc` instead of the machine's, as `ip netns exec` has it.
    pub(super) fn setting(&self, name: &str) -> Option<PathBuf> {
        let path = Path::new("/etc/netns").join(&self.0).join(name);
        path.exists().then_some(path)
    }
}

/// The names of those that are there, for people: the first few.
pub fn named_networks() -> Vec<String> {
    const SHOWN_MAX: usize = 8;
    let files = std::fs::read_dir(NAMED).into_iter().flatten();
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let there = names.filter(|name| name.parse().is_ok_and(|name: NetworkName| name.open().is_ok()));
    let mut shown: Vec<String> = there.take(SHOWN_MAX).collect();
    shown.sort();
    shown
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Network, InvalidNetwork> {
        match (text, text.strip_prefix(PREFIX)) {
            ("none", _) => Ok(Network::None),
            ("host", _) => Ok(Network::Host),
            (_, Some(name)) => name.parse().map(Network::Named),
            (_, None) => Err(InvalidNetwork::Unknown(text.to_owned())),
        }
    }
}

impl FromStr for NetworkName {
    type Err = InvalidNetwork;

    fn from_str(name: &str) -> Result<NetworkName, InvalidNetwork> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let is_name = (1..=NAME_MAX).contains(&name.len()) && !name.starts_with(['.', '-']);
        match is_name && name.chars().all(fits) {
            true => Ok(NetworkName(name.to_owned())),
            false => Err(InvalidNetwork::Name(name.to_owned())),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::None => f.write_str("none"),
            Network::Host => f.write_str("host"),
            Network::Named(name) => write!(f, "{PREFIX}{}", name.0),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Network, InvalidNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

/// Goes from the network of the machine into that of the cell, and sees to its loopback interface.
pub(super) fn enter(network: &Network) -> io::Result<()> {
    match network {
        Network::Host => return Ok(()),
        Network::None => super::beside::unshare(libc::CLONE_NEWNET).map_err(at("make a network"))?,
        Network::Named(name) => {
            let namespace = name.open().map_err(io::Error::other)?;
            // SAFETY: no pointers; we are the only thread.
            let joined = sys::check(i64::from(unsafe {
                libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) // Refused if it is a namespace of another kind.
            }));
            joined.map(drop).map_err(at(format!("join the network namespace {}", name.0)))?;
        }
    }
    set_up()
}

/// Sets the loopback interface up. Where it is up nothing is touched: others are there.
fn set_up() -> io::Result<()> {
    let socket = stream()?;
    // SAFETY: a structure of numbers, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, letter) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *letter as libc::c_char;
    }
    let failed = || at("set the loopback interface up");
    sys::ioctl(socket.as_fd(), libc::SIOCGIFFLAGS, &mut request).map_err(failed())?;
    // SAFETY: the kernel has just filled this field of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    if flags & libc::IFF_UP as libc::c_short != 0 {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    sys::ioctl(socket.as_fd(), libc::SIOCSIFFLAGS, &mut request).map(drop).map_err(failed())
}

/// Makes them in the network of the calling process.
pub(super) fn sockets(port: &Port) -> io::Result<Sockets> {
    let listener = match port {
        Port::At(port) => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
            listener.map_err(at(format!("listen at port {port}")))?
        }
        Port::Free { .. } => listen_anywhere().map_err(at("listen at 127.0.0.1"))?,
    };
    Ok(Sockets { listener, way_in: stream()?, witness: Witness::new()? })
}

/// Listens at a free port of the loopback interface, one of five digits: the environments of all sandboxes are to be
/// equally long.
pub fn listen_anywhere() -> io::Result<TcpListener> {
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    for _ in 0..PORT_TRIES_MAX {
        if listener.local_addr()?.port() >= 10_000 {
            break;
        }
        listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    }
    Ok(listener)
}

fn stream() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_they_are_written_and_no_name_is_a_path() {
        for text in ["none", "host", "netns:blue", "netns:a.b_c-1"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for name in ["", ".", "..", "../x", "a/b", "/run/netns/x", "-x", "a b", "a\0", &"x".repeat(256)] {
            let error = format!("{PREFIX}{name}").parse::<Network>().unwrap_err();
            assert!(error.to_string().contains("ip netns add NAME"), "{name}: {error}");
        }
        for text in ["", "NONE", "netns", "blue"] {
            assert!(matches!(text.parse::<Network>(), Err(InvalidNetwork::Unknown(_))), "{text}");
        }
    }

    #[test]
    fn a_namespace_that_is_not_there_is_named_with_what_makes_it() {
        let error = "netns:dormouse-nowhere".parse::<Network>().unwrap().check().unwrap_err().to_string();
        let expected = match rustix::process::geteuid().is_root() {
            true => "ip netns add dormouse-nowhere",
            false => "root",
        };
        assert!(error.contains(expected), "{error}");
    }
}
