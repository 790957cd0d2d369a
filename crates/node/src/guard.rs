//! The guard: a small process that outlives the node by a moment, and kills the sandboxes of a node that died.
//!
//! While the node lives it holds one end of a socket and tells the guard what there is to clean up. When the node
//! dies, however it dies, the kernel closes the socket. The guard knows nothing of pages: sandboxes that sleep are
//! frozen, and their missing pages are poisoned or watched by a userfaultfd that is open in the sandbox itself; those
//! that run while they are filled wait at it. A child that a sandbox forks meanwhile has none; the guard holds it. So
//! nothing runs on wrong bytes before the guard has done its work.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use linux::ksm::Burst;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::family::Mark;

/// A guard that lives closes a descriptor within microseconds.
const CLOSED_WITHIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The longest message: a verb, a kind, and a path.
const MESSAGE_BYTES_MAX: usize = 8192;

/// What there is to clean up, in words, each with the descriptor that must stay open until then, if there is one.
type Things = BTreeMap<String, Option<OwnedFd>>;

/// The node's end: tells the guard what to clean up.
pub(crate) struct Guard {
    program: PathBuf,
    said: Mutex<Said>,
}

struct Said {
    /// Everything said so far, to say again to a new guard when one was killed.
    things: Things,
    /// The guard and the socket to it; `None` while there is none.
    process: Option<(Child, OwnedFd)>,
}

/// A descriptor that the guard has too. It lets go of it when this is dropped.
pub(crate) struct Entrusted {
    guard: Arc<Guard>,
    thing: String,
}

impl Drop for Entrusted {
    fn drop(&mut self) {
        self.guard.forget(&self.thing);
    }
}

impl Guard {
    /// Starts `PROGRAM guard`.
    pub(crate) fn start(program: &Path) -> io::Result<Guard> {
        let process = spawn(program)?;
        let said = Said { things: Things::new(), process: Some(process) };
        Ok(Guard { program: program.to_owned(), said: Mutex::new(said) })
    }

    /// Process id of the guard, while there is one.
    pub(crate) fn pid(&self) -> Option<i32> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.process.as_ref().map(|(child, _)| child.id() as i32)
    }

    /// When the node dies: kill everything in this cgroup, and remove it.
    pub(crate) fn watch_tree(&self, directory: &Path) {
        self.watch(format!("tree {}", directory.display()), None);
    }

    /// When the node dies: kill this process group.
    pub(crate) fn watch_group(&self, pid: i32) {
        self.watch(format!("group {pid}"), None);
    }

    /// When the node dies: kill every process that is marked as one of its sandboxes'.
    pub(crate) fn watch_node(&self, instance: &str) {
        self.watch(format!("node {instance}"), None);
    }

    /// When the node dies: set KSM as it was before the burst that keeps its settings in this file.
    pub(crate) fn watch_ksm(&self, kept: &Path) {
        self.watch(ksm_thing(kept), None);
    }

    /// The process group is gone: its number may come to mean another one.
    pub(crate) fn forget_group(&self, pid: i32) {
        self.forget(&format!("group {pid}"));
    }

    /// Until it has cleaned up behind a node that died, the guard holds this descriptor open.
    pub(crate) fn entrust(self: &Arc<Self>, descriptor: OwnedFd) -> Entrusted {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let thing = format!("descriptor {}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.watch(thing.clone(), Some(descriptor));
        Entrusted { guard: Arc::clone(self), thing }
    }

    fn watch(&self, thing: String, descriptor: Option<OwnedFd>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let told = said.tell('+', &thing, descriptor.as_ref());
        if said.things.insert(thing, descriptor).is_none() && !told {
            self.replace(&mut said);
        }
    }

    fn forget(&self, thing: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(descriptor) = said.things.remove(thing) else { return };
        if !said.tell('-', thing, None) {
            self.replace(&mut said);
        } else if descriptor.is_some() {
            said.await_closed();
        }
    }

    /// A new guard that knows all that the old one knew.
    fn replace(&self, said: &mut Said) {
        tracing::warn!("the guard died; starting another");
        if let Some((mut dead, socket)) = said.process.take() {
            let _ = dead.kill(); // Should it live, the end of the socket would have it kill all sandboxes.
            let _ = dead.wait();
            drop(socket);
        }
        match spawn(&self.program) {
            Ok(process) => {
                said.process = Some(process);
                let things = std::mem::take(&mut said.things);
                let told =
                    things.iter().all(|(thing, descriptor)| said.tell('+', thing, descriptor.as_ref()));
                said.things = things;
                if !told {
                    tracing::error!("the new guard died as well; the next sandbox brings another");
                }
            }
            Err(error) => tracing::error!(%error, "the guard died and cannot be replaced"),
        }
    }
}

