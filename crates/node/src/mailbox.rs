//! Commands to a driver, which waits for them together with other descriptors.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// A queue whose descriptor is readable while something may be in it. Bounded by its users: a sandbox has at most
/// one sleep, and a wake for each caller that waits for it, under way.
pub(crate) struct Mailbox<T> {
    queue: Mutex<VecDeque<T>>,
    bell: OwnedFd,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> io::Result<Mailbox<T>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox { queue: Mutex::new(VecDeque::new()), bell })
    }

    pub(crate) fn post(&self, item: T) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(item);
        // EAGAIN: the counter is full, so the bell rings already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// The oldest item. Silences the bell when there is none.
    pub(crate) fn take(&self) -> Option<T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_empty() {
            let _ = rustix::io::read(&self.bell, &mut [0u8; 8]); // EAGAIN: it was silent.
        }
        queue.pop_front()
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
