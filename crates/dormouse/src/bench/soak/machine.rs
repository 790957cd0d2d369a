//! The machine's memory as the kernel counts it. The counters are noisy; what is known to disturb them is taken out,
//! and a reading is taken when they stand still.

use std::fs;
use std::io;
use std::time::Duration;

use linux::process;

use crate::bench::error::BenchError;
use crate::stop::Stop;

/// Between two readings.
const READ_EVERY: Duration = Duration::from_millis(250);
/// A reading counts when so many in a row
const QUIET_READINGS: usize = 6;
/// lie so close together.
const QUIET_BYTES: u64 = 4 << 20;
/// On a machine that others use it may never be quiet: then the middle of the last readings has to do.
const READINGS_MAX: usize = 80;

/// Memory that is free for whoever needs it, and would be if nobody but us were here.
///
/// `MemAvailable`, free pages that lie ready for one processor (they are free, and not counted as such), and the
/// memory of processes that are not our own: when they grow, that is not our doing.
pub(super) fn free_bytes(stop: &Stop) -> Result<(u64, bool), BenchError> {
    let mut readings = Vec::new();
    while readings.len() < READINGS_MAX {
        readings.push(read().map_err(BenchError::system("read the memory of the machine"))?);
        if let Some(middle) = quiet(&readings) {
            return Ok((middle, true));
        }
        if stop.is_asked() {
            return Err(BenchError::Interrupted);
        }
        std::thread::sleep(READ_EVERY);
    }
    Ok((middle(readings), false))
}

/// The middle of the last readings, if they lie close together.
fn quiet(readings: &[u64]) -> Option<u64> {
    let last = readings.last_chunk::<QUIET_READINGS>()?;
    let (least, most) = (last.iter().min()?, last.iter().max()?);
    (most - least <= QUIET_BYTES).then(|| middle(last.to_vec()))
}

fn middle(mut readings: Vec<u64>) -> u64 {
    readings.sort_unstable();
    readings.get(readings.len() / 2).copied().unwrap_or_default()
}

fn read() -> io::Result<u64> {
    let available = number_after(&fs::read_to_string("/proc/meminfo")?, "MemAvailable:").unwrap_or_default();
    let ready = ready_pages(&fs::read_to_string("/proc/zoneinfo").unwrap_or_default());
    Ok(available * 1024 + ready * pages::PAGE_SIZE as u64 + others_bytes()?)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Free pages on the lists of single processors.
fn ready_pages(zones: &str) -> u64 {
    let counts = zones.lines().filter_map(|line| line.trim_start().strip_prefix("count:"));
    counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
}

/// Private memory and page tables of all processes that do not descend from us.
fn others_bytes() -> io::Result<u64> {
    let ours = process::tree(std::process::id() as i32);
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let others = pids.filter(|pid| !ours.contains(pid)).filter_map(|pid| process::status(pid).ok());
    Ok(others.map(|status| status.anonymous_bytes + status.shared_bytes + status.page_table_bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_pages_of_all_processors_are_found() {
        let zones =
            "Node 0, zone DMA\n  pagesets\n    cpu: 0\n  count:    29\n  high: 7\n    cpu: 1\n   count: 1\n";
        assert_eq!(ready_pages(zones), 30);
        assert_eq!(number_after("MemFree: 1 kB\nMemAvailable:   12 kB\n", "MemAvailable:"), Some(12));
    }

    #[test]
    fn a_reading_counts_when_the_last_ones_agree() {
        let wild = [0, 10 * QUIET_BYTES, 3, 9, 5, 7, 8];
        assert_eq!(quiet(&wild), None);
        assert_eq!(quiet(&[&wild[..], &[6]].concat()), Some(7));
        assert_eq!(quiet(&[1, 1, 1]), None);
        assert_eq!(middle(vec![9, 1, 5]), 5);
    }
}