/// For a command that is no node: a guard that does nothing but set KSM as it was, should the command die in a burst.
pub struct KsmGuard {
    guard: Guard,
    kept: PathBuf,
}

impl KsmGuard {
    /// Starts `PROGRAM guard`, which ends when this is dropped. `kept` is where the burst keeps the settings.
    pub fn start(program: &Path, kept: &Path) -> io::Result<KsmGuard> {
        let guard = Guard::start(program)?;
        guard.watch_ksm(kept);
        Ok(KsmGuard { guard, kept: kept.to_owned() })
    }
}

impl Drop for KsmGuard {
    fn drop(&mut self) {
        // Nothing to put right, and by now another may have a burst that keeps its settings there.
        self.guard.forget(&ksm_thing(&self.kept));
    }
}

fn ksm_thing(kept: &Path) -> String {
    format!("ksm {}", kept.display())
}

impl Said {
    /// `false`: nobody listens.
    fn tell(&self, verb: char, thing: &str, descriptor: Option<&OwnedFd>) -> bool {
        let Some((_, socket)) = &self.process else { return false };
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(|fd| fd.as_fd()).collect();
        send(socket, &format!("{verb} {thing}"), &descriptors).is_ok()
    }

    /// Waits until the guard has closed a descriptor: as long as it is open anywhere, the kernel goes on watching.
    fn await_closed(&self) {
        let Some((_, socket)) = &self.process else { return };
        let mut answers = [PollFd::new(socket, PollFlags::IN)];
        if poll(&mut answers, Some(&CLOSED_WITHIN)).is_ok_and(|ready| ready > 0) {
            let _ = rustix::io::read(socket, &mut [0u8; 1]); // A guard that died has closed it as well.
        }
    }
}

fn send(socket: &OwnedFd, message: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let message = [IoSlice::new(message.as_bytes())];
    rustix::io::retry_on_intr(|| sendmsg(socket, &message, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The next message and the descriptor that came with it; `None` when the other end is closed.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(String, Option<OwnedFd>)>> {
    let mut text = vec![0; MESSAGE_BYTES_MAX];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut ancillary, flags)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    text.truncate(received.bytes);
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(Some((String::from_utf8_lossy(&text).into_owned(), descriptor)))
}

impl Drop for Guard {
    fn drop(&mut self) {
        let said = self.said.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((mut child, socket)) = said.process.take() {
            drop(socket); // It cleans up what is still there, and ends.
            let _ = child.wait();
        }
    }
}

fn spawn(program: &Path) -> io::Result<(Child, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C must end the node first.
    command.arg("guard").stdin(Stdio::from(theirs)).stdout(Stdio::null()).process_group(0);
    Ok((command.spawn()?, ours))
}

/// The guard's own life: listens at `socket` until the node is dead, then cleans up.
pub fn run(socket: impl AsFd) -> io::Result<()> {
    let mut things = Things::new();
    while let Some((message, descriptor)) = receive(socket.as_fd())? {
        match message.split_once(' ') {
            Some(("+", thing)) => drop(things.insert(thing.to_owned(), descriptor)),
            Some(("-", thing)) => {
                let had_descriptor = things.remove(thing).flatten().is_some(); // It is closed now.
                // An error: nobody listens, as the node has just died.
                let _ = had_descriptor.then(|| rustix::io::write(&socket, b"."));
            }
            _ => {}
        };
    }
    let mut result = Ok(());
    for thing in things.keys() {
        match thing.split_once(' ') {
            Some(("group", pid)) => {
                if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                    let _ = kill_process_group(pid, Signal::KILL); // ESRCH: it is dead, as it should be.
                }
            }
            Some(("node", instance)) => Mark::of_node(instance).kill_all(),
            Some(("tree", place)) => result = linux::cgroup::remove_tree(Path::new(place)).and(result),
            _ => {}
        }
    }
    // Last, as another dormouse may have to be waited for.
    for kept in things.keys().filter_map(|thing| thing.strip_prefix("ksm ")) {
        result = Burst::recover(Path::new(kept)).map(drop).map_err(io::Error::other).and(result);
    }
    result // Only now are the descriptors closed.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives_with_its_descriptor() {
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (ours, theirs) = pair();
        let (kept, _other) = pair();
        send(&ours, "+ descriptor 7", &[kept.as_fd()]).unwrap();
        send(&ours, "- group 5", &[]).unwrap();
        drop(ours);
        let (text, descriptor) = receive(theirs.as_fd()).unwrap().unwrap();
        assert_eq!(text, "+ descriptor 7");
        assert!(descriptor.is_some());
        let (text, descriptor) = receive(theirs.as_fd()).unwrap().unwrap();
        assert_eq!(text, "- group 5");
        assert!(descriptor.is_none());
        assert!(receive(theirs.as_fd()).unwrap().is_none());
    }
}
