//! KSM at full speed for a moment, on what was marked for it, and then as it was before.
//!
//! At its defaults KSM looks at 5,000 pages a second, for ever. A burst looks at what is marked as fast as it can, until
//! nothing more comes of it, and then parks it: pages stay merged while KSM stands still. The settings as they were lie in
//! a file meanwhile, for [`Burst::recover`] to find should we die.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{ADVISOR, Counters, Ksm, KsmError, RUN, Settings, ksmd_time, marked, merged};
use crate::process;

/// Pages that KSM looks at before it can be told anything: some ten milliseconds. More are not looked at faster.
const PAGES_AT_ONCE: &str = "20000";

/// Between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// A page is looked at once to see whether it keeps still, and merged the second time. Where the last burst left off, the
/// first scan is not a whole one.
const SCANS_MIN: u64 = 3;

/// Nothing more comes of it when a whole scan merges fewer than one of so many more: memory that is written to meanwhile
/// is never done with.
const STANDSTILL: u64 = 256;

/// KSM that has looked at nothing for so long has nothing to look at.
const IDLE: Duration = Duration::from_millis(500);

/// How long what dead processes left behind may take to be tidied up.
const TIDY_LIMIT: Duration = Duration::from_secs(5);

/// So many processes are named where KSM is in use.
const NAMED_MAX: usize = 8;

/// How long `recover` waits for another dormouse.
const LOCK_WITHIN: Duration = Duration::from_secs(10);

/// KSM belongs to us until this is dropped: then it is as it was before, and what was merged stays merged.
#[derive(Debug)]
pub struct Burst {
    ksm: Ksm,
    before: Settings,
    path: PathBuf,
    is_over: bool,
    _lock: File,
}

/// Whether to share with processes that somebody else has marked.
#[derive(Clone, Copy)]
pub enum Others<'a> {
    /// KSM is refused while a process has marked memory that is none of these.
    Refuse(&'a dyn Fn(i32) -> bool),
    /// Whoever has marked memory may come to share pages with us.
    Accept,
}

/// Why a burst ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Nothing more merges.
    Settled,
    /// The caller wanted it no longer.
    Broken,
    /// It took too long.
    Late,
}

/// What a burst did.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Why it ended.
    pub end: End,
    /// How long it took.
    pub took: Duration,
    /// Scans that were completed.
    pub full_scans: u64,
    /// Processor time of the kernel's thread, where it can be seen.
    pub ksmd: Option<Duration>,
}

/// What lies in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Settings do not outlive the start of the machine that they were made in.
    boot: String,
    settings: Settings,
}

impl Burst {
    /// Takes KSM, unless others use it, and keeps its settings in the file `path`. Nothing is merged yet: mark now.
    /// What an earlier burst left in that file is put right first.
    pub fn start(ksm: &Ksm, path: &Path, others: Others<'_>) -> Result<Burst, KsmError> {
        let lock = ksm.lock()?;
        restore_kept(ksm, path)?;
        let before = ksm.settings()?;
        refuse_running(&before, others)?;
        if let Others::Refuse(is_ours) = others {
            refuse_marked(is_ours)?;
        }
        keep(path, &before)?;
        fail_point::reach("ksm-kept");
        let mut burst =
            Burst { ksm: ksm.clone(), before, path: path.to_owned(), is_over: false, _lock: lock };
        if let Others::Refuse(_) = others {
            burst.refuse_unseen()?;
        }
        Ok(burst)
    }

    /// Has KSM merge what is marked, until nothing more comes of it, the limit is passed, or `give_up`, which is asked
    /// every few milliseconds, says that it is wanted no longer. Then parks it.
    pub fn merge(&mut self, limit: Duration, give_up: &mut dyn FnMut() -> bool) -> Result<Done, KsmError> {
        let (started, ksmd, first) = (Instant::now(), ksmd_time(), self.ksm.counters());
        let end = self.run(limit, &mut |at_scan, now| match give_up() {
            true => Some(End::Broken),
            false => has_settled(&first, at_scan, now).then_some(End::Settled),
        })?;
        Ok(Done {
            end,
            took: started.elapsed(),
            full_scans: self.ksm.counters().full_scans.saturating_sub(first.full_scans),
            ksmd: ksmd.and_then(|before| Some(ksmd_time()?.saturating_sub(before))),
        })
    }

    /// Has KSM work with these settings until it is tidied or given back: for those who measure what it does. Those that
    /// this kernel does not have are passed over.
    pub fn set_off(&mut self, settings: &[(&str, &str)]) -> Result<(), KsmError> {
        let values = settings.iter().chain(&[(RUN, "1")]);
        self.ksm
            .set(&Settings(values.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()))
    }

