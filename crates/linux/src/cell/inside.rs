//! The builder's life, and how it splits into three: itself, the keeper, and the program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};

use super::beside::{Fork, Turns, fork_beside, unshare};
use super::report::{hand_over, say, say_error};
use super::{Cell, INSIDE_ID, Job, Port, at, keeper, network, rights, view};
use crate::{seccomp, spawn};

const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

/// Exit code of a keeper or program that could not become one; nobody looks at it.
const FAILED: i32 = 125;

/// The builder's own life: reads its job at standard input, does it, and says there what came of it. There must be one
/// thread.
pub fn run() -> io::Result<()> {
    let node = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Whole, as the parser asks for single bytes.
    let mut job = Vec::new();
    (&node).read_to_end(&mut job)?;
    let mut job: Job = serde_json::from_slice(&job)?;
    if let Err(error) = build(&mut job, &node) {
        say_error(&node, &error)?;
    }
    Ok(())
}

fn build(job: &mut Job, node: &File) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let is_root = user.is_root();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = open("/proc", flags, Mode::empty()).map_err(io::Error::from).map_err(at("open /proc"))?;
    if !is_root {
        // Its owner is who we are, so the node may do with its processes what it likes.
        unshare(libc::CLONE_NEWUSER).map_err(at("make a user namespace"))?;
        rights::map_ids(proc.as_fd(), "self", (user.as_raw(), group.as_raw()))?;
    }
    unshare(NAMESPACES).map_err(at("make namespaces"))?;
    network::enter(&job.cell.network)?;
    hand_out(job, node)?;
    rustix::system::sethostname(b"sandbox").map_err(io::Error::from).map_err(at("name the host"))?;
    let Some(()) = start_keeper(&job.cell, node, is_root)? else { return Ok(()) };
    start_program(job, node, &proc, is_root)
}

/// Sockets in the network, before anything is started in it: the program finds what it is to reach.
fn hand_out(job: &mut Job, node: &File) -> io::Result<()> {
    let Some(port) = job.cell.port.as_ref().filter(|_| job.cell.network.is_own()) else { return Ok(()) };
    let sockets = network::sockets(port)?;
    if let Port::Free { variable } = port {
        let address = OsString::from(sockets.listener.local_addr()?.to_string());
        job.env.retain(|(key, _)| key != variable.as_str());
        job.env.push((variable.into(), address));
    }
    hand_over(node, sockets)
}

/// `None`: it failed, and has said why.
fn start_keeper(cell: &Cell, node: &File, is_root: bool) -> io::Result<Option<()>> {
    let (mut ours, mut theirs) = Turns::pair()?;
    match fork_beside().map_err(at("start the keeper"))? {
        Fork::Child => {
            drop(ours);
            let kept = view::build(cell).and_then(|()| keep(cell, is_root, &mut theirs));
            let _ = kept.inspect_err(|error| drop(say_error(node, error))); // Nobody else to tell.
            std::process::exit(FAILED);
        }
        Fork::Parent(pid) => {
            drop(theirs);
            say(node, "keeper", pid)?;
            Ok(ours.wait().ok())
        }
    }
}

/// Stays until it is killed. Children that others left to it are collected by the kernel, as it does not want to hear
/// of them.
fn keep(cell: &Cell, is_root: bool, builder: &mut Turns) -> io::Result<()> {
    rights::drop_bounds()?;
    if is_root {
        rights::leave_groups()?;
        rights::become_user(cell.id)?;
    }
    rights::drop_capabilities()?;
    rights::hide()?;
    rights::die_with_parent()?;
    ignore_children()?;
    builder.pass()?;
    close_all();
    keeper::rest().map(drop)
}

fn ignore_children() -> io::Result<()> {
    // SAFETY: no handler is set: the kernel does nothing with the signal but collect who died.
    let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Not even the streams: whoever reads them waits for their end.
fn close_all() {
    // SAFETY: nothing that we have open is used after this: the caller only rests.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
}

fn start_program(job: &Job, node: &File, proc: &OwnedFd, is_root: bool) -> io::Result<()> {
    let (mut ours, theirs) = Turns::pair()?;
    match fork_beside().map_err(at("start the program"))? {
        Fork::Child => {
            drop(ours);
            let error = become_program(job, node, is_root.then_some(theirs));
            let _ = say_error(node, &error); // Nobody else to tell.
            std::process::exit(FAILED);
        }
        Fork::Parent(pid) => {
            drop(theirs);
            say(node, "program", pid)?;
            if is_root && ours.wait().is_ok() {
                // By us, who are root still. Then its owner is root, and the node may do with it what it likes.
                rights::map_ids(proc.as_fd(), &pid.to_string(), (job.cell.id, job.cell.id))?;
                ours.pass()?;
            }
            Ok(())
        }
    }
}

/// Returns only if it cannot. `builder` is there if we are root, and maps our ids.
fn become_program(job: &Job, node: &File, builder: Option<Turns>) -> io::Error {
    match give_up_rights(builder).and_then(|()| prepare(job, node)) {
        Err(error) => error,
        Ok(mut command) => {
            let error = command.exec();
            at(format!("start {}", job.program.display()))(error)
        }
    }
}

fn give_up_rights(builder: Option<Turns>) -> io::Result<()> {
    rustix::process::setsid()?; // No terminal, and a group of its own.
    if let Some(mut builder) = builder {
        rights::leave_groups()?;
        unshare(libc::CLONE_NEWUSER).map_err(at("make a user namespace"))?;
        builder.pass()?;
        builder.wait()?;
    }
    rights::drop_bounds()?;
    rights::become_user(INSIDE_ID)?;
    rights::drop_capabilities()?;
    rights::die_with_parent()
}

fn prepare(job: &Job, node: &File) -> io::Result<Command> {
    let null = File::options().read(true).write(true).open("/dev/null").map_err(at("open /dev/null"))?;
    rustix::stdio::dup2_stdin(null)?;
    // Had our parent died before we asked to die with it, nobody would hear this.
    say(node, "ready", "")?;
    let mut command = Command::new(&job.program);
    command.args(&job.args).env_clear().envs(job.env.iter().map(|(key, value)| (key, value)));
    let cwd = job.cwd.as_deref().unwrap_or("/".as_ref());
    std::env::set_current_dir(cwd).map_err(at(format!("enter {}", cwd.display())))?;
    if let Some((soft, hard)) = job.stack {
        spawn::pin_layout(libc::rlimit { rlim_cur: soft, rlim_max: hard })?;
    }
    seccomp::install().map_err(at("filter system calls"))?; // Last: it refuses some of the above.
    Ok(command)
}
