//! Stopping every thread of a process by ptrace, and letting it go as it was.
//!
//! Order matters for a process in a frozen cgroup: seize it while it is frozen (the threads go from the freezer
//! straight into a trace stop), then thaw the cgroup, for an injected system call would never return from a frozen
//! one. A thread in a trace stop counts as frozen.

mod request;

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use self::request::{request, rseq_area, seize};
use crate::process;

pub use self::request::RseqArea;
pub(crate) use self::request::{
    cont, cont_to_system_call, interrupt, registers, set_registers, set_signal_mask, signal_mask,
};

/// How long a thread may take to stop. A thread that is in the middle of disk I/O stops when that ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a killed thread may take to die.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a thread that nobody waits for any longer may take to stop, before it is looked at now and then only.
const LATE_TIMEOUT: Duration = Duration::from_millis(1);

/// Looking at once this often comes before sleeping between looks: most threads stop within microseconds.
const SPINS_BEFORE_SLEEP: u32 = 200;

/// Between two looks at a thread that takes long to stop.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

const PTRACE_EVENT_STOP: i32 = 128;
const PTRACE_O_SUSPEND_SECCOMP: libc::c_int = 1 << 21;

/// The process could not be stopped. It runs on as before.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It died.
    #[error("process {pid} died")]
    Died {
        /// The process.
        pid: i32,
    },
    /// Somebody else traces it already.
    #[error("process {pid} is traced by thread {tracer}")]
    Traced {
        /// The process.
        pid: i32,
        /// The thread that traces it.
        tracer: i32,
    },
    /// It may not be traced: we lack the right.
    #[error("process {pid} may not be traced")]
    Refused {
        /// The process.
        pid: i32,
        /// What the system said.
        source: io::Error,
    },
    /// A thread did not stop in time.
    #[error("thread {tid} of process {pid} does not stop")]
    Stuck {
        /// The process.
        pid: i32,
        /// The thread.
        tid: i32,
    },
    /// The caller wanted it no longer before all its threads had stopped.
    #[error("stopping process {pid} was broken off")]
    BrokenOff {
        /// The process.
        pid: i32,
    },
    /// It is stopped by job control (`SIGSTOP` or a terminal).
    #[error("process {pid} is stopped by job control")]
    JobControl {
        /// The process.
        pid: i32,
    },
    /// A ptrace request failed.
    #[error("ptrace {what} of thread {tid}")]
    Request {
        /// Which request.
        what: &'static str,
        /// The thread.
        tid: i32,
        /// What the system said.
        source: io::Error,
    },
}

/// A thread that is in a trace stop.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) tid: i32,
    pub(crate) rseq: Option<RseqArea>,
}

/// A process whose every thread is in a trace stop. Dropping it lets the process go as it was; if we die instead,
/// the kernel kills it (`PTRACE_O_EXITKILL`), so it never runs half emptied.
///
/// Not `Send`: the kernel takes ptrace requests from the attaching thread only.
#[derive(Debug)]
pub struct Stopped {
    pid: i32,
    /// Whether we are its parent: then whoever waits for its end collects it.
    is_child: bool,
    pub(crate) threads: Vec<Thread>,
    /// A thread was not waited for to its stop, so there is no use in waiting when it is let go.
    has_late: bool,
    _owned_by_this_thread: PhantomData<*const ()>,
}

impl Stopped {
    /// Stops every thread of `pid`, unless `give_up` says meanwhile that it is no longer wanted. On error those that
    /// were stopped run on.
    pub fn seize(pid: i32, give_up: &dyn Fn() -> bool) -> Result<Stopped, TraceError> {
        let is_child = process::status(pid).is_ok_and(|status| status.parent == std::process::id() as i32);
        let (threads, has_late) = (Vec::new(), false);
        let mut stopped = Stopped { pid, is_child, threads, has_late, _owned_by_this_thread: PhantomData };
        // A running process may start threads while we stop others: look again until no new one shows.
        loop {
            let tids = process::threads(pid).map_err(|_| TraceError::Died { pid })?;
            let known = stopped.threads.len();
            for tid in tids {
                if !stopped.threads.iter().any(|thread| thread.tid == tid) {
                    stopped.seize_thread(tid, give_up).inspect_err(|error| {
                        stopped.has_late =
                            matches!(error, TraceError::BrokenOff { .. } | TraceError::Stuck { .. });
                    })?;
                }
            }
            if stopped.threads.len() == known {
                break;
            }
        }
        if stopped.threads.is_empty() { Err(TraceError::Died { pid }) } else { Ok(stopped) }
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Places that the kernel writes to when a thread runs again, for all threads.
    pub fn rseq_areas(&self) -> impl Iterator<Item = RseqArea> + '_ {
        self.threads.iter().filter_map(|thread| thread.rseq)
    }

