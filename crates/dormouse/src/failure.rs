//! How a command fails: what went wrong, why, and what to do about it. Errors end here and are shown once.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::process::ExitCode;

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told.
    Told {
        /// The message and its causes, the outermost first.
        lines: Vec<String>,
        /// What to do.
        hint: Option<String>,
    },
    /// Whoever reads our output has seen enough (`dormouse ps | head`): nothing to tell.
    ReaderGone,
}

impl Failure {
    /// A failure without causes.
    pub(crate) fn new(message: impl Display) -> Self {
        Failure::Told { lines: vec![message.to_string()], hint: None }
    }

    /// A failure with all the causes of `error`. One that says what was just said is passed over.
    pub(crate) fn of(error: &dyn Error) -> Self {
        let mut lines = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            lines.push(error.to_string());
            lines.dedup();
            cause = error.source();
        }
        Failure::Told { lines, hint: None }
    }

    /// A failure while doing something to the system.
    pub(crate) fn io(doing: impl Display, source: &io::Error) -> Self {
        Failure::Told { lines: vec![doing.to_string(), source.to_string()], hint: None }
    }

    /// Adds what to do.
    pub(crate) fn hint(self, text: impl Display) -> Self {
        match self {
            Failure::Told { lines, .. } => Failure::Told { lines, hint: Some(text.to_string()) },
            Failure::ReaderGone => Failure::ReaderGone,
        }
    }

    /// What people read.
    pub(crate) fn text(&self) -> String {
        let Failure::Told { lines, hint } = self else { return String::new() };
        let mut text = String::new();
        for (place, line) in lines.iter().enumerate() {
            let lead = if place == 0 { "error" } else { "  because" };
            let _ = writeln!(text, "{lead}: {line}"); // A string takes everything.
        }
        if let Some(hint) = hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }

    /// Tells it, and says how the program ends.
    pub(crate) fn report(&self) -> ExitCode {
        if matches!(self, Failure::ReaderGone) {
            return ExitCode::SUCCESS;
        }
        // Where even standard error is closed, the exit code has to do.
        let _ = io::stderr().write_all(self.text().as_bytes());
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(failure: &Failure, expected: &str) {
        assert_eq!(failure.text(), expected);
    }

    #[test]
    fn causes_and_hint_follow_the_error() {
        let failure = Failure::io("open the door", &io::Error::other("it is locked")).hint("knock");
        check(&failure, "error: open the door\n  because: it is locked\nhint: knock\n");
    }

    #[test]
    fn a_reader_that_left_is_told_nothing() {
        check(&Failure::ReaderGone.hint("come back"), "");
    }
}
