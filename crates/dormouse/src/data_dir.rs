//! Where a server keeps its socket and what must outlive it, unless `--data` says otherwise.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The socket of the server's own API.
const SOCKET: &str = "dormouse.sock";

/// The directory that all commands take when none is named.
pub(crate) fn default() -> PathBuf {
    choose(std::env::var_os("XDG_RUNTIME_DIR"), rustix::process::geteuid().as_raw())
}

/// The socket in it.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join(SOCKET)
}

fn choose(runtime_dir: Option<OsString>, uid: u32) -> PathBuf {
    match runtime_dir.filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("dormouse"),
        None if uid == 0 => PathBuf::from("/run/dormouse"),
        None => PathBuf::from(format!("/tmp/dormouse-{uid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(runtime_dir: Option<&str>, uid: u32, expected: &str) {
        assert_eq!(choose(runtime_dir.map(OsString::from), uid), Path::new(expected));
    }

    #[test]
    fn the_session_goes_first_then_root_then_the_user() {
        check(Some("/run/user/1000"), 1000, "/run/user/1000/dormouse");
        check(None, 0, "/run/dormouse");
        check(Some(""), 1000, "/tmp/dormouse-1000");
    }
}