    fn seize_thread(&mut self, tid: i32, give_up: &dyn Fn() -> bool) -> Result<(), TraceError> {
        let pid = self.pid;
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        // Suspending the process' own seccomp filter needs CAP_SYS_ADMIN; without it try without.
        let seize = || seize(tid, options | PTRACE_O_SUSPEND_SECCOMP).or_else(|_| seize(tid, options));
        // One that was let go late is ours still.
        let seized = if take_back(tid) { Ok(()) } else { seize() };
        match seized {
            Ok(()) => {}
            // A thread may end while we look; the process is gone only when its first thread is.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) && tid != pid => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Err(TraceError::Died { pid }),
            Err(source) => {
                return Err(match process::status(pid).map_or(0, |status| status.tracer) {
                    0 => TraceError::Refused { pid, source },
                    tracer => TraceError::Traced { pid, tracer },
                });
            }
        }
        // From here on it is ours, and must be let go on drop.
        self.threads.push(Thread { tid, rseq: None });
        request("interrupt", libc::PTRACE_INTERRUPT, tid, 0, 0)?;
        loop {
            let mut wanted = || if give_up() { Err(TraceError::BrokenOff { pid }) } else { Ok(()) };
            let stop = match wait_for_stop_while(pid, tid, &mut wanted) {
                Err(TraceError::Died { .. }) if tid != pid => {
                    self.threads.pop();
                    Late { tid, is_child: false }.let_go_within(COLLECT_TIMEOUT);
                    return Ok(());
                }
                stop => stop?,
            };
            match stop {
                Stop::Interrupted => break,
                Stop::Group => return Err(TraceError::JobControl { pid }),
                // A signal came first: let the kernel deliver it. The interrupt is still pending and stops the
                // thread again before it executes anything of its own.
                Stop::Signal(signal) => cont(tid, signal)?,
                Stop::SystemCall => cont(tid, 0)?,
            }
        }
        if let Some(thread) = self.threads.last_mut() {
            thread.rseq = rseq_area(tid);
        }
        Ok(())
    }

    /// Lets the process go as it was.
    pub fn release(self) {}
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let mut late = Vec::new();
        for thread in self.threads.iter().rev() {
            // ESRCH: it was killed, or has never stopped. Nothing else can be wrong with a thread in a trace stop.
            if request("detach", libc::PTRACE_DETACH, thread.tid, 0, 0).is_err() {
                late.push(Late { tid: thread.tid, is_child: self.is_child && thread.tid == self.pid });
            }
        }
        // Only now: nobody who can run waits for one who cannot.
        let patience = if self.has_late { LATE_TIMEOUT } else { COLLECT_TIMEOUT };
        late.into_iter().for_each(|thread| thread.let_go_within(patience));
    }
}

thread_local! {
    /// Threads that we trace and could not let go yet. Only the thread that traces them can.
    static LATE: RefCell<Vec<Late>> = const { RefCell::new(Vec::new()) };
}

/// A thread that was to be let go, but is not in a trace stop: it is dead, or stops only when a long call ends.
struct Late {
    tid: i32,
    /// The first thread of a child of ours: whoever waits for its end collects it.
    is_child: bool,
}

