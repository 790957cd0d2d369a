//! The kernel's own merging (KSM): its knobs, set for the bench and put back after it, and what it says of itself.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use report::merge::MergeWay;

use super::merger::Merger;
use super::processor_time;
use crate::bench::error::{BenchError, with_causes};

const DIR: &str = "/sys/kernel/mm/ksm";

/// What the bench changes, in the order in which it can be put back: while the advisor is on, the kernel refuses the
/// number of pages. `run` comes last, and is not among them.
const KNOBS: [&str; 5] =
    ["advisor_mode", "pages_to_scan", "sleep_millisecs", "smart_scan", "advisor_target_scan_time"];
/// Since Linux 6.8.
const ADVISOR: &str = "advisor_mode";

/// What Linux comes with.
const DEFAULTS: [(&str, &str); 3] =
    [("pages_to_scan", "100"), ("sleep_millisecs", "20"), ("smart_scan", "1")];
const ADVISED: [(&str, &str); 2] = [("advisor_target_scan_time", "200"), ("advisor_mode", "scan-time")];
/// A scan that never pauses.
const FLAT_OUT: [(&str, &str); 2] = [("pages_to_scan", "100000"), ("sleep_millisecs", "0")];

/// Nothing is left to unmerge once the processes are dead; the kernel only has to notice.
const UNMERGES_WITHIN: Duration = Duration::from_secs(60);

/// KSM, taken for the bench. Dropping it puts everything back.
#[derive(Debug)]
pub(crate) struct Ksm {
    /// Those that this kernel has, as they were.
    before: Vec<(&'static str, String)>,
}

/// Why KSM cannot be had here; `None`: it can.
pub(crate) fn what_lacks() -> Option<String> {
    let number = |file| read(file).ok()?.parse::<u64>().ok();
    match (number("run"), number("pages_shared")) {
        _ if !Path::new(DIR).exists() => Some("this kernel has no KSM".to_owned()),
        _ if !rustix::process::geteuid().is_root() => Some("setting up KSM needs root".to_owned()),
        (Some(0), Some(0)) => None,
        _ => Some(format!(
            "KSM is in use and left alone (after a killed bench: echo 2 > {DIR}/run; echo 0 > {DIR}/run)"
        )),
    }
}

impl Ksm {
    /// Takes it, or says why not, in words for the table; then nothing has changed.
    pub(crate) fn take() -> Result<Ksm, String> {
        what_lacks().map_or(Ok(()), Err)?;
        let value = |knob| match read(knob) {
            Ok(text) => Some(Ok((knob, chosen(&text).to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Err(error.to_string())),
        };
        Ok(Ksm { before: KNOBS.into_iter().filter_map(value).collect::<Result<_, _>>()? })
    }

    /// Sets the knobs for this way. It does not run yet.
    fn tune(&self, way: MergeWay) -> Result<(), BenchError> {
        let has_advisor = self.before.iter().any(|(knob, _)| *knob == ADVISOR);
        if has_advisor {
            write(ADVISOR, "none")?;
        }
        let has = |(knob, _): &&(&str, &str)| self.before.iter().any(|(known, _)| known == knob);
        let more: &[_] = match way {
            MergeWay::KsmAdvisor if !has_advisor => {
                return Err(BenchError::Absent { why: "KSM has an advisor since Linux 6.8".to_owned() });
            }
            MergeWay::KsmAdvisor => &ADVISED,
            MergeWay::KsmFlat => &FLAT_OUT,
            _ => &[],
        };
        DEFAULTS.iter().filter(has).chain(more).try_for_each(|(knob, value)| write(knob, value))
    }

    /// Everything that was merged is forgotten, and it does not run.
    fn forget(&self) -> Result<(), BenchError> {
        write("run", "2")?;
        let started = Instant::now();
        while shared_bytes()? > 0 && started.elapsed() < UNMERGES_WITHIN {
            std::thread::sleep(Duration::from_millis(1));
        }
        write("run", "0")
    }
}

impl Drop for Ksm {
    fn drop(&mut self) {
        let advisor = self.before.iter().find(|(knob, _)| *knob == ADVISOR);
        let off = advisor.map_or(Ok(()), |_| write(ADVISOR, "none"));
        // The advisor is put back last.
        let back = self.before.iter().rev().map(|(knob, value)| write(knob, value));
        for error in [self.forget(), off].into_iter().chain(back).filter_map(Result::err) {
            tracing::error!("KSM could not be put back: {}", with_causes(&error));
        }
    }
}

/// What KSM saves now: pages beyond the first of each.
pub(super) fn shared_bytes() -> Result<u64, BenchError> {
    number("pages_sharing").map(|pages| pages * pages::PAGE_SIZE as u64)
}

/// Merged pages that were copied because somebody wrote to them, since the machine started. `None`: this kernel does not
/// say (before Linux 5.19).
pub(super) fn copies() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("cow_ksm ")?.parse().ok())
}

/// KSM as a way to merge.
pub(super) struct Scanner<'a> {
    ksm: &'a Ksm,
    way: MergeWay,
    /// The thread of the kernel that scans. `None`: it cannot be seen from here.
    thread: Option<i32>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(ksm: &'a Ksm, way: MergeWay) -> Result<Scanner<'a>, BenchError> {
        ksm.tune(way)?;
        Ok(Scanner { ksm, way, thread: thread() })
    }
}

impl Merger for Scanner<'_> {
    fn marks_at_start(&self) -> bool {
        true
    }

    fn begin(&mut self, _pids: &[i32]) -> Result<(), BenchError> {
        self.ksm.tune(self.way)?; // The advisor starts anew.
        write("run", "1")
    }

    fn shared_bytes(&mut self) -> Result<u64, BenchError> {
        shared_bytes()
    }

    fn rounds(&mut self) -> Result<u64, BenchError> {
        number("full_scans")
    }

    fn cpu(&mut self) -> Option<Duration> {
        processor_time::of_kernel_thread(self.thread?)
    }

    fn end(&mut self) -> Result<(), BenchError> {
        self.ksm.forget()
    }
}

impl Drop for Scanner<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("KSM could not be stopped: {}", with_causes(&error));
        }
    }
}

/// The number of `ksmd`.
pub(super) fn thread() -> Option<i32> {
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_ksmd =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "ksmd\n");
    pids.into_iter().find(is_ksmd)
}

fn number(file: &str) -> Result<u64, BenchError> {
    let text = read(file).map_err(BenchError::system(format!("read {file} of KSM")))?;
    let strange = || BenchError::system(format!("read {file} of KSM"))(io::ErrorKind::InvalidData.into());
    text.parse().map_err(|_| strange())
}

fn read(file: &str) -> io::Result<String> {
    fs::read_to_string(Path::new(DIR).join(file)).map(|text| text.trim().to_owned())
}

fn write(file: &str, value: &str) -> Result<(), BenchError> {
    fs::write(Path::new(DIR).join(file), value)
        .map_err(BenchError::system(format!("write {value} to {file} of KSM")))
}

/// The value itself, or the one in brackets where all possible ones are listed.
fn chosen(text: &str) -> &str {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(chosen(text), expected);
    }

    #[test]
    fn what_is_put_back_is_what_was_chosen() {
        check("[none] scan-time", "none");
        check("none [scan-time]", "scan-time");
        check("100", "100");
    }
}
