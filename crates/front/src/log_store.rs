//! What functions have logged: a file for each, which never grows beyond a bound, and every line as it comes for those
//! who follow. One thread writes, so that nobody who serves requests waits for a disk.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use protocol::{FunctionName, SandboxId};
use tokio::sync::{broadcast, oneshot};

/// A file that is larger becomes the old one, and the old one goes: 8 MiB for each function.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Functions with a file. The one that has not logged for longest loses its own.
const FILES_MAX: usize = 1000;

/// Files that are open at once.
const OPEN_MAX: usize = 64;

/// Lines that wait for the disk, 8 KiB each at most; more are lost, and counted.
const WAITING_MAX: usize = 4096;

/// How long the thread lets lines gather, unless there are many: to wake it, and to write, costs more than the line.
const GATHER: Duration = Duration::from_millis(50);

/// So many are not let wait.
const MANY: usize = WAITING_MAX / 4;

/// Lines that wait for one who follows; who is slower misses some, and is told.
const FOLLOWED_MAX: usize = 1024;

/// The logs of all functions. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Handle>);

/// The last one ends the thread.
struct Handle(Arc<Queue>);

/// What the thread has not handled yet.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    commands: Vec<Command>,
    /// Lines that found no room.
    lost: u64,
    /// The thread is to look now.
    is_urgent: bool,
    is_over: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        (waiting.is_over, waiting.is_urgent) = (true, true);
        self.0.news.notify_one();
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, or counts it as lost.
    fn put(&self, line: Command) {
        let mut waiting = self.waiting();
        if waiting.commands.len() >= WAITING_MAX {
            waiting.lost += 1;
            return;
        }
        waiting.commands.push(line);
        waiting.is_urgent |= waiting.commands.len() >= MANY;
        if matches!(waiting.commands.len(), 1 | MANY) {
            self.news.notify_one();
        }
    }

    /// Takes what somebody waits for.
    fn ask(&self, question: Command) {
        let mut waiting = self.waiting();
        waiting.commands.push(question);
        waiting.is_urgent = true;
        self.news.notify_one();
    }

    /// What has gathered, and how many lines were lost; `None`: nothing will come any more.
    fn take(&self) -> Option<(Vec<Command>, u64)> {
        let is_idle = |waiting: &mut Waiting| waiting.commands.is_empty() && !waiting.is_urgent;
        let waiting = self.news.wait_while(self.waiting(), is_idle);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.news.wait_timeout_while(waiting, GATHER, |waiting| !waiting.is_urgent);
        let mut waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
        waiting.is_urgent = waiting.is_over;
        let (commands, lost) = (std::mem::take(&mut waiting.commands), std::mem::take(&mut waiting.lost));
        (!commands.is_empty() || !waiting.is_over).then_some((commands, lost))
    }
}

enum Command {
    Line { function: FunctionName, sandbox: SandboxId, at: SystemTime, text: Box<[u8]> },
    Read { function: FunctionName, lines: usize, reply: oneshot::Sender<Reading> },
    Flush { reply: oneshot::Sender<()> },
}

/// What was logged, and what comes.
pub(crate) struct Reading {
    /// The last lines.
    pub(crate) history: Vec<u8>,
    /// Those after them, of all functions.
    pub(crate) next: broadcast::Receiver<Logged>,
}

/// A line with its end.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) function: FunctionName,
    pub(crate) line: Bytes,
}

impl LogStore {
    /// Logs into files in `dir`, which is made.
    pub(crate) fn start(dir: &Path) -> io::Result<LogStore> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let (followers, _) = broadcast::channel(FOLLOWED_MAX);
        let writer = Writer { dir: dir.to_owned(), files: BTreeMap::new(), followers };
        let queue = Arc::<Queue>::default();
        let inbox = Arc::clone(&queue);
        std::thread::Builder::new().name("logs".to_owned()).spawn(move || writer.run(&inbox))?;
        Ok(LogStore(Arc::new(Handle(queue))))
    }

    /// Takes a line. Never waits.
    pub(crate) fn line(&self, function: &FunctionName, sandbox: SandboxId, text: &[u8]) {
        let (function, at) = (function.clone(), SystemTime::now());
        self.0.0.put(Command::Line { function, sandbox, at, text: text.into() });
    }

    /// Returns when all lines until now are in their files.
    pub(crate) async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        self.0.0.ask(Command::Flush { reply });
        drop(done.await); // An error: the thread has ended, for it has nothing left to write.
    }

    /// The last `lines` of a function, and all that come after them: none is missing between. `None`: the store is gone.
    pub(crate) async fn read(&self, function: FunctionName, lines: usize) -> Option<Reading> {
        let (reply, answer) = oneshot::channel();
        self.0.0.ask(Command::Read { function, lines, reply });
        answer.await.ok()
    }
}

/// The thread.
struct Writer {
    dir: PathBuf,
    files: BTreeMap<FunctionName, Open>,
    followers: broadcast::Sender<Logged>,
}

struct Open {
    file: BufWriter<File>,
    len: u64,
}

impl Writer {
    /// Until the last handle of the store is dropped.
    fn run(mut self, queue: &Queue) {
        while let Some((commands, lost)) = queue.take() {
            let mut lost = Some(lost).filter(|lost| *lost > 0);
            for command in commands {
                self.handle(command, &mut lost);
            }
            self.flush();
        }
    }

