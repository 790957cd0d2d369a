//! Ends the watch over the memory of a process that is whole again.

use std::io;
use std::time::{Duration, Instant};

use linux::maps::Flags;
use linux::userfault::Userfault;

/// Mappings that change between looking and letting go are looked at again so often.
const UNWATCH_TRIES_MAX: u32 = 20;

/// Who waits for us to read what he did goes on within microseconds of that.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// Ends the watch over all mappings of a process, which runs.
pub(crate) fn unwatch(pid: i32, userfault: &Userfault) -> io::Result<()> {
    loop {
        unregister_all(pid, userfault)?;
        // What a mapping did while we looked may have hidden it from us.
        if !settle(userfault)? {
            return Ok(());
        }
    }
}

/// Unregisters all mappings that are watched. They may change under our eyes.
fn unregister_all(pid: i32, userfault: &Userfault) -> io::Result<()> {
    for _ in 0..UNWATCH_TRIES_MAX {
        let mappings = match linux::maps::read(pid) {
            Err(_) if userfault.is_orphaned() => return Ok(()), // It died.
            mappings => mappings?,
        };
        let mut watched = mappings.iter().filter(|m| m.flags.any(&[Flags::USERFAULT_MISSING])).peekable();
        if watched.peek().is_none() {
            return Ok(());
        }
        for mapping in watched {
            match userfault.unregister(mapping.start, mapping.end) {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                    return Ok(());
                }
                _ => {} // It may have changed since: look again.
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "its mappings change faster than they can be let go"))
}

/// Nobody watches any more, but a thread that changed its memory just before may still wait for us to read of it,
/// without end and deaf to ptrace. Reads until none does. Whether one did.
fn settle(userfault: &Userfault) -> io::Result<bool> {
    let started = Instant::now();
    let mut events = Vec::new();
    let mut has_read = false;
    while userfault.is_waited_for() {
        has_read = true;
        userfault.events(&mut events)?;
        events.clear(); // All is back: nothing to follow. A child was made whole, and its watch ends here.
        if started.elapsed() > SETTLE_WITHIN {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a thread waits for us, and says not why"));
        }
        std::thread::yield_now();
    }
    Ok(has_read)
}
