//! The processes of one sandbox, and the means by which they are held here.

use std::io;
use std::sync::Arc;

use linux::process::{self, Process};
use linux::trace::{Stopped, TraceError};
use pages::Manifest;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::asleep::{Hold, Planted};
use crate::dedup::DedupError;
use crate::family::{Family, is_alive};
use crate::shadow::Shadow;
use crate::stopped_tree::StoppedTree;

/// A tree that keeps growing while it is being stopped is given up after so many looks.
const LOOKS_MAX: usize = 64;

/// What this machine lets us do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    /// Sleeping processes are held by the freezer, not by ptrace. Only together with `userfault`: pages that are out
    /// are poisoned or watched then, and what the freezer loses dies or waits instead of reading zeros.
    pub(crate) freezer: bool,
    /// Memory is filled by userfaultfd, not by writing.
    pub(crate) userfault: bool,
}

/// The living part of a sandbox. Owned by its driver.
pub(crate) struct Body {
    pub(crate) root: Process,
    /// The first process of its cell, if it has one.
    keeper: Option<Process>,
    /// How `root` ended, once it was collected with its cell.
    ended: Option<i32>,
    pub(crate) family: Arc<Family>,
    means: Means,
    /// Userfaultfds that stay open in processes that wake lazily, by process.
    kept: Vec<Planted>,
    /// What is known to be unchanged since the last wake.
    shadows: Vec<Shadow>,
}

impl Body {
    pub(crate) fn new(root: Process, keeper: Option<Process>, family: Arc<Family>, means: Means) -> Body {
        Body { root, keeper, ended: None, family, means, kept: Vec::new(), shadows: Vec::new() }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.root.pid()
    }

    pub(crate) fn means(&self) -> Means {
        self.means
    }

    /// From now on it is held by ptrace and filled by writing.
    pub(crate) fn do_without_userfault(&mut self) {
        self.means = Means { freezer: false, userfault: false };
    }

    /// Its processes that are alive, the first one first.
    pub(crate) fn processes(&self) -> Vec<i32> {
        self.family.processes()
    }

    /// Its private memory now.
    pub(crate) fn private_bytes(&self) -> u64 {
        let bytes =
            |pid: i32| process::status(pid).map_or(0, |status| status.anonymous_bytes + status.swap_bytes);
        self.processes().into_iter().map(bytes).sum()
    }

    /// Stops every process of the tree, unless `give_up` says meanwhile that it is no longer wanted. Dropping what
    /// is returned lets them run on.
    pub(crate) fn stop(&self, give_up: &dyn Fn() -> bool) -> Result<StoppedTree, DedupError> {
        let mut stopped: Vec<Stopped> = Vec::new();
        for _ in 0..LOOKS_MAX {
            let known = stopped.len();
            for pid in self.processes() {
                if stopped.iter().any(|stopped| stopped.pid() == pid) {
                    continue;
                }
                match Stopped::seize(pid, give_up) {
                    Ok(one) => stopped.push(one),
                    Err(TraceError::BrokenOff { .. }) => return Err(DedupError::Interrupted),
                    Err(TraceError::Died { pid }) if pid != self.pid() => {}
                    Err(_) if pid != self.pid() && !is_alive(pid) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if stopped.len() == known {
                if known == 0 {
                    return Err(DedupError::Died { pid: self.pid() });
                }
                return Ok(StoppedTree::new(stopped));
            }
        }
        Err(DedupError::LeftWarm {
            why: format!("process {} starts processes faster than they stop", self.pid()),
        })
    }

    /// The userfaultfd that stayed open in a process since its last wake.
    pub(crate) fn take_planted(&mut self, pid: i32) -> Option<Planted> {
        let at = self.kept.iter().position(|planted| planted.pid == pid)?;
        Some(self.kept.swap_remove(at)).filter(Planted::is_there)
    }

    /// Keeps a userfaultfd for the next sleep.
    pub(crate) fn keep_planted(&mut self, planted: Planted) {
        self.kept.retain(|planted| is_alive(planted.pid));
        self.kept.push(planted);
    }

    /// What is known to be unchanged in a process. One that has executed another program has lost our userfaultfd.
    pub(crate) fn shadow(&self, pid: i32) -> Option<&Shadow> {
        let is_same_memory = self.kept.iter().any(|planted| planted.pid == pid && planted.is_there());
        self.shadows.iter().find(|shadow| shadow.pid == pid).filter(|_| is_same_memory)
    }

    /// Notes no more what a process writes.
    pub(crate) fn drop_shadow(&mut self, pid: i32) {
        self.shadows.retain(|shadow| shadow.pid != pid);
    }

    /// Remembers what is unchanged until the next sleep.
    pub(crate) fn set_shadows(&mut self, shadows: Vec<Shadow>) {
        self.shadows = shadows;
    }

    /// Where what is known to be unchanged stands in the store.
    pub(crate) fn shadow_manifests(&self) -> Vec<Arc<Manifest>> {
        self.shadows.iter().map(|shadow| Arc::clone(&shadow.manifest)).collect()
    }

    /// Lets it run. All that must be back is back.
    pub(crate) fn release(&self, hold: Hold) -> io::Result<()> {
        match hold {
            Hold::Frozen => self.family.cgroup.thaw(),
            Hold::Traced(tree) => {
                tree.release();
                Ok(())
            }
        }
    }

    /// Kills the whole tree, frozen or stopped as it may be.
    pub(crate) fn kill(&self) {
        if self.ended.is_some() {
            return; // Its cell is empty, and its number may mean another by now.
        }
        self.root.kill();
        // Without a cgroup nobody knows the children of a first process that is dead already. Its number, and so
        // that of its group, is not given to others before it has been collected.
        if let Some(group) = Pid::from_raw(self.pid()) {
            let _ = kill_process_group(group, Signal::KILL); // ESRCH: all are dead.
        }
        self.family.kill();
        if let Some(keeper) = &self.keeper {
            keeper.kill();
        }
    }

    /// Removes the cgroup of a tree that was killed, and is traced no more.
    pub(crate) fn clear_away(&mut self) -> io::Result<()> {
        self.empty_cell()?;
        self.family.cgroup.remove()
    }

    /// A keeper ends, and leaves its cgroup, only when all others of the cell are dead and collected.
    fn empty_cell(&mut self) -> io::Result<()> {
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        if self.family.cgroup.keeps_killed() {
            self.family.cgroup.thaw()?; // They die before they execute anything.
        }
        self.ended = self.root.kill_and_collect();
        keeper.kill_and_collect();
        Ok(())
    }

    /// How its first process ended: an exit code, or the negative number of a signal. `None`: nobody knows.
    pub(crate) fn ended(&self) -> Option<i32> {
        self.ended.or_else(|| self.root.reap())
    }
}
