//! What a sandbox prints: into the node's log, line by line, and the last of it into a ring of its own, between the
//! lines that the platform adds.

use std::collections::VecDeque;
use std::io::PipeReader;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::{FunctionName, SandboxId};
use tokio::net::unix::pipe;
use tracing::Span;

use crate::log_store::LogStore;
use crate::runtime_api::Telemetry;

/// Longer lines are cut into pieces of this size: a function that never ends its line must not fill our memory.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What is kept of one sandbox's output. Lambda's log tail is 4 KB; the rest is room for what children print later.
const RING_BYTES_MAX: usize = 16 * 1024;

/// The output of one sandbox. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Output(Arc<Inner>);

struct Inner {
    function: FunctionName,
    sandbox: SandboxId,
    /// `None`: it cannot be watched, and is not read.
    pipe: Option<pipe::Receiver>,
    logs: LogStore,
    /// Where the lines of the sandbox are told as well.
    telemetry: OnceLock<Telemetry>,
    /// Whoever reads the pipe holds this, so that lines stay in their order.
    kept: Mutex<Kept>,
}

/// The end of what was printed.
#[derive(Default)]
struct Kept {
    ring: VecDeque<u8>,
    /// Bytes that ever went into the ring.
    total: u64,
    /// A line that has not ended yet.
    pending: Vec<u8>,
    /// The invocation that it has.
    request: Option<Span>,
}

/// A place in the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Output {
    /// Takes over the reading end of a pipe. Must be called within a runtime.
    pub(crate) fn new(pipe: PipeReader, function: FunctionName, sandbox: SandboxId, logs: LogStore) -> Self {
        let pipe = pipe::Receiver::from_owned_fd(pipe.into());
        let pipe =
            pipe.inspect_err(|error| tracing::warn!(%sandbox, %error, "its output cannot be read")).ok();
        Output(Arc::new(Inner {
            function,
            sandbox,
            pipe,
            logs,
            telemetry: OnceLock::new(),
            kept: Mutex::default(),
        }))
    }

    /// From now on its lines are told there, too.
    pub(crate) fn tell(&self, telemetry: Telemetry) {
        drop(self.0.telemetry.set(telemetry)); // There is one telemetry of a sandbox.
    }

    /// Reads until every process of the sandbox has closed its end.
    pub(crate) async fn follow(self) {
        let Some(pipe) = &self.0.pipe else { return };
        while pipe.readable().await.is_ok() {
            match self.read(|chunk| pipe.try_read(chunk)) {
                Ok(1..) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.emit_pending();
    }

    /// Takes what was written before this call, a line without an end included. What is written meanwhile is left:
    /// a function that never stops must not hold up the caller.
    pub(crate) fn drain(&self) {
        let Some(pipe) = &self.0.pipe else { return };
        // An error is a pipe without bytes.
        let mut waiting = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
        while waiting > 0 {
            // Not by `try_read`, which reads nothing before the runtime has heard that there is something.
            match self.read(|chunk| Ok(rustix::io::read(pipe, chunk)?)) {
                Ok(len @ 1..) => waiting = waiting.saturating_sub(len as u64),
                Ok(0) | Err(_) => break, // `follow` was quicker.
            }
        }
        self.emit_pending();
    }

    fn read(&self, read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>) -> std::io::Result<usize> {
        let mut chunk = [0; 4096];
        let mut kept = self.kept();
        let len = read(&mut chunk)?;
        for &byte in &chunk[..len] {
            if byte != b'\n' {
                kept.pending.push(byte);
            }
            if byte == b'\n' || kept.pending.len() == LINE_BYTES_MAX {
                let line = std::mem::take(&mut kept.pending);
                self.emit_own(&mut kept, &line);
            }
        }
        Ok(len)
    }

    fn emit_pending(&self) {
        let mut kept = self.kept();
        if !kept.pending.is_empty() {
            let line = std::mem::take(&mut kept.pending);
            self.emit_own(&mut kept, &line);
        }
    }

    /// A line of the sandbox.
    fn emit_own(&self, kept: &mut Kept, line: &[u8]) {
        self.0.telemetry.get().into_iter().for_each(|telemetry| telemetry.line(line));
        self.emit(kept, line);
    }

    /// Adds a line of the platform.
    pub(crate) fn say(&self, line: &str) {
        self.emit(&mut self.kept(), line.as_bytes());
    }

    fn emit(&self, kept: &mut Kept, line: &[u8]) {
        kept.push(line);
        let (function, sandbox) = (&self.0.function, self.0.sandbox);
        self.0.logs.line(function, sandbox, line);
        let _in_request = kept.request.as_ref().map(Span::enter);
        tracing::info!(target: "function", %function, %sandbox, "{}", String::from_utf8_lossy(line));
    }

    /// From now on lines are of this request, or of none.
    pub(crate) fn set_request(&self, request: Option<Span>) {
        self.kept().request = request;
    }

    /// Where the next line will stand.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.kept().total)
    }

    /// The last `len` bytes of what came after `mark`.
    pub(crate) fn tail(&self, mark: Mark, len: usize) -> Vec<u8> {
        let kept = self.kept();
        let since = usize::try_from(kept.total - mark.0).unwrap_or(usize::MAX);
        let wanted = since.min(len).min(kept.ring.len());
        kept.ring.iter().skip(kept.ring.len() - wanted).copied().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, line: &[u8]) {
        self.ring.extend(line);
        self.ring.push_back(b'\n');
        self.total += line.len() as u64 + 1;
        let surplus = self.ring.len().saturating_sub(RING_BYTES_MAX);
        self.ring.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeWriter, Write};

    fn nowhere() -> LogStore {
        LogStore::start(tempfile::tempdir().unwrap().path()).unwrap()
    }

    fn output() -> (Output, PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        (Output::new(reader, "f".parse().unwrap(), SandboxId(1), nowhere()), writer)
    }

    async fn output_after(text: Vec<u8>) -> Output {
        let (output, mut writer) = output();
        let writing = std::thread::spawn(move || writer.write_all(&text).unwrap());
        output.clone().follow().await;
        writing.join().unwrap();
        output
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let output = output_after(b"one\ntwo\nthree".to_vec()).await;
        assert_eq!(output.tail(Mark::default(), 1000), b"one\ntwo\nthree\n");
        assert_eq!(output.tail(Mark::default(), 6), b"three\n");
    }

    #[tokio::test]
    async fn an_endless_line_stays_within_the_bounds() {
        let output = output_after(vec![b'x'; 10 * RING_BYTES_MAX]).await;
        assert_eq!(output.tail(Mark::default(), usize::MAX).len(), RING_BYTES_MAX);
    }

    #[tokio::test]
    async fn what_was_written_is_there_before_anybody_followed() {
        let (output, mut writer) = output();
        writer.write_all(b"before\n").unwrap();
        output.drain();
        let mark = output.mark();
        writer.write_all(&[b'x'; 60_000]).unwrap();
        writer.write_all(b"\nno end").unwrap();
        output.drain();
        output.say("said");
        assert_eq!(output.tail(mark, 14), b"x\nno end\nsaid\n"[..]);
        assert_eq!(output.tail(output.mark(), 100), b"");
        assert_eq!(output.tail(mark, 100).len(), 100);
    }

    #[tokio::test]
    async fn an_empty_pipe_holds_nobody_up() {
        let (output, writer) = output();
        output.drain();
        drop(writer);
        output.drain();
        assert_eq!(output.tail(Mark::default(), 100), b"");
    }
}
