//! What can go wrong in a bench. A rival that is not to be had is not an error: its row says why.

use std::fmt::Display;
use std::io;

use crate::failure::Failure;
use crate::python::PythonError;

/// The bench ended early. Everything it changed has been put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// Ctrl-C.
    #[error("interrupted; everything is as it was before")]
    Interrupted,
    /// A worker that was asked for.
    #[error("worker {worker} cannot run here: {why}")]
    CannotRun {
        /// Its name.
        worker: &'static str,
        /// What it lacks.
        why: String,
    },
    /// There is no Python.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// A worker did not answer.
    #[error("worker {worker} gave no answer within {within_s} s")]
    Silent {
        /// Its name.
        worker: &'static str,
        /// How long it was waited for.
        within_s: u64,
    },
    /// A rival is not to be had here.
    #[error("{why}")]
    Absent {
        /// In words for the table.
        why: String,
    },
    /// A program that the bench runs failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Which.
        program: String,
        /// The last thing it said that matters.
        said: String,
    },
    /// dormouse itself did not do what it should.
    #[error("{doing}: {said}")]
    Ours {
        /// What it should have done.
        doing: &'static str,
        /// Why it did not, causes included.
        said: String,
    },
    /// The system refused something.
    #[error("{doing}")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

impl BenchError {
    /// For `map_err`: the system refused to do this.
    pub(crate) fn system(doing: impl Display) -> impl FnOnce(io::Error) -> BenchError {
        let doing = doing.to_string();
        move |source| BenchError::System { doing, source }
    }

    /// For `map_err`: dormouse refused to do this.
    pub(crate) fn ours<E: std::error::Error>(doing: &'static str) -> impl FnOnce(E) -> BenchError {
        move |error| BenchError::Ours { doing, said: with_causes(&error) }
    }
}

/// In one line, for the row of a rival.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        let failure = Failure::of(&error);
        match error {
            BenchError::CannotRun { .. } => failure.hint(
                "install what it needs (DORMOUSE_PYTHON names a Python with the modules), or choose others with --workers",
            ),
            BenchError::Ours { .. } => failure.hint("`dormouse doctor` says what this machine can do"),
            _ => failure,
        }
    }
}
