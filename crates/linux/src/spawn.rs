//! Starting a process so that it is ours from its first instruction: in its cgroup, in its own process group, dead
//! when we are dead, with its limits, and with its memory where we want it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use crate::process::Process;
use crate::sys;
use crate::trace::{self, Stop, TraceError};

/// The kernel never leaves less than this between the stack and the libraries (x86-64, `mmap_base`).
const STACK_GAP_MIN_BYTES: u64 = 128 << 20;

/// Bits of freedom that the kernel itself gives the place of libraries (x86-64, `vm.mmap_rnd_bits`).
const PLACE_BITS: u32 = 28;

/// Limits that a process sets on itself before the program starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Largest file it may write.
    pub file_bytes: Option<u64>,
    /// Open descriptors.
    pub open_files: Option<u64>,
}

/// How a program is started.
#[derive(Debug)]
pub struct Spawn {
    /// Program, arguments, environment, streams.
    pub command: Command,
    /// Where it writes `0` to enter its cgroups.
    pub entrances: Vec<File>,
    /// What it may use.
    pub limits: Limits,
    /// `Some`: no address is random, and the libraries lie where this secret says. `None`: as the kernel likes.
    pub layout_secret: Option<u64>,
}

/// The stack limits of a program whose layout is pinned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackLimits {
    /// From it the place of the libraries follows.
    pub(crate) at_start: libc::rlimit,
    /// From its first instruction on.
    pub(crate) usual: libc::rlimit,
}

impl StackLimits {
    pub(crate) fn of_secret(secret: u64) -> StackLimits {
        StackLimits { at_start: secret_stack_limit(secret), usual: stack_limit() }
    }
}

/// Has the program start with all its private memory marked for the kernel's own merging (KSM, Linux 6.4), and so its
/// children. An older kernel refuses, and then it does not start.
pub fn mark_mergeable(command: &mut Command) {
    let mark = || {
        // SAFETY: no pointers. The mark survives the exec that follows.
        sys::check(i64::from(unsafe { libc::prctl(libc::PR_SET_MEMORY_MERGE, 1u64, 0u64, 0u64, 0u64) }))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call, and allocates nothing.
    unsafe { command.pre_exec(mark) };
}

/// Starts it. The calling thread must live as long as the process: the kernel kills the process when it ends.
pub fn spawn(spawn: Spawn) -> io::Result<Process> {
    let Spawn { mut command, entrances, limits, layout_secret } = spawn;
    let stack = layout_secret.map(StackLimits::of_secret);
    if let Some(stack) = stack {
        // SAFETY: as in `start_ours`, before whose preparations this one comes.
        unsafe { command.pre_exec(move || pin_layout(stack.at_start)) };
    }
    let child = start_ours(command, entrances, limits)?;
    let process = Process::open(child.id() as i32)?;
    if let Some(stack) = stack {
        release_pinned(&process, stack.usual).inspect_err(|_| process.kill())?;
    }
    Ok(process)
}

/// Starts a process in a group of its own, that dies with the calling thread.
pub(crate) fn start_ours(mut command: Command, entrances: Vec<File>, limits: Limits) -> io::Result<Child> {
    let parent = std::process::id();
    let prepare = move || {
        // SAFETY: no pointers. A group of its own: signals of our terminal do not reach it.
        sys::check(i64::from(unsafe { libc::setpgid(0, 0) }))?;
        // SAFETY: no pointers.
        sys::check(i64::from(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }))?;
        // SAFETY: no pointers.
        if unsafe { libc::getppid() } as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH)); // We died before the line above took effect.
        }
        for mut entrance in &entrances {
            entrance.write_all(b"0")?;
        }
        set_limit(libc::RLIMIT_FSIZE, limits.file_bytes)?;
        set_limit(libc::RLIMIT_NOFILE, limits.open_files)
    };
    // SAFETY: between fork and exec the closure makes system calls on what it owns, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// In the child: fixed addresses, libraries below a stack of this size, and a stop at the first instruction.
pub(crate) fn pin_layout(stack_limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: no pointers.
    sys::check(i64::from(unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) }))?;
    // SAFETY: the kernel reads one live structure.
    sys::check(i64::from(unsafe { libc::setrlimit(libc::RLIMIT_STACK, &raw const stack_limit) }))?;
    // SAFETY: PTRACE_TRACEME takes no arguments. The next exec stops before the program's first instruction.
    sys::check(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) })?;
    Ok(())
}