impl Late {
    /// Waits a little; leaves to `release_late` who takes longer.
    fn let_go_within(self, patience: Duration) {
        let started = Instant::now();
        while started.elapsed() < patience {
            if self.let_go() {
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        LATE.with_borrow_mut(|late| late.push(self));
    }

    /// `false`: it runs.
    fn let_go(&self) -> bool {
        match look_at(self.tid) {
            Look::Running => false,
            Look::Stopped(status) => {
                let signal = if let Stop::Signal(signal) = classify(status) { signal } else { 0 };
                // ESRCH: it was killed meanwhile, and is collected at the next look.
                request("detach", libc::PTRACE_DETACH, self.tid, 0, signal as u64).is_ok()
            }
            Look::Dead => {
                if !self.is_child {
                    // SAFETY: a null pointer says that the status is not wanted. Until its tracer has collected a
                    // dead thread, its process does not count as dead.
                    unsafe { libc::waitpid(self.tid, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
                }
                true
            }
        }
    }
}

/// Whether this thread traces `tid` still, as it could not let it go. From now on that is the caller's business.
fn take_back(tid: i32) -> bool {
    LATE.with_borrow_mut(|late| match late.iter().position(|thread| thread.tid == tid) {
        Some(at) => {
            late.swap_remove(at);
            true
        }
        None => false,
    })
}

/// Lets threads go that this thread traces and that stopped only after we had given up on them. `true`: some have
/// not stopped yet, so look again soon.
pub fn release_late() -> bool {
    LATE.with_borrow_mut(|late| {
        late.retain(|thread| !thread.let_go());
        !late.is_empty()
    })
}

/// Why a thread stopped.
pub(crate) enum Stop {
    /// Because we asked.
    Interrupted,
    /// At the entry or exit of a system call.
    SystemCall,
    /// By job control.
    Group,
    /// To be given this signal.
    Signal(i32),
}

/// Waits until `tid` stops.
pub(crate) fn wait_for_stop(pid: i32, tid: i32) -> Result<Stop, TraceError> {
    wait_for_stop_while(pid, tid, &mut || Ok(()))
}

/// Waits until `tid` stops, and calls `meanwhile` between two looks; its error ends the wait.
pub(crate) fn wait_for_stop_while(
    pid: i32,
    tid: i32,
    meanwhile: &mut dyn FnMut() -> Result<(), TraceError>,
) -> Result<Stop, TraceError> {
    let started = Instant::now();
    for look in 0u32.. {
        match look_at(tid) {
            Look::Stopped(status) => return Ok(classify(status)),
            Look::Dead => return Err(TraceError::Died { pid }),
            Look::Running => meanwhile()?,
        }
        if look < SPINS_BEFORE_SLEEP {
            std::thread::yield_now();
        } else if started.elapsed() > STOP_TIMEOUT {
            break;
        } else {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    Err(TraceError::Stuck { pid, tid })
}

/// What a look at a thread shows.
enum Look {
    Running,
    /// With this status, as `wait(2)` encodes it.
    Stopped(i32),
    /// How it died is left for whoever collects it.
    Dead,
}

fn look_at(tid: i32) -> Look {
    // SAFETY: all zeros is a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    // SAFETY: the kernel writes a `siginfo_t`, into a live local.
    let looked = unsafe { libc::waitid(libc::P_PID, tid as libc::id_t, &raw mut info, options) };
    if looked == -1 {
        return Look::Dead; // ECHILD: somebody collected it.
    }
    match info.si_code {
        0 => Look::Running,
        libc::CLD_TRAPPED | libc::CLD_STOPPED => {
            let mut status = 0;
            // SAFETY: the kernel writes one int, into a live local.
            let waited = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
            // Killed between the two calls, it may be collected here; nobody but a kill can do that.
            if waited == tid && libc::WIFSTOPPED(status) { Look::Stopped(status) } else { Look::Running }
        }
        _ => Look::Dead,
    }
}

fn classify(status: i32) -> Stop {
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Interrupted,
        PTRACE_EVENT_STOP => Stop::Group,
        _ if signal == libc::SIGTRAP | 0x80 => Stop::SystemCall,
        _ => Stop::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Process, status};

    #[test]
    fn a_stopped_process_stands_still_and_then_runs_on() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap();
        let call = || std::fs::read_to_string(format!("/proc/{}/wchan", process.pid())).unwrap();
        while !call().contains("nanosleep") {
            std::thread::yield_now();
        }
        let stopped = Stopped::seize(process.pid(), &|| false).unwrap();
        assert_eq!(status(process.pid()).unwrap().state, Some('t'));
        assert!(matches!(registers(process.pid()).unwrap().orig_rax as i64, 0..));
        stopped.release();
        assert_eq!(status(process.pid()).unwrap().tracer, 0);
        process.kill();
        while process.reap().is_none() {
            std::thread::yield_now();
        }
        assert!(matches!(Stopped::seize(process.pid(), &|| false), Err(TraceError::Died { .. })));
        assert!(child.wait().is_err(), "it was collected already");
    }
}
