//! `traced`: a parent that traces its child, as a debugger does. A thread has one tracer at most, so nobody else
//! can stop the child by ptrace.

use std::io;
use std::process::{Command, Stdio};

use crate::control::{Control, unknown};
use crate::raw::{check, wait};

/// Seizes the child and lets it run. `use` stops and continues it.
pub(crate) fn run(mut control: Control) -> io::Result<()> {
    let mut child = Command::new(std::env::current_exe()?).arg("until-eof").stdin(Stdio::piped()).spawn()?;
    let pid = child.id() as libc::pid_t;
    if let Err(why) = trace(libc::PTRACE_SEIZE, pid) {
        return control.unavailable(&why);
    }
    control.serve(&format!("child {pid}"), |verb, _| match verb {
        "use" => {
            trace(libc::PTRACE_INTERRUPT, pid)?;
            let stopped = libc::WIFSTOPPED(wait(pid)?);
            trace(libc::PTRACE_CONT, pid)?;
            Ok(format!("stopped={stopped}"))
        }
        verb => Err(unknown(verb)),
    })?;
    drop(child.stdin.take());
    wait(pid).map(drop)
}

fn trace(request: libc::c_uint, pid: libc::pid_t) -> io::Result<()> {
    // SAFETY: none of the requests made here reads or writes our memory.
    check(unsafe { libc::ptrace(request, pid, 0usize, 0usize) })?;
    Ok(())
}
