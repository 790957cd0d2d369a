//! Waits for other threads of the same process. The kernel finds them by (address space, address).

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{FAR_SECS, Wait};
use crate::raw::call;

pub(super) fn futex() -> io::Result<Wait> {
    futex_with(None)
}

pub(super) fn futex_timed() -> io::Result<Wait> {
    futex_with(Some(libc::timespec { tv_sec: FAR_SECS, tv_nsec: 0 }))
}

fn futex_with(timeout: Option<libc::timespec>) -> io::Result<Wait> {
    let word = Arc::new(AtomicU32::new(0));
    let theirs = Arc::clone(&word);
    let wait = Box::new(move || {
        let operation = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
        let until = timeout.as_ref().map_or(0, |timeout| std::ptr::from_ref(timeout) as usize);
        // SAFETY: the word and the timeout are ours for the length of the call.
        let value = unsafe { call(libc::SYS_futex, [theirs.as_ptr() as usize, operation, 0, until, 0, 0]) }?;
        Ok(format!("{value}:{}", theirs.load(SeqCst)))
    });
    let release = Box::new(move |_| {
        word.store(1, SeqCst);
        let operation = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
        // SAFETY: the word is ours for the length of the call.
        unsafe { call(libc::SYS_futex, [word.as_ptr() as usize, operation, 1, 0, 0, 0]) }.map(drop)
    });
    Ok(Wait { number: libc::SYS_futex, call: wait, release })
}

pub(super) fn condvar() -> io::Result<Wait> {
    condvar_with(None)
}

pub(super) fn condvar_timed() -> io::Result<Wait> {
    condvar_with(Some(Duration::from_secs(FAR_SECS as u64)))
}

fn condvar_with(timeout: Option<Duration>) -> io::Result<Wait> {
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = Arc::clone(&pair);
    let call = Box::new(move || {
        let (lock, condvar) = &*theirs;
        let guard = lock.lock().map_err(|_| poisoned())?;
        let set = match timeout {
            None => *condvar.wait_while(guard, |set| !*set).map_err(|_| poisoned())?,
            Some(timeout) => {
                let waited = condvar.wait_timeout_while(guard, timeout, |set| !*set);
                *waited.map_err(|_| poisoned())?.0
            }
        };
        Ok(format!("set:{set}"))
    });
    let release = Box::new(move |_| {
        *pair.0.lock().map_err(|_| poisoned())? = true;
        pair.1.notify_all();
        Ok(())
    });
    Ok(Wait { number: libc::SYS_futex, call, release })
}

fn poisoned() -> io::Error {
    io::Error::other("the lock is poisoned")
}
