//! `blocked [KIND…]`: one thread for each kind of blocking system call. Each waits until the test releases it, and
//! reports what its call returned, with `early:` in front when it returned before that. Only these may ever be
//! early, and only with `EINTR`: epoll_wait, epoll_pwait2, recv_timeout, sigtimedwait, semop, io_uring_enter.

mod descriptors;
mod ipc;
mod signalled;
mod sockets;
mod sync;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::control::{Control, unknown};
use crate::raw;

/// How long a released call may take to return.
const RETURN_WITHIN: Duration = Duration::from_secs(60);

/// A timeout that no test lives to see, for the calls that take one.
const FAR_SECS: i64 = 3600;

/// A call that blocks: how to make it, and what ends it.
struct Wait {
    /// The system call in which the thread is to be seen.
    number: libc::c_long,
    /// Makes the call, and puts its result into words.
    call: Box<dyn FnOnce() -> io::Result<String> + Send>,
    /// Lets the call of the thread with this id return.
    release: Box<dyn FnOnce(i32) -> io::Result<()>>,
}

/// How to prepare a wait. An error says why this machine does not have it.
type Prepare = fn() -> io::Result<Wait>;

/// All kinds, by name.
const KINDS: [(&str, Prepare); 26] = [
    ("read", descriptors::read),
    ("poll", descriptors::poll),
    ("ppoll", descriptors::ppoll),
    ("select", descriptors::select),
    ("epoll_wait", descriptors::epoll_wait),
    ("epoll_pwait2", descriptors::epoll_pwait2),
    ("eventfd", descriptors::eventfd),
    ("timerfd", descriptors::timerfd),
    ("inotify", descriptors::inotify),
    ("accept", sockets::accept),
    ("recv", sockets::recv),
    ("recv_timeout", sockets::recv_timeout),
    ("recvmsg", sockets::recvmsg),
    ("futex", sync::futex),
    ("futex_timed", sync::futex_timed),
    ("condvar", sync::condvar),
    ("condvar_timed", sync::condvar_timed),
    ("pause", signalled::pause),
    ("sigsuspend", signalled::sigsuspend),
    ("sigtimedwait", signalled::sigtimedwait),
    ("nanosleep", signalled::nanosleep),
    ("clock_nanosleep", signalled::clock_nanosleep),
    ("waitpid", ipc::waitpid),
    ("msgrcv", ipc::msgrcv),
    ("semop", ipc::semop),
    ("io_uring_enter", ipc::io_uring_enter),
];

/// What a call returned.
struct Report {
    early: bool,
    text: String,
}

/// A thread that waits.
struct Waiter {
    name: &'static str,
    number: libc::c_long,
    tid: i32,
    released: Arc<AtomicBool>,
    release: Option<Box<dyn FnOnce(i32) -> io::Result<()>>>,
    reports: Receiver<Report>,
}

/// Starts the threads, says `ready` when all are in their calls, then answers.
pub(crate) fn run(mut control: Control, kinds: &[&str]) -> io::Result<()> {
    ipc::own_namespace();
    signalled::install_handlers()?;
    let chosen = KINDS.iter().filter(|(name, _)| kinds.is_empty() || kinds.contains(name));
    let (mut waiters, mut unavailable) = (Vec::new(), Vec::new());
    for (name, prepare) in chosen {
        match prepare() {
            Ok(wait) => waiters.push(start(name, wait)?),
            Err(error) => unavailable.push(format!("{name}:{}", raw::errno_name(&error))),
        }
    }
    for waiter in &waiters {
        raw::until(waiter.name, || waiter.is_in_its_call())?;
    }
    let ready = format!("waiting={} unavailable={}", waiters.len(), unavailable.join(","));
    control.serve(&ready, |verb, rest| match verb {
        "kinds" => Ok(waiters.iter().map(|waiter| waiter.name).collect::<Vec<_>>().join(" ")),
        "waiting" => Ok(in_their_calls(&waiters)),
        "release" => release(&mut waiters, rest),
        verb => Err(unknown(verb)),
    })
}

/// The names of those that are still in their calls.
fn in_their_calls(waiters: &[Waiter]) -> String {
    let names = waiters.iter().filter(|waiter| waiter.is_in_its_call()).map(|waiter| waiter.name);
    names.collect::<Vec<_>>().join(" ")
}

/// Releases those named (all, where none is) one after the other: `KIND=RESULT …`.
fn release(waiters: &mut [Waiter], names: &[&str]) -> io::Result<String> {
    let mut results = Vec::new();
    for waiter in waiters.iter_mut().filter(|waiter| names.is_empty() || names.contains(&waiter.name)) {
        let result = waiter.result()?;
        results.push(format!("{}={result}", waiter.name));
    }
    Ok(results.join(" "))
}

fn start(name: &'static str, wait: Wait) -> io::Result<Waiter> {
    let released = Arc::new(AtomicBool::new(false));
    let (tid_tx, tid_rx) = channel();
    let (report_tx, reports) = channel();
    let seen = Arc::clone(&released);
    let Wait { number, call, release } = wait;
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let told = tid_tx.send(rustix::thread::gettid().as_raw_nonzero().get());
        let text = call().unwrap_or_else(|error| raw::errno_name(&error));
        let early = !seen.load(SeqCst);
        // Nobody hears it when the test is over.
        told.ok().and_then(|()| report_tx.send(Report { early, text }).ok())
    })?;
    let tid = tid_rx.recv().map_err(io::Error::other)?;
    Ok(Waiter { name, number, tid, released, release: Some(release), reports })
}

impl Waiter {
    /// Whether the kernel shows the thread asleep in the expected call (or in its restart).
    fn is_in_its_call(&self) -> bool {
        let path = format!("/proc/self/task/{}/syscall", self.tid);
        let shown = std::fs::read_to_string(path).unwrap_or_default();
        let number = shown.split(' ').next().and_then(|word| word.parse::<libc::c_long>().ok());
        number.is_some_and(|number| number == self.number || number == libc::SYS_restart_syscall)
    }

    fn result(&mut self) -> io::Result<String> {
        let Some(release) = self.release.take() else { return Ok("released-before".to_owned()) };
        if let Ok(report) = self.reports.try_recv() {
            return Ok(report.words());
        }
        self.released.store(true, SeqCst);
        release(self.tid)?;
        let report = self.reports.recv_timeout(RETURN_WITHIN);
        Ok(report.map_or_else(|_| "stuck".to_owned(), |report| report.words()))
    }
}

impl Report {
    fn words(&self) -> String {
        format!("{}{}", if self.early { "early:" } else { "" }, self.text)
    }
}
