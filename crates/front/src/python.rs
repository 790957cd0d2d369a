//! Python interpreters: which one runs functions, and what it can import. Each is asked once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use node::View;

/// How long an interpreter may take to say what it is; a healthy one takes 20 ms.
const PROBE_MAX: Duration = Duration::from_secs(10);

/// How often a probe is looked after.
const PROBE_PAUSE: Duration = Duration::from_millis(5);

/// Where programs are looked for when the node itself has no `PATH`.
pub(crate) const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// Prints the version and whether AWS's runtime client is there, its compiled half included; then which program it is, and where it has its files.
const PROBE: &str = "import sys, importlib.util as u; print('%d.%d' % sys.version_info[:2], \
                     all(u.find_spec(m) for m in ('awslambdaric', 'runtime_client'))); \
                     print(sys.executable); print(sys.prefix); print(sys.base_prefix)";

/// Longest answer: a short line and three paths.
const PROBE_BYTES_MAX: u64 = 16 << 10;

/// One interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub(crate) path: PathBuf,
    /// `3.12`.
    pub(crate) version: String,
    /// Whether `awslambdaric` can be imported.
    pub(crate) has_ric: bool,
    /// The program that it turned out to be: `path` may be a script, or a link.
    executable: Option<PathBuf>,
    /// Folders with its files: a virtual environment, and what that was made from.
    pub(crate) prefixes: Vec<PathBuf>,
}

impl Interpreter {
    /// What a cell must see of the machine, so that it runs there.
    pub(crate) fn views(&self) -> Vec<View> {
        let programs = self.executable.iter().chain([&self.path]);
        let folders = programs.filter_map(|program| program.parent()); // A link may lead to it from elsewhere.
        self.prefixes.iter().map(PathBuf::as_path).chain(folders).map(View::same).collect()
    }
}

/// The interpreter cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PythonError {
    #[error("find `python3` in PATH: install Python, or name an interpreter in DORMOUSE_PYTHON")]
    NotFound,
    #[error("run {path:?}")]
    Run { path: PathBuf, source: std::io::Error },
    #[error("{path:?} did not say what it is within {PROBE_MAX:?}")]
    Slow { path: PathBuf },
    #[error("{path:?} is no Python 3")]
    NotPython { path: PathBuf },
}

/// All interpreters asked so far: as many as functions name, so bounded by the catalogue.
#[derive(Default)]
pub(crate) struct Interpreters {
    default: Option<PathBuf>,
    known: Mutex<HashMap<PathBuf, Interpreter>>,
}

impl Interpreters {
    /// `default` runs functions that name no interpreter; without it `python3` is looked up in `PATH`.
    pub(crate) fn new(default: Option<PathBuf>) -> Self {
        Self { default, known: Mutex::default() }
    }

    /// The interpreter for a function that names `wanted`. Blocking at the first time.
    pub(crate) fn get(&self, wanted: Option<&Path>) -> Result<Interpreter, PythonError> {
        let path = match wanted.or(self.default.as_deref()) {
            Some(path) => path.to_owned(),
            None => find_in_path("python3").ok_or(PythonError::NotFound)?,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interpreter) = known.get(&path) {
            return Ok(interpreter.clone());
        }
        let mut interpreter = probe(&path)?;
        if let (None, None, Some(executable)) = (wanted, &self.default, &interpreter.executable) {
            // Nobody named it. In `PATH` may lie a script that looks for interpreters, which it would not find in a cell.
            interpreter.path.clone_from(executable);
        }
        known.insert(path, interpreter.clone());
        Ok(interpreter)
    }
}

/// The `PATH` that sandboxes get: the node's own, since their interpreter may stand anywhere in it.
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into())
}

/// A program that sandboxes would find.
pub(crate) fn find_in_path(program: &str) -> Option<PathBuf> {
    let candidates = search_path();
    std::env::split_paths(&candidates).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn probe(path: &Path) -> Result<Interpreter, PythonError> {
    let run = |source| PythonError::Run { path: path.to_owned(), source };
    let mut child = Command::new(path)
        .args(["-c", PROBE])
        .env_clear() // What it can import must not hang on who started the server.
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(run)?;
    let deadline = Instant::now() + PROBE_MAX;
    while child.try_wait().map_err(run)?.is_none() {
        if Instant::now() >= deadline {
            child.kill().and_then(|()| child.wait()).map_err(run)?;
            return Err(PythonError::Slow { path: path.to_owned() });
        }
        std::thread::sleep(PROBE_PAUSE);
    }
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(PROBE_BYTES_MAX).read_to_string(&mut said).map_err(run)?;
    }
    understand(path, &said).ok_or_else(|| PythonError::NotPython { path: path.to_owned() })
}

/// What an interpreter says about itself.
fn understand(path: &Path, said: &str) -> Option<Interpreter> {
    let mut lines = said.lines();
    let (version, has_ric) = lines.next()?.split_once(' ')?;
    let absolute = |line: &str| Some(PathBuf::from(line)).filter(|path| path.is_absolute());
    let executable = lines.next().and_then(absolute);
    let prefixes = lines.filter_map(absolute).collect();
    let (path, version, has_ric) = (path.to_owned(), version.to_owned(), has_ric == "True");
    version.starts_with("3.").then_some(Interpreter { path, version, has_ric, executable, prefixes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_of_the_path_is_found_and_says_its_version() {
        let python = Interpreters::new(None).get(None).unwrap();
        assert!(python.path.is_absolute());
        assert!(python.version.starts_with("3."), "{}", python.version);
    }

    #[test]
    fn what_is_no_python_is_refused() {
        let refused = |path: &str| Interpreters::new(None).get(Some(Path::new(path))).unwrap_err();
        assert!(matches!(refused("/bin/true"), PythonError::NotPython { .. }));
        assert!(matches!(refused("/nowhere/python3"), PythonError::Run { .. }));
    }
}
