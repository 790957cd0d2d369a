//! The program of a function that brings its own. Where it cannot be started, that is the function's fault, and Lambda
//! answers with an error of the function.

use std::os::unix::fs::PermissionsExt as _;

use rustix::io::Errno;

use crate::function_toml::Runtime;
use crate::functions::Function;

/// What is wrong with it, in Lambda's words.
pub(crate) fn check(function: &Function) -> Result<(), String> {
    if function.runtime != Runtime::Provided || !function.root.is_dir() {
        return Ok(()); // No folder: that is our fault, and the launch says so.
    }
    match function.root.join("bootstrap").metadata() {
        Ok(meta) if !meta.is_file() => Err(none()),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Err(refused("permission denied")),
        Ok(_) => Ok(()),
        Err(_) => Err(none()),
    }
}

/// The same, of what the system said when it was to be started.
pub(crate) fn fault(function: &Function, error: &std::io::Error) -> Option<String> {
    let errno = Errno::from_io_error(error).filter(|_| function.runtime == Runtime::Provided)?;
    match errno {
        Errno::NOEXEC => Some(refused("exec format error")),
        Errno::NOENT => Some(refused("no such file or directory")), // It is there; what its first line names is not.
        _ => None,
    }
}

fn none() -> String {
    "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]".to_owned()
}

fn refused(why: &str) -> String {
    format!("fork/exec /var/task/bootstrap: {why}")
}
