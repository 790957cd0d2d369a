//! The processes of a sandbox, and how they are found: by their cgroup; where there is none by descent, and by a mark
//! in the environment, which is inherited by daemons too.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use linux::cgroup::Cgroup;
use linux::process::{self, Process};
use linux::socket_owner::SocketOwner;
use protocol::SandboxId;

/// The variable that marks processes.
const VARIABLE: &str = "DORMOUSE_SANDBOX";

/// Processes that are to die may start others meanwhile. Whoever does so this often in a row is left to the next look.
const KILL_ROUNDS_MAX: u32 = 100;

/// Killed processes need a moment to die.
const DYING: Duration = Duration::from_millis(1);

/// How the processes of one sandbox are found.
pub(crate) struct Family {
    root: i32,
    /// The first process of its cell, if it has one. It holds nothing of the function's.
    pub(crate) keeper: Option<i32>,
    pub(crate) cgroup: Cgroup,
    mark: Option<Mark>,
    /// Daemons that were seen to have the mark: while one sleeps, its environment cannot be read.
    daemons: Mutex<BTreeSet<i32>>,
}

impl Family {
    /// `mark` is what the first process, `root`, has in its environment.
    pub(crate) fn new(root: i32, keeper: Option<i32>, cgroup: Cgroup, mark: Option<Mark>) -> Family {
        Family { root, keeper, cgroup, mark, daemons: Mutex::default() }
    }

    /// Those that are alive, the first one first; not the keeper of its cell.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut found = match self.cgroup.processes() {
            Ok(found) if self.cgroup.can_freeze() => found,
            _ => self.descendants(),
        };
        found.retain(|pid| Some(*pid) != self.keeper && is_alive(*pid));
        found.sort_by_key(|pid| (*pid != self.root, *pid));
        found.dedup();
        found
    }

    /// Daemons left their parents: they are our own children now, or those of the keeper, and so are theirs.
    fn descendants(&self) -> Vec<i32> {
        let mut found = process::tree(self.root);
        if let Some(keeper) = self.keeper {
            found.extend(process::tree(keeper));
            return found;
        }
        if let Some(mark) = &self.mark {
            let orphans = process::children(std::process::id() as i32);
            let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
            daemons.retain(|pid| orphans.contains(pid));
            let is_ours = |pid: &i32| *pid != self.root && (daemons.contains(pid) || mark.is_on(*pid));
            let ours: Vec<i32> = orphans.into_iter().filter(is_ours).collect();
            daemons.extend(&ours);
            found.extend(ours.into_iter().flat_map(process::tree));
        }
        found
    }

    /// Kills all of them, and what they start meanwhile.
    pub(crate) fn kill(&self) {
        for _ in 0..KILL_ROUNDS_MAX {
            if kill(self.processes()) == 0 || self.cgroup.can_freeze() {
                return; // A cgroup is killed as a whole, when it is removed.
            }
            std::thread::sleep(DYING);
        }
    }

    /// Whether one of them has a socket open. Who its user is says that it may be: numbers of users come again.
    pub(crate) fn has_socket(&self, socket: SocketOwner) -> bool {
        let user = process::status(self.root).ok().and_then(|status| status.user);
        user == Some(socket.user) && self.processes().into_iter().any(|pid| has_open(pid, socket.inode))
    }

    /// Whether a process that lives came from this sandbox, as far as its mark tells.
    pub(crate) fn has_marked(&self, pid: i32) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.is_on(pid))
    }
}

/// A text in the environment of each process of a sandbox, or with fewer letters, of a node.
pub(crate) struct Mark(String);

impl Mark {
    /// On every process of the node of this name.
    pub(crate) fn of_node(instance: &str) -> Mark {
        Mark(format!("{VARIABLE}={instance}-"))
    }

    /// Of one length for all sandboxes, so that their memory differs in few bytes.
    pub(crate) fn of_sandbox(instance: &str, id: u64) -> Mark {
        Mark(format!("{}{id:016x}", Mark::of_node(instance).0))
    }

    /// To be put into the environment.
    pub(crate) fn variable(&self) -> (OsString, OsString) {
        (VARIABLE.into(), self.0[VARIABLE.len() + 1..].into())
    }

    fn is_on(&self, pid: i32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(); // Not ours, or dead.
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(self.0.as_bytes()))
    }

    /// Kills every process of this machine that has the mark, and what these start meanwhile.
    pub(crate) fn kill_all(&self) {
        for _ in 0..KILL_ROUNDS_MAX {
            let marked = all_processes().into_iter().filter(|pid| is_alive(*pid) && self.is_on(*pid));
            if kill(marked) == 0 {
                return;
            }
            std::thread::sleep(DYING);
        }
    }
}

/// Which sandbox of this node a process is in, by its cgroup.
pub(crate) fn in_cgroup(pid: i32, instance: &str) -> Option<SandboxId> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let name = format!("/{instance}/");
    text.lines().find_map(|line| {
        let (_, inside) = line.split_once(&name)?;
        inside.split('/').next()?.parse().ok().map(SandboxId)
    })
}

/// Kills processes; how many there were.
pub(crate) fn kill(pids: impl IntoIterator<Item = i32>) -> usize {
    let kill = |pid| Process::open(pid).map(|process| process.kill()).ok();
    pids.into_iter().filter_map(kill).count()
}

pub(crate) fn has_open(pid: i32, inode: u32) -> bool {
    let name = format!("socket:[{inode}]");
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let is_it =
        |entry: fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == name.as_str());
    entries.filter_map(Result::ok).any(is_it)
}

pub(crate) fn all_processes() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse().ok()).collect()
}

pub(crate) fn is_alive(pid: i32) -> bool {
    process::status(pid).is_ok_and(|status| !matches!(status.state, None | Some('Z' | 'X')))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use linux::cgroup::Hierarchy;

    use super::*;

    /// A process of the same user as a socket is nobody who has it.
    #[test]
    fn a_socket_is_of_who_has_it_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(listener.as_fd()).unwrap().st_ino as u32;
        let family = |root| Family::new(root, Some(0), Hierarchy::none().add("test").unwrap(), None);
        let us = rustix::process::geteuid().as_raw();
        assert!(family(std::process::id() as i32).has_socket(SocketOwner { user: us, inode }));
        const SOMEBODY: u32 = 65_534;
        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000");
        let user = if us == 0 { SOMEBODY } else { us };
        let mut sleeper = sleeper.uid(user).spawn().unwrap();
        assert!(!family(sleeper.id() as i32).has_socket(SocketOwner { user, inode }));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn a_mark_is_inherited_by_daemons_and_means_one_sandbox() {
        let instance = format!("dormouse-test-{}", std::process::id());
        let (ours, other) = (Mark::of_sandbox(&instance, 1), Mark::of_sandbox(&instance, 0x11));
        let script = "setsid sleep 1000 & echo $!; exec sleep 1000";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .envs([ours.variable()])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.as_mut().unwrap()), &mut line)
            .unwrap();
        let daemon: i32 = line.trim().parse().unwrap();
        while !(ours.is_on(daemon) && ours.is_on(shell.id() as i32)) {
            std::thread::yield_now(); // In the middle of `exec` a process has no environment.
        }
        assert!(Mark::of_node(&instance).is_on(daemon));
        assert!(!other.is_on(daemon) && !ours.is_on(std::process::id() as i32));
        Mark::of_node(&instance).kill_all();
        assert!(!shell.wait().unwrap().success());
        while is_alive(daemon) {
            std::thread::yield_now(); // It was killed, and is about to die.
        }
    }
}
