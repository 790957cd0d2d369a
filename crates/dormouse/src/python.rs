//! The Python that runs the workers of the bench and the functions of the demo.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    /// Its own path, whatever led to it.
    pub(crate) program: PathBuf,
    /// As `3.11.7`.
    pub(crate) version: String,
}

/// There is no interpreter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PythonError {
    /// It cannot be started.
    #[error("run {program:?}")]
    Start {
        /// What was tried.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{program:?} is no Python 3: {said}")]
    Strange {
        /// What was tried.
        program: PathBuf,
        /// What it said.
        said: String,
    },
}

impl Interpreter {
    /// What `DORMOUSE_PYTHON` names, or the virtual environment here, or whatever `python3` is.
    pub(crate) fn find() -> Result<Interpreter, PythonError> {
        const ASK: &str = "import sys, platform; print(sys.executable); print(platform.python_version())";
        let named = std::env::var_os("DORMOUSE_PYTHON").map(PathBuf::from);
        let local = Some(PathBuf::from(".venv/bin/python")).filter(|path| path.exists());
        let program = named.or(local).unwrap_or_else(|| PathBuf::from("python3"));
        let output = match Command::new(&program).args(["-c", ASK]).stdin(Stdio::null()).output() {
            Ok(output) => output,
            Err(source) => return Err(PythonError::Start { program, source }),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let mut lines = said.lines();
        match (lines.next(), lines.next()) {
            (Some(path), Some(version)) if path.starts_with('/') => {
                Ok(Interpreter { program: path.into(), version: version.to_owned() })
            }
            _ => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(PythonError::Strange { program, said })
            }
        }
    }

    /// Why `module` cannot be imported, if it cannot.
    pub(crate) fn what_lacks(&self, module: &str) -> Option<String> {
        let import = format!("import {module}");
        match Command::new(&self.program).args(["-c", &import]).stdin(Stdio::null()).output() {
            Err(error) => Some(error.to_string()),
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Some(said.lines().last().unwrap_or("it cannot be imported").to_owned())
            }
        }
    }
}