/// The program stands before its first instruction. The large stack limit has done its work: the kernel has put
/// the libraries below it. With the usual one back, the C library gives threads stacks of the usual size.
pub(crate) fn release_pinned(process: &Process, usual_limit: libc::rlimit) -> io::Result<()> {
    let pid = process.pid();
    let failed = |error: TraceError| io::Error::other(error);
    match trace::wait_for_stop(pid, pid).map_err(failed)? {
        Stop::Signal(libc::SIGTRAP) => {}
        _ => return Err(io::Error::other("the new process stopped, but not at its start")),
    }
    // SAFETY: the kernel reads one live structure and writes nothing.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_STACK, &raw const usual_limit, std::ptr::null_mut()) };
    sys::check(i64::from(set))?;
    // SAFETY: PTRACE_DETACH takes no pointers.
    // TRACEE: it has not run yet; it starts now.
    sys::check(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) })?;
    Ok(())
}

/// A stack limit that moves the libraries to a place that follows from the secret. Where the hard limit allows no
/// large stack they lie where they always do without address randomisation.
fn secret_stack_limit(secret: u64) -> libc::rlimit {
    let usual = stack_limit();
    let pages = secret & ((1 << PLACE_BITS) - 1);
    let wanted = STACK_GAP_MIN_BYTES + pages * 4096;
    libc::rlimit { rlim_cur: wanted.min(usual.rlim_max), rlim_max: usual.rlim_max }
}

fn stack_limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 8 << 20, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel writes one live structure; on failure the usual 8 MiB stand in it.
    unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) };
    limit
}

fn set_limit(which: libc::__rlimit_resource_t, value: Option<u64>) -> io::Result<()> {
    let Some(value) = value else { return Ok(()) };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one live structure.
    sys::check(i64::from(unsafe { libc::getrlimit(which, &raw mut limit) }))?;
    let value = value.min(limit.rlim_max);
    limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the kernel reads one live structure.
    sys::check(i64::from(unsafe { libc::setrlimit(which, &raw const limit) }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use crate::maps;

    fn start(layout_secret: Option<u64>) -> Process {
        let mut command = Command::new("sleep");
        command.arg("1000").env_clear().stdin(Stdio::null());
        let limits = Limits { open_files: Some(64), ..Limits::default() };
        spawn(Spawn { command, entrances: Vec::new(), limits, layout_secret }).unwrap()
    }

    /// Where its C library lies, once it has been mapped.
    fn library(process: &Process) -> u64 {
        loop {
            let mappings = maps::read(process.pid()).unwrap();
            if let Some(library) = mappings.iter().find(|m| m.name.contains("libc.so")) {
                return library.start;
            }
        }
    }

    #[test]
    fn one_secret_gives_one_layout_and_another_gives_another() {
        let [a, b, other, random] = [Some(5), Some(5), Some(77_777), None].map(start);
        assert_eq!(library(&a), library(&b));
        assert_ne!(library(&a), library(&other));
        assert_ne!(library(&a), library(&random));
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", a.pid())).unwrap();
        let usual = std::fs::read_to_string("/proc/self/limits").unwrap();
        let stack = |text: &str| text.lines().find(|line| line.starts_with("Max stack")).unwrap().to_owned();
        assert_eq!(stack(&limits), stack(&usual));
        assert!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 64 ")));
        for process in [a, b, other, random] {
            process.kill();
            while process.reap().is_none() {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_mark_for_merging_survives_the_start() {
        let mut command = Command::new("sleep");
        command.arg("1000").env_clear().stdin(Stdio::null());
        mark_mergeable(&mut command);
        let (entrances, limits) = (Vec::new(), Limits::default());
        let process = spawn(Spawn { command, entrances, limits, layout_secret: Some(5) }).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/ksm_stat", process.pid())).unwrap();
        process.kill_and_collect();
        assert!(stat.contains("ksm_merge_any: yes"), "{stat}");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let command = Command::new("/nowhere/to/be/found");
        let (entrances, limits) = (Vec::new(), Limits::default());
        let error = spawn(Spawn { command, entrances, limits, layout_secret: Some(1) }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