    /// Has KSM let go of what is marked no longer, and of dead processes: until then its counters tell of these as well.
    pub fn tidy(&mut self) -> Result<(), KsmError> {
        let first = self.ksm.counters();
        let is_done = |now: &Counters| now.merged() == 0 || now.full_scans >= first.full_scans + 2;
        self.run(TIDY_LIMIT, &mut |_, now| is_done(now).then_some(End::Settled)).map(drop)
    }

    /// Gives KSM back as it was. The same happens on drop, where an error can only be logged.
    pub fn end(mut self) -> Result<(), KsmError> {
        self.is_over = true;
        self.restore()
    }

    /// Puts right what a dormouse that died in a burst has left: `path` is where it kept the settings. `true`: there was
    /// something to put right.
    pub fn recover(path: &Path) -> Result<bool, KsmError> {
        if !path.exists() {
            return Ok(false);
        }
        let (ksm, started) = (Ksm::open()?, Instant::now());
        let _lock = loop {
            match ksm.lock() {
                Err(KsmError::Busy) if started.elapsed() < LOCK_WITHIN => std::thread::sleep(LOOK_EVERY),
                locked => break locked?,
            }
        };
        restore_kept(&ksm, path)
    }

    /// Lets KSM work until `is_over` says so, given its counters at the end of the last scan and now; or until it finds
    /// nothing to do, or the limit is passed. Then parks it.
    fn run(
        &mut self,
        limit: Duration,
        is_over: &mut dyn FnMut(&Counters, &Counters) -> Option<End>,
    ) -> Result<End, KsmError> {
        let (started, mut at_scan) = (Instant::now(), self.ksm.counters());
        let (mut progress, mut moved) = (None, started);
        self.ksm.set(&flat_out())?;
        fail_point::reach("ksm-flat-out");
        let end = loop {
            std::thread::sleep(LOOK_EVERY);
            let now = self.ksm.counters();
            if let Some(end) = is_over(&at_scan, &now) {
                break end;
            }
            if now.full_scans > at_scan.full_scans {
                at_scan = now;
            }
            let here = Some((now.full_scans, now.pages_scanned, ksmd_time()));
            if progress != here {
                (progress, moved) = (here, Instant::now());
            } else if moved.elapsed() > IDLE {
                break End::Settled;
            }
            if started.elapsed() > limit {
                break End::Late;
            }
        };
        self.ksm.write(RUN, "0")?;
        Ok(end)
    }

    /// Refuses to share with those whom we cannot see. There are none if all that is merged was that of the dead.
    fn refuse_unseen(&mut self) -> Result<(), KsmError> {
        let is_seen =
            || process::all().into_iter().any(|pid| merged(pid).is_ok_and(|merged| merged.pages > 0));
        if self.ksm.counters().pages_shared == 0 || is_seen() {
            return Ok(());
        }
        self.tidy()?;
        match self.ksm.counters().pages_shared {
            0 => Ok(()),
            pages => {
                let by = format!(
                    "{pages} merged pages belong to processes that are not seen here (in another container?)"
                );
                Err(KsmError::InUse { by })
            }
        }
    }

    fn restore(&self) -> Result<(), KsmError> {
        self.ksm.set(&self.before)?;
        remove(&self.path)
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.restore()
        {
            tracing::error!(%error, path = ?self.path, "KSM is not set as it was before; the settings lie there");
        }
    }
}

