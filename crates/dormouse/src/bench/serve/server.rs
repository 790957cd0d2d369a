//! `dormouse serve` as people run it, with the two functions of the bench.

use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::error::BenchError;
use crate::python::Interpreter;

/// The handler that does nothing.
pub(super) const EMPTY: &str = "def lambda_handler(event, context):\n    return None\n";

/// Longer than the bench: nobody falls asleep in it.
const SETTINGS: &str = "keep_warm_s = 86400\n";

/// Where the function in Rust is.
pub(super) struct Rust(PathBuf);

/// The server. Dropping it ends it, and its sandboxes with it.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    dir: tempfile::TempDir,
    child: Child,
}

impl Rust {
    pub(super) fn find(named: Option<&Path>) -> Result<Rust, BenchError> {
        let this = std::env::current_exe().map_err(BenchError::system("find this program"))?;
        let file = named.map_or_else(|| this.with_file_name("examples/rust_function"), Path::to_owned);
        let why = || {
            format!(
                "there is no {file:?}: build it with `cargo build --release -p testkit --example rust_function`"
            )
        };
        match file.is_file() {
            true => Ok(Rust(file)),
            false => Err(BenchError::Absent { why: why() }),
        }
    }
}

impl Served {
    /// Starts it with as many sandboxes of the Rust function as there are callers.
    pub(super) fn start(python: &Interpreter, rust: &Rust, callers: u64) -> Result<Served, BenchError> {
        let system = |doing: &'static str| BenchError::system(doing);
        let dir = tempfile::Builder::new().prefix("dormouse-bench-serve-").tempdir();
        let dir = dir.map_err(system("make a directory"))?;
        let (functions, data) = (dir.path().join("functions"), dir.path().join("data"));
        let write = |file: &str, text: &str| {
            let path = functions.join(file);
            std::fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| std::fs::write(path, text))
        };
        write("empty/lambda_function.py", EMPTY)
            .and_then(|()| write("empty/function.toml", SETTINGS))
            .and_then(|()| write("rust/function.toml", &format!("{SETTINGS}concurrency = {callers}\n")))
            .and_then(|()| std::fs::copy(&rust.0, functions.join("rust/bootstrap")).map(drop))
            .and_then(|()| std::fs::create_dir_all(&data))
            .map_err(system("write the functions"))?;
        let mut command = Command::new(std::env::current_exe().map_err(system("find this program"))?);
        command.arg("--data").arg(&data).args(["serve", "--listen", "127.0.0.1:0", "--functions"]);
        command.arg(&functions).env("DORMOUSE_PYTHON", &python.program);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.map_err(system("start the server"))?;
        match child.stdout.take().and_then(|stdout| address(BufReader::new(stdout))) {
            Some(address) => Ok(Served { address, dir, child }),
            None => {
                let said = "it did not come up".to_owned();
                let _ = child.wait(); // It has closed its output: it is ending.
                Err(BenchError::Ours { doing: "start the server", said })
            }
        }
    }

    /// The folder of the empty function.
    pub(super) fn empty(&self) -> PathBuf {
        self.dir.path().join("functions/empty")
    }

    /// The runtime client that comes with dormouse.
    pub(super) fn bundled_client(&self) -> PathBuf {
        self.dir.path().join("data/runtime/bootstrap.py")
    }
}

/// From the line that the server prints when it is ready.
fn address(mut stdout: impl std::io::BufRead) -> Option<SocketAddr> {
    let mut line = String::new();
    stdout.read_line(&mut line).ok()?;
    line.split_once("http://")?.1.split_whitespace().next()?.parse().ok()
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT); // It may have ended.
        let _ = self.child.wait();
    }
}
