//! Processes of our user that are in no cell. A cell of an ordinary user has that user too, so that a connection of its
//! processes looks like one of any other.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::family::{all_processes, has_open};

/// Whether one of them has the socket open. Whoever is in another pid namespace than we are counts as in a cell. It is looked
/// for who is outside, and not for who is inside: what a process has sent to itself through a unix socket is open nowhere
/// until it is taken out, and what several pass round is where nobody looks. A function gets nobody outside to do that.
pub(crate) fn have_socket(inode: u32) -> bool {
    let (us, here) = (rustix::process::geteuid().as_raw(), namespace("self"));
    let mut pids = all_processes();
    pids.sort_unstable_by(|a, b| b.cmp(a)); // Who has just connected has mostly just been started.
    let is_ours = |pid: i32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|about| about.uid() == us);
    let is_outside = |pid: i32| here.is_some() && namespace(&pid.to_string()) == here;
    pids.into_iter().any(|pid| is_ours(pid) && is_outside(pid) && has_open(pid, inode))
}

/// `None`: it is gone, or does not let us see.
fn namespace(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_socket_that_is_open_outside_is_found_and_none_that_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(listener.as_fd()).unwrap().st_ino as u32;
        assert!(have_socket(inode));
        drop(listener);
        assert!(!have_socket(inode));
    }
}