/// As fast as it goes, whatever has been looked at in vain before.
fn flat_out() -> Settings {
    let values = [
        ("pages_to_scan", PAGES_AT_ONCE),
        ("sleep_millisecs", "0"),
        ("smart_scan", "0"),
        (ADVISOR, "none"),
        (RUN, "1"),
    ];
    Settings(values.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

/// Whether the scan that has just ended has merged next to nothing.
fn has_settled(first: &Counters, at_scan: &Counters, now: &Counters) -> bool {
    let gained = now.merged().abs_diff(at_scan.merged());
    now.full_scans > at_scan.full_scans
        && now.full_scans >= first.full_scans + SCANS_MIN
        && gained * STANDSTILL <= now.merged()
}

fn refuse_running(settings: &Settings, others: Others<'_>) -> Result<(), KsmError> {
    let by = match (settings.get(RUN), others) {
        (Some("2"), _) => "it is to merge nothing (/sys/kernel/mm/ksm/run is 2)",
        (Some("1"), Others::Refuse(_)) => "it runs by itself (/sys/kernel/mm/ksm/run is 1)",
        _ => return Ok(()),
    };
    Err(KsmError::InUse { by: by.to_owned() })
}

fn refuse_marked(is_ours: &dyn Fn(i32) -> bool) -> Result<(), KsmError> {
    let marked = marked(is_ours);
    if marked.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = marked.iter().take(NAMED_MAX).map(|pid| process::named(*pid)).collect();
    let more = if marked.len() > NAMED_MAX { " and others" } else { "" };
    Err(KsmError::InUse { by: format!("{}{more} may have pages merged", names.join(", ")) })
}

/// Writes the settings to the file, which is there whole or not at all.
fn keep(path: &Path, settings: &Settings) -> Result<(), KsmError> {
    let write = || {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        serde_json::to_writer(&mut file, &Kept { boot: boot()?, settings: settings.clone() })?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| KsmError::File { path: path.to_owned(), source })
}

/// Sets what the file says, and removes it. `false`: there is none, or it is of another start of the machine.
fn restore_kept(ksm: &Ksm, path: &Path) -> Result<bool, KsmError> {
    let failed = |source| KsmError::File { path: path.to_owned(), source };
    let kept: Kept = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let is_of_now = kept.boot == boot().map_err(failed)?;
    if is_of_now {
        tracing::warn!(?path, "a dormouse died while KSM worked for it; its settings are put right");
        ksm.set(&kept.settings)?;
    }
    remove(path)?;
    Ok(is_of_now)
}

fn remove(path: &Path) -> Result<(), KsmError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KsmError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// What tells this start of the machine from others.
fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ksm::tests::pretended;

    #[test]
    fn settings_are_kept_before_and_restored_after() {
        let (folder, ksm) = pretended();
        let (path, before) = (folder.path().join("kept"), ksm.settings().unwrap());
        let mut burst = Burst::start(&ksm, &path, Others::Accept).unwrap();
        assert!(path.exists());
        let done = burst.merge(Duration::from_secs(60), &mut || true).unwrap();
        assert_eq!(done.end, End::Broken);
        let now = ksm.settings().unwrap();
        assert_eq!((now.get(RUN), now.get("smart_scan")), (Some("0"), Some("0")));
        burst.end().unwrap();
        assert_eq!((ksm.settings().unwrap(), path.exists()), (before, false));
    }

    #[test]
    fn who_measures_it_gives_it_back_as_well() {
        let (folder, ksm) = pretended();
        let (path, before) = (folder.path().join("kept"), ksm.settings().unwrap());
        let mut burst = Burst::start(&ksm, &path, Others::Accept).unwrap();
        burst.set_off(&[("pages_to_scan", "7"), ("advisor_target_scan_time", "200")]).unwrap();
        let now = ksm.settings().unwrap();
        assert_eq!((now.get("pages_to_scan"), now.get("advisor_target_scan_time")), (Some("7"), None));
        assert_eq!(now.get(RUN), Some("1"));
        drop(burst);
        assert_eq!(ksm.settings().unwrap(), before);
    }

    #[test]
    fn a_drop_restores_as_well_and_so_does_the_next_start() {
        let (folder, ksm) = pretended();
        let (path, before) = (folder.path().join("kept"), ksm.settings().unwrap());
        drop(Burst::start(&ksm, &path, Others::Accept).unwrap());
        assert!(!path.exists());
        keep(&path, &before).unwrap(); // As if it had died
        ksm.set(&flat_out()).unwrap(); // in the middle.
        let burst = Burst::start(&ksm, &path, Others::Refuse(&|_| true)).unwrap();
        assert_eq!(ksm.settings().unwrap(), before);
        drop(burst);
    }

    #[test]
    fn settings_of_another_start_of_the_machine_are_not_set() {
        let (folder, ksm) = pretended();
        let (path, before) = (folder.path().join("kept"), ksm.settings().unwrap());
        let kept = Kept { boot: "another".to_owned(), settings: flat_out() };
        fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
        assert!(!restore_kept(&ksm, &path).unwrap());
        assert_eq!((ksm.settings().unwrap(), path.exists()), (before, false));
    }

    #[test]
    fn who_runs_it_keeps_it() {
        let (folder, ksm) = pretended();
        ksm.write(RUN, "1").unwrap();
        let refused = Burst::start(&ksm, &folder.path().join("kept"), Others::Refuse(&|_| true)).unwrap_err();
        assert!(matches!(refused, KsmError::InUse { .. }), "{refused}");
        assert!(!folder.path().join("kept").exists());
        assert_eq!(ksm.settings().unwrap().get(RUN), Some("1"));
    }

    #[test]
    fn it_settles_when_a_scan_brings_nothing_and_not_before_pages_were_seen_twice() {
        let counters =
            |full_scans, pages_sharing| Counters { full_scans, pages_sharing, ..Counters::default() };
        let settled = |at_scan, now| has_settled(&counters(7, 0), &at_scan, &now);
        assert!(!settled(counters(8, 0), counters(9, 0)));
        assert!(!settled(counters(9, 0), counters(10, 1000)));
        assert!(!settled(counters(10, 1000), counters(10, 1000)));
        assert!(settled(counters(10, 1000), counters(11, 1003)));
    }
}
