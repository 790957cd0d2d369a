//! What the kernel counts for one process.

use std::fs;
use std::time::Duration;

/// The kernel counts in these, whatever its own clock (`USER_HZ`, x86-64).
const TICK: Duration = Duration::from_millis(10);

/// Of a process, all its threads together; also of one that is dead and not collected yet.
pub(super) fn of_process(pid: i32) -> Option<Duration> {
    let ticks = field(pid, 14)? + field(pid, 15)?;
    Some(TICK * u32::try_from(ticks).ok()?)
}

/// Page faults that needed no disk.
pub(super) fn faults(pid: i32) -> Option<u64> {
    field(pid, 10)
}

/// A number of `/proc/PID/stat`, counted as the manual does.
fn field(pid: i32, number: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; fields after it are words.
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}
