//! `vfork`: a thread that waits for the child it has made by `vfork`. It stops for nobody until the child is done, as
//! a thread in the middle of disk I/O does.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::thread;

use crate::control::{Control, unknown};
use crate::raw::{self, call, pipe};

/// Says `ready` when the thread waits. `release` lets the child end, and says that the thread has gone on.
pub(crate) fn run(mut control: Control) -> io::Result<()> {
    let (reader, writer) = pipe()?;
    let line = writer.as_raw_fd();
    let mut writer = Some(writer);
    let mut waiting = Some(thread::Builder::new().name("vfork".to_owned()).spawn(move || {
        // SAFETY: without `CLONE_VM` the child has memory of its own and leaves by `_exit`, as after `fork`.
        let made =
            unsafe { call(libc::SYS_clone, [(libc::CLONE_VFORK | libc::SIGCHLD) as usize, 0, 0, 0, 0, 0]) };
        if made? == 0 {
            // SAFETY: this runs in the child, whose copy of the descriptor nothing uses.
            unsafe { libc::close(line) };
            let _ = File::from(reader).read(&mut [0u8; 1]); // Returns when the other end is closed.
            // SAFETY: `_exit` takes a number and does not return.
            unsafe { libc::_exit(0) }
        }
        io::Result::Ok(())
    })?);
    raw::until("vfork", || is_uninterruptible("vfork"))?;
    control.serve("vfork", |verb, _| match verb {
        "release" => {
            drop(writer.take());
            let thread = waiting.take().ok_or_else(|| io::Error::other("released before"))?;
            thread.join().map_err(|_| io::Error::other("the thread died"))??;
            Ok("went on".to_owned())
        }
        verb => Err(unknown(verb)),
    })
}

/// Whether our thread of this name is in state D.
fn is_uninterruptible(name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc/self/task") else { return false };
    let stats = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.into_iter().any(|stat| stat.contains(&format!("({name}) D ")))
}