    fn handle(&mut self, command: Command, lost: &mut Option<u64>) {
        match command {
            Command::Line { function, sandbox, at, text } => {
                self.log(&function, sandbox, at, &text);
                if let Some(lost) = lost.take() {
                    let text = format!(
                        "dormouse: {lost} lines were lost: functions print faster than they can be kept"
                    );
                    self.log(&function, sandbox, at, text.as_bytes());
                }
            }
            Command::Read { function, lines, reply } => {
                self.flush();
                let history = last_lines(self.everything(&function), lines);
                drop(reply.send(Reading { history, next: self.followers.subscribe() })); // Who asked may have gone.
            }
            Command::Flush { reply } => {
                self.flush();
                let _ = reply.send(()); // Who asked may have gone.
            }
        }
    }

    fn log(&mut self, function: &FunctionName, sandbox: SandboxId, at: SystemTime, text: &[u8]) {
        let mut line = format!("{} {sandbox} ", humantime::format_rfc3339_millis(at)).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        if let Err(error) = self.write(function, &line) {
            tracing::warn!(%function, %error, "a line is not kept");
            self.files.remove(function);
        }
        let logged = Logged { function: function.clone(), line: line.into() };
        drop(self.followers.send(logged)); // Fails where nobody follows.
    }

    fn write(&mut self, function: &FunctionName, line: &[u8]) -> io::Result<()> {
        if self.files.get(function).is_some_and(|open| open.len + line.len() as u64 > FILE_BYTES_MAX) {
            self.files.remove(function); // Dropping it writes what it holds.
            fs::rename(self.path(function, "log"), self.path(function, "log.old"))?;
        }
        if !self.files.contains_key(function) {
            if self.files.len() >= OPEN_MAX {
                self.files.clear();
            }
            let open = self.open(function)?;
            self.files.insert(function.clone(), open);
        }
        let Some(open) = self.files.get_mut(function) else { return Ok(()) };
        open.len += line.len() as u64;
        open.file.write_all(line)
    }

    fn open(&self, function: &FunctionName) -> io::Result<Open> {
        let path = self.path(function, "log");
        if !path.exists() {
            self.make_room()?;
        }
        // What functions print may be secret.
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let len = file.metadata()?.len();
        Ok(Open { file: BufWriter::new(file), len })
    }

    /// Removes the log of the function that has not logged for longest, where there are too many.
    fn make_room(&self) -> io::Result<()> {
        let entries = fs::read_dir(&self.dir)?.filter_map(Result::ok);
        let logs: Vec<_> = entries
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        if logs.len() < FILES_MAX {
            return Ok(());
        }
        let Some((_, oldest)) = logs.into_iter().min() else { return Ok(()) };
        drop(fs::remove_file(oldest.with_extension("log.old"))); // Not every function has one.
        fs::remove_file(oldest)
    }

    fn flush(&mut self) {
        self.files.retain(|function, open| match open.file.flush() {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%function, %error, "lines are not kept");
                false
            }
        });
    }

    /// The old file and the new one.
    fn everything(&self, function: &FunctionName) -> Vec<u8> {
        let read = |extension| fs::read(self.path(function, extension)).unwrap_or_default();
        let mut text = read("log.old");
        text.extend(read("log"));
        text
    }

    fn path(&self, function: &FunctionName, extension: &str) -> PathBuf {
        self.dir.join(format!("{function}.{extension}")) // A function's name holds no dot and no slash.
    }
}

fn last_lines(text: Vec<u8>, lines: usize) -> Vec<u8> {
    let mut ends = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place);
    match ends.nth(lines) {
        Some(before) => text[before + 1..].to_vec(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FunctionName {
        text.parse().unwrap()
    }

    async fn history(store: &LogStore, function: &str, lines: usize) -> String {
        String::from_utf8(store.read(name(function), lines).await.unwrap().history).unwrap()
    }

    #[tokio::test]
    async fn each_function_has_its_lines_and_a_new_store_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        for run in 0..2 {
            let store = LogStore::start(&dir.path().join("logs")).unwrap();
            for line in 0..5 {
                store.line(&name("a"), SandboxId(7), format!("{run} {line}").as_bytes());
                store.line(&name("b"), SandboxId(8), b"other");
            }
            let last = history(&store, "a", 2).await;
            let words: Vec<_> = last.lines().map(|line| line.split_once(' ').unwrap().1).collect();
            assert_eq!(words, [format!("7 {run} 3"), format!("7 {run} 4")]);
            assert_eq!(history(&store, "a", 100).await.lines().count(), 5 * (run + 1));
            assert_eq!(history(&store, "c", 100).await, "");
        }
    }

    #[tokio::test]
    async fn who_follows_misses_nothing_and_sees_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::start(dir.path()).unwrap();
        store.line(&name("a"), SandboxId(1), b"before");
        let Reading { history, mut next } = store.read(name("a"), 10).await.unwrap();
        store.line(&name("a"), SandboxId(1), b"after");
        assert!(history.ends_with(b" 1 before\n"));
        let logged = next.recv().await.unwrap();
        assert!(logged.function == name("a") && logged.line.ends_with(b" 1 after\n"), "{logged:?}");
    }

    #[tokio::test]
    async fn a_file_stays_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::start(dir.path()).unwrap();
        for _ in 0..20 {
            for _ in 0..100 {
                store.line(&name("a"), SandboxId(1), &[b'x'; 8000]);
            }
            assert!(history(&store, "a", 1).await.ends_with("x\n"), "the thread has caught up");
        }
        let len = |file: &str| dir.path().join(file).metadata().unwrap().len();
        assert!(
            (1..=FILE_BYTES_MAX).contains(&len("a.log")) && (1..=FILE_BYTES_MAX).contains(&len("a.log.old"))
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
