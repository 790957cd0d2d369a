//! How a sandbox reaches its Runtime API, and is reached by it: on the machine's loopback interface, or on its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::serve::Listener;
use node::{Peer, Sockets, Witness, listen_anywhere};
use rustix::net::Shutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, MutexGuard};

use crate::hands::SandboxHands;

/// Where the Runtime API listens in a network of its own; Lambda's.
pub(crate) const INSIDE_PORT: u16 = 9001;

/// How often it is looked whether somebody has accepted a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(2);

/// Both ways between a sandbox and its Runtime API.
pub(crate) struct Link {
    pub(super) listener: TcpListener,
    way: Way,
    /// All others are kept out, in both directions.
    owner: Option<Arc<dyn SandboxHands>>,
    /// Tells who they are, where they do not come over the machine's network.
    witness: Option<Witness>,
}

impl Link {
    /// On the machine's loopback interface: the port has five digits.
    pub(crate) fn of_machine() -> io::Result<Link> {
        let listener = listen_anywhere()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Link { listener, way: Way::Machine, owner: None, witness: None })
    }

    /// In the network of a cell. Whoever else is there is let in, unless it is `only_for` one.
    pub(crate) fn inside(sockets: Sockets) -> io::Result<Link> {
        sockets.listener.set_nonblocking(true)?;
        let way = Way::Cell(Arc::new(Mutex::new(sockets.way_in)));
        let listener = TcpListener::from_std(sockets.listener)?;
        Ok(Link { listener, way, owner: None, witness: Some(sockets.witness) })
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Sends all others away, and sends them nothing.
    pub(crate) fn only_for(self, sandbox: &Arc<dyn SandboxHands>) -> Link {
        Link { owner: Some(Arc::clone(sandbox)), ..self }
    }

    pub(super) fn split(self) -> (Visitors, WayIn) {
        let Link { listener, way, owner: sandbox, witness } = self;
        let owner = sandbox.map(|sandbox| Arc::new(Owner { sandbox, witness }));
        let visitors = Visitors { listener, owner: owner.clone(), had_strangers: false };
        (visitors, WayIn { way, owner, had_strangers: Arc::default() })
    }
}

/// Tells one sandbox from others that are in the same network.
struct Owner {
    sandbox: Arc<dyn SandboxHands>,
    witness: Option<Witness>,
}

impl Owner {
    /// Who has the socket at `from` that is connected to `to`. Microseconds, and nothing of it waits for a disk.
    fn peer(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Peer> {
        match &self.witness {
            Some(witness) => self.sandbox.peer(witness, from, to),
            None => self.sandbox.peer(&Witness::new()?, from, to),
        }
    }

    /// Whether it is the sandbox that has accepted what we have connected. Until somebody has, the kernel does not say
    /// who will: the caller sets a time.
    async fn has_accepted(&self, stream: &TcpStream) -> io::Result<bool> {
        let (them, us) = (stream.peer_addr()?, stream.local_addr()?);
        loop {
            match self.peer(them, us)? {
                Peer::Own => return Ok(true),
                Peer::Stranger => return Ok(false),
                Peer::Nobody => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// Those who come to the Runtime API of one sandbox.
pub(super) struct Visitors {
    listener: TcpListener,
    owner: Option<Arc<Owner>>,
    had_strangers: bool,
}

impl Listener for Visitors {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let (stream, from) = Listener::accept(&mut self.listener).await;
            match self.admits(&stream, from) {
                Ok(true) => return (stream, from),
                Ok(false) => self.warn(from, "it is not of this sandbox"),
                Err(error) => self.warn(from, &error.to_string()),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Visitors {
    /// Asked once for each connection.
    fn admits(&self, stream: &TcpStream, from: SocketAddr) -> io::Result<bool> {
        let Some(owner) = &self.owner else { return Ok(true) };
        Ok(owner.peer(from, stream.local_addr()?)? == Peer::Own)
    }

    /// Once: who comes again and again is not to fill the log.
    fn warn(&mut self, from: SocketAddr, why: &str) {
        if let (false, Some(owner)) = (self.had_strangers, &self.owner) {
            let sandbox = owner.sandbox.id();
            tracing::warn!(%sandbox, %from, why, "a stranger at its Runtime API was sent away");
        }
        self.had_strangers = true;
    }
}

/// How the sandbox is reached, and nobody else.
#[derive(Clone, Default)]
pub(super) struct WayIn {
    way: Way,
    owner: Option<Arc<Owner>>,
    had_strangers: Arc<AtomicBool>,
}

#[derive(Clone, Default)]
enum Way {
    /// At the machine's loopback address.
    #[default]
    Machine,
    /// By this socket, which is in the network of its cell: one connection at a time.
    Cell(Arc<Mutex<OwnedFd>>),
}

/// The turn of one who wants to reach the sandbox. What it has connected is closed with it.
pub(super) struct Turn<'a> {
    way_in: &'a WayIn,
    socket: Option<MutexGuard<'a, OwnedFd>>,
}

impl WayIn {
    /// Waits until no other has the turn.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let socket = match &self.way {
            Way::Machine => None,
            Way::Cell(socket) => Some(socket.lock().await),
        };
        Turn { way_in: self, socket }
    }

    /// Once, as with visitors.
    fn warn(&self, owner: &Owner, port: u16) {
        if !self.had_strangers.swap(true, Ordering::Relaxed) {
            let sandbox = owner.sandbox.id();
            tracing::warn!(%sandbox, port, "its telemetry waits: another process listens where its extension should");
        }
    }
}

impl Turn<'_> {
    /// Connects to the sandbox' loopback address. An error, too: another listens there.
    pub(super) async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let stream = self.connect_to_whoever(port).await?;
        if let Some(owner) = &self.way_in.owner
            && !owner.has_accepted(&stream).await?
        {
            self.way_in.warn(owner, port);
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(stream)
    }

    async fn connect_to_whoever(&self, port: u16) -> io::Result<TcpStream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Some(socket) = &self.socket else { return TcpStream::connect(address).await };
        rustix::net::connect_unspec(&**socket)?; // Whatever it was connected to before.
        let again: std::net::TcpStream = socket.try_clone()?.into();
        again.set_nonblocking(true)?;
        TcpSocket::from_std_stream(again).connect(address).await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // An error: it is not connected. Closing the stream that was made of it does not end the connection.
            let _ = rustix::net::shutdown(&**socket, Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn one_socket_connects_again_and_again_and_each_connection_ends() {
        let socket: OwnedFd = {
            use rustix::net::{AddressFamily, SocketType, socket};
            socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
        };
        let way_in = WayIn { way: Way::Cell(Arc::new(Mutex::new(socket))), ..WayIn::default() };
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        for listener in listeners.iter().cycle().take(5) {
            let turn = way_in.turn().await;
            let mut stream = turn.connect(listener.local_addr().unwrap().port()).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            drop((stream, turn));
            let mut heard = Vec::new();
            other.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"x");
        }
        drop(listeners);
        assert!(way_in.turn().await.connect(1).await.is_err());
    }
}
