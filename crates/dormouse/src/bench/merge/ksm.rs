//! The kernel's own merging (KSM) as a rival: at its defaults, advised, and flat out. Its settings are kept and put back by
//! `linux::ksm`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use linux::ksm::{self, Burst, Ksm, KsmError, Others};
use node::KsmGuard;
use report::merge::MergeWay;

use super::merger::Merger;
use crate::bench::error::{BenchError, with_causes};
use crate::failure::Failure;
use crate::merge::{KEPT, guard};

/// What Linux comes with.
const DEFAULTS: [(&str, &str); 4] =
    [("pages_to_scan", "100"), ("sleep_millisecs", "20"), ("smart_scan", "1"), (ADVISOR, "none")];
/// The same with the advisor (Linux 6.8), which then chooses the number of pages.
const ADVISED: [(&str, &str); 5] = [
    ("pages_to_scan", "100"),
    ("sleep_millisecs", "20"),
    ("smart_scan", "1"),
    ("advisor_target_scan_time", "200"),
    (ADVISOR, "scan-time"),
];
/// A scan that never pauses.
const FLAT_OUT: [(&str, &str); 4] =
    [("pages_to_scan", "100000"), ("sleep_millisecs", "0"), ("smart_scan", "1"), (ADVISOR, "none")];

const ADVISOR: &str = "advisor_mode";

/// Why KSM cannot be had here; `None`: it can.
pub(crate) fn what_lacks() -> Option<String> {
    match Ksm::open().and_then(|ksm| ksm.settings()) {
        Err(error) => Some(with_causes(&error)),
        Ok(settings) if settings.get("run") != Some("0") => Some("it runs, and is left alone".to_owned()),
        Ok(_) if !rustix::process::geteuid().is_root() => Some("setting it up needs root".to_owned()),
        Ok(_) => None,
    }
}

/// What KSM has done.
pub(super) fn counters() -> Result<ksm::Counters, BenchError> {
    Ok(Ksm::open().map_err(|error| absent(&error))?.counters())
}

/// Has KSM forget dead processes.
pub(super) fn tidy() -> Result<(), BenchError> {
    start().and_then(|mut burst| burst.tidy()).map_err(|error| absent(&error))
}

/// Merged pages that were copied because somebody wrote to them, since the machine started. `None`: this kernel does not
/// say (before Linux 5.19).
pub(super) fn copies() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("cow_ksm ")?.parse().ok())
}

fn start() -> Result<Burst, KsmError> {
    // Nobody else may have memory marked: it would be merged, too, and counted.
    Burst::start(&Ksm::open()?, Path::new(KEPT), Others::Refuse(&|_| false))
}

fn absent(error: &KsmError) -> BenchError {
    BenchError::Absent { why: with_causes(error) }
}

/// KSM as a way to merge. Dropping it puts everything back.
pub(super) struct Scanner {
    settings: &'static [(&'static str, &'static str)],
    kernel: Ksm,
    burst: Burst,
    /// Puts it back if we are killed.
    _guard: KsmGuard,
}

impl Scanner {
    pub(super) fn new(way: MergeWay) -> Result<Scanner, BenchError> {
        let guard = guard().map_err(|failure: Failure| BenchError::Absent { why: failure.text() })?;
        let kernel = Ksm::open().map_err(|error| absent(&error))?;
        let burst = start().map_err(|error| absent(&error))?;
        let has_advisor = kernel.settings().is_ok_and(|settings| settings.get(ADVISOR).is_some());
        let settings = match way {
            MergeWay::KsmAdvisor if !has_advisor => {
                return Err(BenchError::Absent { why: "KSM has an advisor since Linux 6.8".to_owned() });
            }
            MergeWay::KsmAdvisor => &ADVISED[..],
            MergeWay::KsmFlat => &FLAT_OUT,
            _ => &DEFAULTS,
        };
        Ok(Scanner { settings, kernel, burst, _guard: guard })
    }
}

impl Merger for Scanner {
    fn marks_at_start(&self) -> bool {
        true
    }

    fn begin(&mut self, _pids: &[i32]) -> Result<(), BenchError> {
        self.burst.set_off(self.settings).map_err(|error| absent(&error))
    }

    fn shared_bytes(&mut self) -> Result<u64, BenchError> {
        Ok(self.kernel.counters().saved_bytes())
    }

    fn rounds(&mut self) -> Result<u64, BenchError> {
        Ok(self.kernel.counters().full_scans)
    }

    fn cpu(&mut self) -> Option<Duration> {
        ksm::ksmd_time()
    }

    fn end(&mut self) -> Result<(), BenchError> {
        self.burst.tidy().map_err(|error| absent(&error))
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("KSM could not be stopped: {}", with_causes(&error));
        }
    }
}
