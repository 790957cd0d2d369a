//! The log of one sandbox as Lambda writes it: START before an invocation's lines, END and REPORT after them, and the
//! last of it for clients that ask for it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use node::Exit;
use protocol::InvocationId;
use tracing::Span;

use crate::catalogue::Revision;
use crate::metrics::Ending;
use crate::outcome;
use crate::output::{Mark, Output};

/// What Lambda returns to who asks for it.
const TAIL_BYTES_MAX: usize = 4 * 1024;

const MIB: u64 = 1024 * 1024;

/// Where the end of a log is put for the client of one invocation, before the client gets its outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct TailSlot(Arc<OnceLock<Bytes>>);

impl TailSlot {
    /// The end of the log; `None` if no sandbox had the invocation.
    pub(crate) fn take(&self) -> Option<Bytes> {
        self.0.get().cloned()
    }
}

/// Lines within it are of this request. Whatever is logged at all, is logged with it.
pub(crate) fn request_span(invocation: &InvocationId) -> Span {
    tracing::error_span!("request", id = %invocation)
}

/// The line of an invocation that has ended, so long after its request came.
pub(crate) fn log_ended(request: &Span, revision: &Revision, ending: Ending, after: Duration) {
    request.in_scope(|| {
        let (name, version) = (&revision.function.name, &revision.version);
        let (outcome, ms) = (ending.as_str(), after.as_secs_f64() * 1000.0);
        tracing::info!(target: "request", function = %name, %version, outcome, ms, "ended");
    });
}

/// How an invocation left its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It was answered, well or badly.
    Answered,
    /// It took longer than this.
    Overdue(Duration),
    /// The sandbox died.
    Died(Exit),
}

/// The log of one sandbox. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Log {
    output: Output,
    memory_mb: u64,
    started: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How long it took until it asked for an invocation; told once.
    init: Option<Duration>,
    serving: Option<Serving>,
    /// Where the last invocation began.
    mark: Mark,
    /// The most memory it has been seen to use: the dead use none.
    peak_bytes: u64,
}

struct Serving {
    invocation: InvocationId,
    since: Instant,
}

impl Log {
    /// The log of a sandbox of `memory_mb` that was launched at `started`.
    pub(crate) fn new(output: Output, memory_mb: u64, started: Instant) -> Self {
        tokio::spawn(output.clone().follow());
        Log { output, memory_mb, started, state: Arc::default() }
    }

    /// It has initialised.
    pub(crate) fn initialised(&self) {
        self.state().init = Some(self.started.elapsed());
    }

    /// An invocation of the function at this version goes in. What is logged meanwhile is logged within `span`.
    pub(crate) fn begin(&self, invocation: &InvocationId, span: &Span, version: &str) {
        self.output.drain(); // What was printed since the last one ended is not this one's.
        let mut state = self.state();
        state.mark = self.output.mark();
        self.output.set_request(Some(span.clone()));
        state.serving = Some(Serving { invocation: invocation.clone(), since: Instant::now() });
        self.output.say(&format!("START RequestId: {invocation} Version: {version}"));
    }

    /// The invocation has left. `peak_bytes` is the most memory that the sandbox has used so far. What was told
    /// before is not told again.
    pub(crate) fn end(&self, invocation: &InvocationId, left: Left, peak_bytes: impl FnOnce() -> u64) {
        let mut state = self.state();
        let Some(serving) = state.serving.take_if(|serving| serving.invocation == *invocation) else {
            return;
        };
        self.output.drain();
        match left {
            Left::Answered => {}
            Left::Overdue(limit) => {
                let now = humantime::format_rfc3339_millis(SystemTime::now());
                self.output.say(&format!("{now} {invocation} {}", outcome::timeout_text(limit)));
            }
            Left::Died(exit) => {
                self.output.say(&format!("RequestId: {invocation} Error: {}", outcome::exit_text(exit)));
                self.output.say("Runtime.ExitError");
            }
        }
        self.output.say(&format!("END RequestId: {invocation}"));
        state.peak_bytes = state.peak_bytes.max(peak_bytes());
        let report = Report {
            duration: serving.since.elapsed(),
            init: state.init.take(),
            memory_mb: self.memory_mb,
            peak_bytes: state.peak_bytes,
            left,
        };
        self.output.say(&report.line(invocation));
        self.output.set_request(None);
    }

