//! A disk in memory that forgets what was not synced, can be held up, and can fail.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use redb::{Builder, StorageBackend};

use crate::store::{Opener, prepare};

/// Cloning gives another handle to the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: Vec<u8>,
    synced: Vec<u8>,
    syncs: usize,
    is_held: bool,
    fails: bool,
}

impl Disk {
    pub(crate) fn opener(&self) -> Opener {
        let disk = self.clone();
        Arc::new(move || {
            let is_new = disk.state().written.is_empty();
            let refused = |error: redb::DatabaseError| crate::OpenError::Damaged {
                path: "memory".into(),
                why: error.to_string(),
            };
            let database = Builder::new()
                .set_check_integrity_on_open(true)
                .create_with_backend(disk.clone())
                .map_err(refused)?;
            if is_new {
                prepare(&database).unwrap();
            }
            Ok(database)
        })
    }

    /// What is there after the power went: what was synced.
    pub(crate) fn after_power_loss(&self) -> Disk {
        let synced = self.state().synced.clone();
        let state = State { written: synced.clone(), synced, ..State::default() };
        Disk(Arc::new(Inner { state: Mutex::new(state), ..Inner::default() }))
    }

    /// What is there after the process was killed: what was written.
    pub(crate) fn after_kill(&self) -> Disk {
        let written = self.state().written.clone();
        let state = State { synced: written.clone(), written, ..State::default() };
        Disk(Arc::new(Inner { state: Mutex::new(state), ..Inner::default() }))
    }

    pub(crate) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Syncs wait from now on.
    pub(crate) fn hold(&self) {
        self.state().is_held = true;
    }

    pub(crate) fn release(&self) {
        self.state().is_held = false;
        self.0.released.notify_all();
    }

    /// Whether writes fail from now on.
    pub(crate) fn fail(&self, fails: bool) {
        self.state().fails = fails;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.state().written[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        state.written.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.released.wait_while(self.state(), |state| state.is_held).unwrap();
        state.check()?;
        state.syncs += 1;
        state.synced = state.written.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        let start = offset as usize;
        state.written[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
