//! The agent, as a program sees it: somebody who may listen at a socket.

use std::ffi::CStr;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, sendto, socket_with,
};

/// Names the socket. Whoever starts the program sets it.
const VARIABLE: &CStr = c"DORMOUSE_MERGE_SOCKET";

/// Where the agent listens. Set while the library is loaded, and only read from then on: a copy that was made by `fork` in
/// the middle of another thread's first call would else wait for that thread for ever.
static AGENT: OnceLock<SocketAddrUnix> = OnceLock::new();

/// Why the agent was not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untold {
    /// This program was not given an agent.
    Off,
    /// Nobody listens where one should.
    NoAgent,
    /// It listens, but has no room for more now, or this process has none for a socket.
    Busy,
}

/// Run by the dynamic loader: the environment is read at a moment when hardly anybody changes it.
#[cfg_attr(not(test), unsafe(link_section = ".init_array"))]
#[cfg_attr(not(test), used)]
#[cfg_attr(test, allow(dead_code))]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn learn() {
        // SAFETY: the name is a C string. Who changes the environment while another thread loads a library has to see to
        // it himself, as with everything that reads it.
        let value = unsafe { libc::getenv(VARIABLE.as_ptr()) };
        if value.is_null() {
            return;
        }
        // SAFETY: not null, so it is a C string, which lives until somebody changes the variable.
        let path = unsafe { CStr::from_ptr(value) };
        if let Some(agent) = address(path) {
            let _ = AGENT.set(agent); // Nobody else sets it.
        }
    }
    learn
};

/// Empty is as good as none; longer than an address can be is nowhere.
fn address(path: &CStr) -> Option<SocketAddrUnix> {
    if path.is_empty() { None } else { SocketAddrUnix::new(path).ok() }
}

/// Sends one datagram, or does not.
pub(crate) fn tell(message: &[u8]) -> Result<(), Untold> {
    let agent = AGENT.get().ok_or(Untold::Off)?;
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    open().and_then(|socket| sendto(&socket, message, flags, agent)).map(drop).map_err(meaning)
}

/// Whether somebody listens now.
pub(crate) fn look() -> Result<(), Untold> {
    let agent = AGENT.get().ok_or(Untold::Off)?;
    open().and_then(|socket| connect(&socket, agent)).map_err(meaning)
}

fn open() -> rustix::io::Result<rustix::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
}

fn meaning(error: Errno) -> Untold {
    match error {
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::INTR => {
            Untold::Busy
        }
        _ => Untold::NoAgent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_that_fits() {
        assert!(address(c"").is_none());
        assert!(address(c"/run/agent").is_some());
        let long = std::ffi::CString::new("/a".repeat(100)).unwrap();
        assert!(address(&long).is_none());
    }

    #[test]
    fn who_has_no_room_is_there() {
        assert_eq!([Errno::AGAIN, Errno::MFILE].map(meaning), [Untold::Busy; 2]);
        assert_eq!([Errno::NOENT, Errno::CONNREFUSED, Errno::ACCESS].map(meaning), [Untold::NoAgent; 3]);
        assert_eq!((tell(b""), look()), (Err(Untold::Off), Err(Untold::Off)));
    }
}
