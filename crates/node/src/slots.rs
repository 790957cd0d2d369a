//! A bound on how many sandboxes fall asleep at once, so that the machine stays free for requests.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Counts free places.
pub(crate) struct Slots {
    free: Mutex<usize>,
    changed: Condvar,
}

/// A place that is given back on drop.
pub(crate) struct Slot<'a>(&'a Slots);

impl Slots {
    pub(crate) fn new(count: usize) -> Slots {
        Slots { free: Mutex::new(count.max(1)), changed: Condvar::new() }
    }

    /// Waits for a place, or until `give_up` says so (`None`); it is asked whenever something has changed.
    pub(crate) fn acquire(&self, give_up: impl Fn() -> bool) -> Option<Slot<'_>> {
        let mut free = self.lock();
        loop {
            if give_up() {
                if *free > 0 {
                    self.changed.notify_one(); // Perhaps it was we who were told of it.
                }
                return None;
            }
            if *free > 0 {
                *free -= 1;
                return Some(Slot(self));
            }
            free = self.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A place, if one is free.
    pub(crate) fn try_acquire(&self) -> Option<Slot<'_>> {
        let mut free = self.lock();
        *free = free.checked_sub(1)?;
        Some(Slot(self))
    }

    /// Has everyone who waits ask again whether to give up.
    pub(crate) fn stir(&self) {
        let _free = self.lock(); // So that nobody is between asking and waiting.
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.lock() += 1;
        self.0.changed.notify_one();
    }
}
