//! `signals`: an interval timer whose handler counts on an alternate stack, and counters for what the test sends.
//! A sleep must lose no signal, deliver none twice, and leave mask, stack and handlers as they were.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::control::{Control, number, unknown};
use crate::raw::{self, call, check_int};
use crate::region::Region;

/// Time between two alarms.
const ALARM_EVERY_US: i64 = 3000;

/// Bytes of the alternate stack.
const STACK_BYTES: usize = 64 << 10;

/// Blocked all the time, so that one sent stays pending.
const KEPT_PENDING: libc::c_int = libc::SIGUSR2;

static ALARMS: AtomicU64 = AtomicU64::new(0);
static USER: AtomicU64 = AtomicU64::new(0);
static QUEUED: AtomicU64 = AtomicU64::new(0);
static ON_WRONG_STACK: AtomicU64 = AtomicU64::new(0);
static STACK_BASE: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_alarm(_: libc::c_int) {
    count(&ALARMS);
}

extern "C" fn on_user(_: libc::c_int) {
    count(&USER);
}

extern "C" fn on_queued(_: libc::c_int) {
    count(&QUEUED);
}

fn count(counter: &AtomicU64) {
    let here = &raw const counter as u64;
    let base = STACK_BASE.load(SeqCst);
    if !(base..base + STACK_BYTES as u64).contains(&here) {
        ON_WRONG_STACK.fetch_add(1, SeqCst);
    }
    counter.fetch_add(1, SeqCst);
}

/// Sets handlers, stack and timer, then answers.
pub(crate) fn run(mut control: Control) -> io::Result<()> {
    let stack = Region::private("altstack", STACK_BYTES)?;
    STACK_BASE.store(stack.base() as u64, SeqCst);
    let description = libc::stack_t { ss_sp: stack.base().cast(), ss_flags: 0, ss_size: STACK_BYTES };
    // SAFETY: the stack is mapped until the process ends.
    check_int(unsafe { libc::sigaltstack(&raw const description, std::ptr::null_mut()) })?;
    let flags = libc::SA_ONSTACK | libc::SA_RESTART;
    raw::handle(libc::SIGALRM, on_alarm, flags)?;
    raw::handle(libc::SIGUSR1, on_user, flags)?;
    raw::handle(libc::SIGRTMIN(), on_queued, flags)?;
    raw::block_signal(KEPT_PENDING)?;
    start_timer()?;
    control.serve("signals", |verb, rest| match verb {
        "counts" => Ok(counts()),
        "state" => state(),
        "raise" => raise(libc::SIGUSR1, number(rest, 0)?),
        "queue" => raise(libc::SIGRTMIN(), number(rest, 0)?),
        "pend" => raise(KEPT_PENDING, 1),
        "await-alarms" => await_alarms(number(rest, 0)?),
        verb => Err(unknown(verb)),
    })
}

fn start_timer() -> io::Result<()> {
    let every = libc::timeval { tv_sec: 0, tv_usec: ALARM_EVERY_US };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the kernel reads `timer` and is given nowhere to write.
    unsafe {
        call(libc::SYS_setitimer, [libc::ITIMER_REAL as usize, &raw const timer as usize, 0, 0, 0, 0])
    }?;
    Ok(())
}

/// `alarms` only ever grows; `usr1` and `queued` are exactly what was sent; `wrong-stack` stays 0.
fn counts() -> String {
    let [alarms, user, queued, wrong] = [&ALARMS, &USER, &QUEUED, &ON_WRONG_STACK].map(|c| c.load(SeqCst));
    format!("alarms={alarms} usr1={user} queued={queued} wrong-stack={wrong}")
}

/// What `/proc` says of masks and dispositions, and whether the stack and the timer are still set.
fn state() -> io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let sets = ["SigBlk", "SigIgn", "SigCgt"].map(|set| {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        format!("{set}={}", line.unwrap_or_default().trim_start_matches(':').trim())
    });
    // `ShdPnd` changes with every alarm; of what is pending, only the blocked signal says something.
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap_or_default();
    let kept = u64::from_str_radix(pending.trim(), 16).is_ok_and(|set| set >> (KEPT_PENDING - 1) & 1 == 1);
    // SAFETY: all zeros is a valid `stack_t`.
    let mut stack: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes `stack`, ours for the length of the call.
    check_int(unsafe { libc::sigaltstack(std::ptr::null(), &raw mut stack) })?;
    let same_stack = stack.ss_sp as u64 == STACK_BASE.load(SeqCst) && stack.ss_size == STACK_BYTES;
    Ok(format!("{} pending={kept} altstack={same_stack}", sets.join(" ")))
}

/// Sends itself a signal so many times.
fn raise(signal: libc::c_int, times: u64) -> io::Result<String> {
    let me = std::process::id() as libc::pid_t;
    for _ in 0..times {
        // SAFETY: `kill` takes numbers only.
        check_int(unsafe { libc::kill(me, signal) })?;
    }
    Ok(counts())
}

/// Waits until so many alarms more have come.
fn await_alarms(more: u64) -> io::Result<String> {
    let goal = ALARMS.load(SeqCst) + more;
    raw::until("alarms", || ALARMS.load(SeqCst) >= goal)?;
    Ok(counts())
}
