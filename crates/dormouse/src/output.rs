//! Standard output: text or JSON, and notes beside it. A reader that leaves early is not an error, and never a panic.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Where there is no terminal, nothing has to fit.
const WIDTH_WITHOUT_TERMINAL: usize = usize::MAX;

/// Writes `text` as it is.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write(text.as_bytes())
}

/// Writes `bytes` as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::io("write to standard output", &error),
    })
}

/// Tells people something beside the output.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().write_all(format!("note: {text}\n").as_bytes()); // Nobody has to read it.
}

/// Writes `value` as JSON, for programs.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&json(value)?)
}

/// `value` as indented JSON with a last newline.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::of(&error))?;
    Ok(text + "\n")
}

/// Characters in a line of the terminal.
pub(crate) fn width() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => WIDTH_WITHOUT_TERMINAL,
    }
}
