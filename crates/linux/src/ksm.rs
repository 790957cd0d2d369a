//! The kernel's own merging of equal pages (KSM): what it is set to, what it has done, and what each process has of it.
//! `burst.rs` has it work for a moment; which ranges it looks at is said by the processes themselves, or by
//! [`Vehicle::mark_mergeable`](crate::inject::Vehicle::mark_mergeable).
//!
//! KSM has no sharing domains: it merges whatever is marked, whoever it belongs to. Keeping others out is left to whoever
//! marks (`others.rs` finds them).

mod burst;
mod others;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::maps::{Flags, Mapping};

pub use burst::{Burst, Done, End, Others};
pub use others::{Merged, marked, merged};

/// Where the kernel has its settings and counters.
const DIRECTORY: &str = "/sys/kernel/mm/ksm";

/// The settings, in the order in which they can be set: the advisor, where it is on, lets nobody set `pages_to_scan`, so
/// it is switched off before, and back on after. Not every kernel has all.
const SETTINGS: [&str; 9] = [
    "advisor_target_scan_time",
    "pages_to_scan",
    "sleep_millisecs",
    "smart_scan",
    "use_zero_pages",
    "max_page_sharing",
    "merge_across_nodes",
    ADVISOR,
    RUN,
];

const ADVISOR: &str = "advisor_mode";
const RUN: &str = "run";

/// Clock ticks of `/proc/PID/stat` in a second (`USER_HZ`, on x86-64).
const TICKS_PER_SECOND: u64 = 100;

/// KSM cannot be used. It is as it was, unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum KsmError {
    /// This kernel has none.
    #[error("this kernel does not merge pages: it has no {DIRECTORY}")]
    Missing,
    /// We may not.
    #[error("{path} cannot be used")]
    Refused {
        /// The setting.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else uses it.
    #[error("KSM is in use: {by}")]
    InUse {
        /// By whom, in words.
        by: String,
    },
    /// Another dormouse works with it at this moment.
    #[error("another dormouse has KSM merge pages at this moment")]
    Busy,
    /// The file that the settings are kept in meanwhile cannot be used.
    #[error("the settings of KSM cannot be kept in {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl KsmError {
    /// What to do, for people.
    pub fn advice(&self) -> &'static str {
        match self {
            KsmError::Missing => "it takes a kernel with CONFIG_KSM; in a container, /sys must show it",
            KsmError::Refused { .. } => "run as root; in a container, /sys must be writable",
            KsmError::InUse { .. } => {
                "KSM merges whatever is marked, whoever it belongs to: have those who use it un-merge first (dormouse merge \
                 --unmerge PID…), name them as well if all of them may share, or accept sharing with them by --across-domains"
            }
            KsmError::Busy => "try again in a few seconds",
            KsmError::File { .. } => {
                "without it the settings could not be restored after a crash: make its folder writable"
            }
        }
    }
}

/// The settings of KSM that exist here, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// What a setting is, if this kernel has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// What KSM has done. What this kernel does not count is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages that stand for more than one.
    pub pages_shared: u64,
    /// Pages that were saved.
    pub pages_sharing: u64,
    /// Pages that became the kernel's page of zeros.
    pub zero_pages: u64,
    /// Looks at pages since the machine started.
    pub pages_scanned: u64,
    /// How often all that is marked was gone through.
    pub full_scans: u64,
    /// Saved bytes less what KSM keeps of pages for it.
    pub profit_bytes: i64,
}

impl Counters {
    /// Pages that have become another one's, or zeros.
    pub fn merged(&self) -> u64 {
        self.pages_sharing + self.pages_shared + self.zero_pages
    }

    /// Memory that is saved by it.
    pub fn saved_bytes(&self) -> u64 {
        (self.pages_sharing + self.zero_pages) * 4096
    }
}

/// The kernel's KSM.
#[derive(Clone, Debug)]
pub struct Ksm {
    directory: PathBuf,
}

impl Ksm {
    /// This machine's.
    pub fn open() -> Result<Ksm, KsmError> {
        Self::at(Path::new(DIRECTORY))
    }

    fn at(directory: &Path) -> Result<Ksm, KsmError> {
        match directory.join(RUN).exists() {
            true => Ok(Ksm { directory: directory.to_owned() }),
            false => Err(KsmError::Missing),
        }
    }

