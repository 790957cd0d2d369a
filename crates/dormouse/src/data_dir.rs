//! Where a server keeps what must outlive it, and where its socket is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The socket of the server's own API.
const SOCKET: &str = "dormouse.sock";

/// What the places are chosen by.
struct Session {
    is_root: bool,
    uid: u32,
    runtime_dir: Option<OsString>,
    state_home: Option<OsString>,
    home: Option<OsString>,
}

impl Session {
    fn now() -> Self {
        let uid = rustix::process::geteuid();
        let named = |variable| std::env::var_os(variable).filter(|dir| !dir.is_empty());
        Self {
            is_root: uid.is_root(),
            uid: uid.as_raw(),
            runtime_dir: named("XDG_RUNTIME_DIR"),
            state_home: named("XDG_STATE_HOME"),
            home: named("HOME"),
        }
    }

    /// Survives a reboot.
    fn data(&self) -> PathBuf {
        match (&self.state_home, &self.home) {
            _ if self.is_root => PathBuf::from("/var/lib/dormouse"),
            (Some(state), _) => Path::new(state).join("dormouse"),
            (None, Some(home)) => Path::new(home).join(".local/state/dormouse"),
            (None, None) => PathBuf::from(format!("/tmp/dormouse-{}", self.uid)),
        }
    }

    /// Does not, and is short: a socket's path has 107 bytes at most.
    fn runtime(&self) -> PathBuf {
        match &self.runtime_dir {
            Some(dir) => Path::new(dir).join("dormouse"),
            None if self.is_root => PathBuf::from("/run/dormouse"),
            None => PathBuf::from(format!("/tmp/dormouse-{}", self.uid)),
        }
    }

    fn socket(&self, data: &Path) -> PathBuf {
        if data == self.data() { self.runtime().join(SOCKET) } else { data.join(SOCKET) }
    }
}

/// The directory that all commands take when none is named.
pub(crate) fn default() -> PathBuf {
    Session::now().data()
}

/// The socket of a server: in its data directory if one was named, else where sockets are.
pub(crate) fn socket(data: &Path) -> PathBuf {
    Session::now().socket(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uid: u32, variables: [Option<&str>; 3], data: &str, socket: &str) {
        let [runtime_dir, state_home, home] = variables.map(|variable| variable.map(OsString::from));
        let session = Session { is_root: uid == 0, uid, runtime_dir, state_home, home };
        assert_eq!(session.data(), Path::new(data));
        assert_eq!(session.socket(&session.data()), Path::new(socket));
        assert_eq!(session.socket(Path::new("/x")), Path::new("/x/dormouse.sock"));
    }

    #[test]
    fn what_must_last_is_not_where_sockets_are() {
        check(0, [None, None, Some("/root")], "/var/lib/dormouse", "/run/dormouse/dormouse.sock");
        check(
            1000,
            [Some("/run/user/1000"), Some("/s"), Some("/home/me")],
            "/s/dormouse",
            "/run/user/1000/dormouse/dormouse.sock",
        );
        check(
            1000,
            [None, None, Some("/home/me")],
            "/home/me/.local/state/dormouse",
            "/tmp/dormouse-1000/dormouse.sock",
        );
        check(1000, [None, None, None], "/tmp/dormouse-1000", "/tmp/dormouse-1000/dormouse.sock");
    }
}
