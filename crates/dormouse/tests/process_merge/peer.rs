//! A process to be merged: `peer.py`, and the frames that its memory lies in.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::common::Ground;

/// The first pages are the same in all peers with the same first seed.
pub(crate) const COMMON_PAGES: usize = 512;

/// Those after them are in none but this.
pub(crate) const OWN_PAGES: usize = 512;

/// What `/proc/PID/pagemap` says of the frame of a page that is there.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// Dropping it kills it.
pub(crate) struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    address: u64,
}

impl Peer {
    pub(crate) fn start(ground: &Ground, common: u64, own: u64) -> Peer {
        let mut command = Command::new(testkit::python());
        command.args(["-c", include_str!("peer.py"), &format!("common {common}"), &format!("own {own}")]);
        command.current_dir(ground.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut peer = Peer { child, to, from, address: 0 };
        peer.address = peer.hear().parse().unwrap();
        peer
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.say(command);
        self.hear()
    }

    pub(crate) fn say(&mut self, command: &str) {
        writeln!(self.to, "{command}").unwrap();
    }

    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// The numbers of the frames that these pages lie in.
    #[track_caller]
    pub(crate) fn frames(&self, pages: Range<usize>) -> Vec<u64> {
        let map = File::open(format!("/proc/{}/pagemap", self.pid())).unwrap();
        let mut bytes = vec![0; pages.len() * 8];
        map.read_exact_at(&mut bytes, (self.address / 4096 + pages.start as u64) * 8).unwrap();
        let entries = bytes.as_chunks().0.iter().map(|entry| u64::from_le_bytes(*entry));
        entries
            .map(|entry| {
                assert!(entry & PRESENT != 0 && entry & FRAME != 0, "{entry:#x}");
                entry & FRAME
            })
            .collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
