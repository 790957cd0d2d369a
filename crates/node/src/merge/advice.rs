//! Hears what programs advise: a socket in the data directory, and one thread that finds out whose each message is.
//!
//! All sandboxes speak to one socket, so one that floods it has others' advice lost, and nothing more: advice is a hint.
//! Nothing is there until the first sandbox starts that may advise.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ::advice::{BYTES_MAX, Message};
use linux::datagrams::{Datagram, Datagrams};

use super::board::Full;
use crate::family;
use crate::node::Shared;
use crate::sandbox::Inner;

/// The socket, in the data directory.
const FILE: &str = "merge.sock";

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdviceCounts {
    /// Noted at a sandbox.
    pub heard: u64,
    /// Not understood.
    pub malformed: u64,
    /// Of a process of no sandbox that may advise.
    pub strangers: u64,
    /// Of a sandbox that had advised as much as is remembered.
    pub full: u64,
}

/// The agent's ear.
#[derive(Default)]
pub(crate) struct Desk {
    listener: Mutex<Option<Listener>>,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    heard: AtomicU64,
    malformed: AtomicU64,
    strangers: AtomicU64,
    full: AtomicU64,
}

/// Ends its thread when it is dropped.
struct Listener(Arc<Datagrams>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Desk {
    /// Where it listens, from the first call on.
    pub(crate) fn socket(&self, node: &Arc<Shared>) -> io::Result<PathBuf> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*listener {
            return Ok(listener.0.path().to_owned());
        }
        let path = node.config.data_dir.canonicalize()?.join(FILE);
        let datagrams = Arc::new(Datagrams::listen(&path)?);
        let (ears, weak) = (Arc::clone(&datagrams), Arc::downgrade(node));
        // Its end closes the socket, should there be no thread.
        let made = Listener(datagrams);
        std::thread::Builder::new().name("advice".to_owned()).spawn(move || listen(&ears, &weak))?;
        *listener = Some(made);
        Ok(path)
    }

    pub(crate) fn counts(&self) -> AdviceCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Tally { heard, malformed, strangers, full } = &self.tally;
        AdviceCounts {
            heard: count(heard),
            malformed: count(malformed),
            strangers: count(strangers),
            full: count(full),
        }
    }
}

fn listen(ears: &Datagrams, node: &Weak<Shared>) {
    let mut room = [0; BYTES_MAX + 1]; // What is too long must not look like what is not.
    loop {
        match ears.receive(&mut room) {
            Ok(Some(datagram)) => {
                let Some(node) = node.upgrade() else { return };
                let said = room.get(..datagram.bytes).unwrap_or_default();
                hear(&node, datagram, said).fetch_add(1, Ordering::Relaxed);
            }
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::error!(%error, "no advice is heard any more: nothing more is merged on it");
                return;
            }
        }
    }
}

/// Notes one message; where it is to be counted.
fn hear<'a>(node: &'a Shared, datagram: Datagram, said: &[u8]) -> &'a AtomicU64 {
    let tally = &node.advice.tally;
    let message = match Message::decode(said) {
        Ok(message) => message,
        Err(error) => {
            tracing::debug!(%error, ?datagram, "advice was refused");
            return &tally.malformed;
        }
    };
    let whose = datagram.sender.and_then(|pid| Some((pid, sandbox_of(node, pid)?)));
    let Some((pid, sandbox)) = whose else {
        tracing::debug!(?datagram, "advice of a stranger was refused");
        return &tally.strangers;
    };
    match sandbox.advice.as_ref().map(|board| board.hear(pid, &message)) {
        None => &tally.strangers,
        Some(Ok(())) => &tally.heard,
        Some(Err(Full)) => &tally.full,
    }
}

/// The sandbox that a process is of.
fn sandbox_of(node: &Shared, pid: i32) -> Option<Arc<Inner>> {
    if node.hierarchy.can_freeze() {
        return node.sandboxes().get(&family::in_cgroup(pid, &node.instance)?).cloned();
    }
    let may_advise: Vec<_> =
        node.sandboxes().values().filter(|sandbox| sandbox.advice.is_some()).cloned().collect();
    may_advise.into_iter().find(|sandbox| sandbox.family.processes().contains(&pid))
}