    /// How it is set.
    pub fn settings(&self) -> Result<Settings, KsmError> {
        let mut settings = BTreeMap::new();
        for name in SETTINGS {
            match fs::read_to_string(self.directory.join(name)) {
                Ok(text) => drop(settings.insert(name.to_owned(), chosen(&text).to_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // This kernel does not have it.
                Err(source) => return Err(self.refused(name, source)),
            }
        }
        Ok(Settings(settings))
    }

    /// What it has done.
    pub fn counters(&self) -> Counters {
        let number = |name| -> i64 {
            let text = fs::read_to_string(self.directory.join(name)).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        let count = |name| number(name).try_into().unwrap_or(0);
        Counters {
            pages_shared: count("pages_shared"),
            pages_sharing: count("pages_sharing"),
            zero_pages: count("ksm_zero_pages"),
            pages_scanned: count("pages_scanned"),
            full_scans: count("full_scans"),
            profit_bytes: number("general_profit"),
        }
    }

    /// Changes those of `wanted` that are set otherwise, in an order in which they can be.
    fn set(&self, wanted: &Settings) -> Result<(), KsmError> {
        let now = self.settings()?;
        let must_be_free = SETTINGS[..7].iter().any(|name| differs(wanted, &now, name));
        if must_be_free && now.get(ADVISOR).is_some_and(|advisor| advisor != "none") {
            self.write(ADVISOR, "none")?;
        }
        let now = self.settings()?;
        for name in SETTINGS.into_iter().filter(|name| differs(wanted, &now, name)) {
            self.write(name, wanted.get(name).unwrap_or_default())?;
        }
        Ok(())
    }

    fn write(&self, name: &str, value: &str) -> Result<(), KsmError> {
        fs::write(self.directory.join(name), value).map_err(|source| self.refused(name, source))
    }

    fn refused(&self, name: &str, source: io::Error) -> KsmError {
        KsmError::Refused { path: self.directory.join(name), source }
    }

    /// Keeps every other dormouse of this machine from it for as long as the file lives.
    fn lock(&self) -> Result<File, KsmError> {
        let lock = File::open(self.directory.join(RUN)).map_err(|source| self.refused(RUN, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(fs::TryLockError::WouldBlock) => Err(KsmError::Busy),
            Err(fs::TryLockError::Error(source)) => Err(self.refused(RUN, source)),
        }
    }
}

/// Whether `wanted` says something else of a setting that exists here.
fn differs(wanted: &Settings, now: &Settings, name: &str) -> bool {
    matches!((wanted.get(name), now.get(name)), (Some(wanted), Some(now)) if wanted != now)
}

/// Of a setting that shows all its values (`[none] scan-time`), the one in brackets.
fn chosen(text: &str) -> &str {
    let text = text.trim();
    text.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0)).unwrap_or(text)
}

/// Whether pages of this mapping may be merged: its owner's alone, and not locked, reserved or a device's. Merged pages
/// are those of anonymous memory, and a file's where the process has written to its own copy.
pub fn may_mark(mapping: &Mapping) -> bool {
    const NOT: [Flags; 6] =
        [Flags::DEVICE, Flags::PFN, Flags::MIXED, Flags::HUGETLB, Flags::LOCKED, Flags::SHADOW_STACK];
    (mapping.is_private_anonymous() || mapping.is_private_file()) && !mapping.flags.any(&NOT)
}

/// Processor time that the kernel's thread for KSM has taken since the machine started; `None` where it cannot be seen
/// (in a container).
pub fn ksmd_time() -> Option<Duration> {
    static KSMD: std::sync::OnceLock<Option<i32>> = std::sync::OnceLock::new();
    let pid = (*KSMD.get_or_init(find_ksmd))?;
    let scheduled = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    match scheduled.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()) {
        Some(nanoseconds) => Some(Duration::from_nanos(nanoseconds)),
        None => ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?),
    }
}

/// User and system time of `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<Duration> {
    let numbers = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ticks: u64 = numbers.skip(11).take(2).filter_map(|number| number.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The kernel's threads have no program.
fn find_ksmd() -> Option<i32> {
    let is_ksmd = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "ksmd")
            && fs::read_link(format!("/proc/{pid}/exe")).is_err()
    };
    crate::process::all().into_iter().find(is_ksmd)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A KSM in a folder, as Linux 6.18 sets it.
    pub(crate) fn pretended() -> (tempfile::TempDir, Ksm) {
        let folder = tempfile::tempdir().unwrap();
        let values = [
            ("run", "0"),
            ("pages_to_scan", "100"),
            ("sleep_millisecs", "20"),
            ("smart_scan", "1"),
            ("advisor_mode", "[none] scan-time"),
            ("pages_shared", "0"),
            ("full_scans", "7"),
            ("general_profit", "-64"),
        ];
        values
            .iter()
            .for_each(|(name, value)| fs::write(folder.path().join(name), format!("{value}\n")).unwrap());
        let ksm = Ksm::at(folder.path()).unwrap();
        (folder, ksm)
    }

    #[test]
    fn settings_and_counters_are_read() {
        let (folder, ksm) = pretended();
        let settings = ksm.settings().unwrap();
        assert_eq!(
            (settings.get("advisor_mode"), settings.get("pages_to_scan")),
            (Some("none"), Some("100"))
        );
        assert_eq!((settings.get("max_page_sharing"), settings.get("run")), (None, Some("0")));
        assert_eq!((ksm.counters().full_scans, ksm.counters().profit_bytes), (7, -64));
        fs::remove_file(folder.path().join("run")).unwrap();
        assert!(matches!(Ksm::at(folder.path()), Err(KsmError::Missing)));
    }

    #[test]
    fn only_what_differs_and_exists_is_set() {
        let (folder, ksm) = pretended();
        let values = [("pages_to_scan", "5"), ("max_page_sharing", "9"), ("../etc", "9")];
        let wanted = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        ksm.set(&Settings(wanted.into())).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("pages_to_scan")).unwrap(), "5");
        assert_eq!(fs::read_to_string(folder.path().join("smart_scan")).unwrap(), "1\n");
        assert!(!folder.path().join("max_page_sharing").exists());
    }

    #[test]
    fn one_dormouse_at_a_time_has_it() {
        let (_folder, ksm) = pretended();
        let lock = ksm.lock().unwrap();
        assert!(matches!(ksm.lock(), Err(KsmError::Busy)));
        drop(lock);
        ksm.lock().unwrap();
    }

    #[test]
    fn processor_time_is_understood() {
        assert_eq!(
            ticks("46 (ks) md) S 2 0 0 0 -1 2097216 0 0 0 0 3 25 5 1 0"),
            Some(Duration::from_millis(280))
        );
        assert_eq!(ticks(""), None);
    }
}