    /// Puts the end of the last invocation's log into the slot.
    pub(crate) fn fill(&self, slot: &TailSlot) {
        let mark = self.state().mark;
        // Fails if the slot is full: there is one end of a log.
        drop(slot.0.set(self.output.tail(mark, TAIL_BYTES_MAX).into()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Lambda's last line tells.
struct Report {
    duration: Duration,
    init: Option<Duration>,
    memory_mb: u64,
    peak_bytes: u64,
    left: Left,
}

impl Report {
    /// Tools parse this: the names, their order, the tabs and the one at the end are Amazon's.
    fn line(&self, invocation: &InvocationId) -> String {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let billed = (self.duration + self.init.unwrap_or_default()).as_micros().div_ceil(1000);
        let mut line = format!(
            "REPORT RequestId: {invocation}\tDuration: {:.2} ms\tBilled Duration: {billed} ms\tMemory Size: {} MB\t\
             Max Memory Used: {} MB\t",
            ms(self.duration),
            self.memory_mb,
            self.peak_bytes.div_ceil(MIB),
        );
        if let Some(init) = self.init {
            line += &format!("Init Duration: {:.2} ms\t", ms(init));
        }
        line + match self.left {
            Left::Answered => "",
            Left::Overdue(_) => "Status: timeout\t",
            Left::Died(_) => "Status: error\tError Type: Runtime.ExitError\t",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_store::LogStore;
    use protocol::SandboxId;
    use std::io::{PipeWriter, Write};

    fn id(text: &str) -> InvocationId {
        InvocationId(text.to_owned())
    }

    fn log() -> (Log, PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let logs = LogStore::start(tempfile::tempdir().unwrap().path()).unwrap();
        let output = Output::new(reader, "f".parse().unwrap(), SandboxId(1), logs);
        (Log::new(output, 128, Instant::now()), writer)
    }

    fn tail(log: &Log) -> String {
        let slot = TailSlot::default();
        log.fill(&slot);
        String::from_utf8(slot.take().unwrap().into()).unwrap()
    }

    #[track_caller]
    fn check_line(duration_us: u64, init_us: Option<u64>, left: Left, expected: &str) {
        let (duration, init) = (Duration::from_micros(duration_us), init_us.map(Duration::from_micros));
        let report = Report { duration, init, memory_mb: 128, peak_bytes: 35 * MIB + 1, left };
        assert_eq!(report.line(&id("7")), expected);
    }

    #[test]
    fn the_last_line_is_amazons() {
        check_line(
            583,
            None,
            Left::Answered,
            "REPORT RequestId: 7\tDuration: 0.58 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t",
        );
        check_line(
            2_000,
            Some(114_370),
            Left::Answered,
            "REPORT RequestId: 7\tDuration: 2.00 ms\tBilled Duration: 117 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\
             Init Duration: 114.37 ms\t",
        );
        check_line(
            3_000_000,
            None,
            Left::Overdue(Duration::from_secs(3)),
            "REPORT RequestId: 7\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 36 MB\tStatus: timeout\t",
        );
    }

    #[tokio::test]
    async fn an_invocations_lines_stand_between_its_own() {
        let (log, mut pipe) = log();
        pipe.write_all(b"while it started\n").unwrap();
        log.initialised();
        log.begin(&id("1"), &Span::none(), "$LATEST");
        pipe.write_all(b"one\n").unwrap();
        log.end(&id("1"), Left::Answered, || MIB);
        let first = tail(&log);
        assert!(first.starts_with(
            "START RequestId: 1 Version: $LATEST\none\nEND RequestId: 1\nREPORT RequestId: 1\t"
        ));
        assert!(first.contains("Init Duration"), "{first}");

        log.begin(&id("2"), &Span::none(), "3");
        pipe.write_all(b"two").unwrap();
        log.end(&id("2"), Left::Died(Exit::Signal(9)), || MIB);
        log.end(&id("2"), Left::Answered, || panic!("it was told"));
        let second = tail(&log);
        let expected = "START RequestId: 2 Version: 3\ntwo\nRequestId: 2 Error: Runtime exited with error: signal: killed\n\
                        Runtime.ExitError\nEND RequestId: 2\nREPORT RequestId: 2\t";
        assert!(second.starts_with(expected), "{second}");
        assert!(!second.contains("Init Duration"), "{second}");
    }

    #[tokio::test]
    async fn of_a_long_log_the_last_4_kb_are_returned() {
        let (log, mut pipe) = log();
        log.begin(&id("1"), &Span::none(), "$LATEST");
        pipe.write_all(&b"0123456789abcde\n".repeat(1000)).unwrap();
        log.end(&id("1"), Left::Answered, || MIB);
        let tail = tail(&log);
        assert_eq!(tail.len(), TAIL_BYTES_MAX);
        assert!(tail.contains("abcde\nEND RequestId: 1\nREPORT"), "{tail}");
    }
}
