//! What sandboxes print: into the node's log, line by line, and the last of it into a ring of their own.

use std::collections::VecDeque;
use std::io::PipeReader;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::{FunctionName, SandboxId};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Longer lines are cut into pieces of this size: a function that never ends its line must not fill our memory.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What is kept of one sandbox's output. Lambda's log tail is 4 KB; the rest is room for the platform's lines.
const RING_BYTES_MAX: usize = 16 * 1024;

/// The end of a sandbox's output. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring(Arc<Mutex<VecDeque<u8>>>);

impl Ring {
    fn push(&self, line: &[u8]) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.extend(line);
        ring.push_back(b'\n');
        let surplus = ring.len().saturating_sub(RING_BYTES_MAX);
        ring.drain(..surplus);
    }

    /// The last `len` bytes.
    #[cfg_attr(not(test), expect(dead_code, reason = "`LogType=Tail` will return it"))]
    pub(crate) fn tail(&self, len: usize) -> Vec<u8> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().skip(ring.len().saturating_sub(len)).copied().collect()
    }
}

/// Reads until every process of the sandbox has closed its end.
pub(crate) async fn follow(pipe: PipeReader, function: FunctionName, sandbox: SandboxId, ring: Ring) {
    let mut pipe = match pipe::Receiver::from_owned_fd(pipe.into()) {
        Ok(pipe) => pipe,
        Err(error) => return tracing::warn!(%sandbox, %error, "its output cannot be read"),
    };
    let emit = |line: &[u8]| {
        ring.push(line);
        let text = String::from_utf8_lossy(line);
        tracing::info!(target: "function", %function, %sandbox, "{text}");
    };
    let mut pending = Vec::with_capacity(LINE_BYTES_MAX);
    let mut chunk = [0; 4096];
    while let Ok(len @ 1..) = pipe.read(&mut chunk).await {
        for &byte in &chunk[..len] {
            if byte != b'\n' {
                pending.push(byte);
            }
            if byte == b'\n' || pending.len() == LINE_BYTES_MAX {
                emit(&pending);
                pending.clear();
            }
        }
    }
    if !pending.is_empty() {
        emit(&pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn ring_after(text: Vec<u8>) -> Ring {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let ring = Ring::default();
        let writing = std::thread::spawn(move || writer.write_all(&text).unwrap());
        follow(reader, "f".parse().unwrap(), SandboxId(1), ring.clone()).await;
        writing.join().unwrap();
        ring
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let ring = ring_after(b"one\ntwo\nthree".to_vec()).await;
        assert_eq!(ring.tail(1000), b"one\ntwo\nthree\n");
        assert_eq!(ring.tail(6), b"three\n");
    }

    #[tokio::test]
    async fn an_endless_line_stays_within_the_bounds() {
        let ring = ring_after(vec![b'x'; 10 * RING_BYTES_MAX]).await;
        assert_eq!(ring.tail(usize::MAX).len(), RING_BYTES_MAX);
    }
}
