//! The shadow of a process that is awake: its memory as it still stands in the store, and a userfaultfd that notes
//! which pages are written. At the next sleep, those that were not are not encoded again, and read only where a base needs
//! their fingerprints.
//!
//! A page belongs to the shadow only if it is known to hold what the manifest says: it was filled from there, at the
//! same address, with writes noted from that moment on. Pages of the working set do not belong: they are written by
//! every invocation, and noting it would cost each of them a fault.

use std::io;
use std::sync::Arc;

use linux::maps::{Flags, Mapping};
use linux::pagemap::PageMap;
use linux::userfault::Userfault;
use linux::{carry, maps};
use pages::{Manifest, PageRange};
use rustix::io::Errno;

use crate::ranges::{common, without};

/// What is known of one process that is awake. Dropping it ends the noting.
pub(crate) struct Shadow {
    pub(crate) pid: i32,
    pub(crate) manifest: Arc<Manifest>,
    writes: Userfault,
}

/// A userfaultfd that is to note what is written in a process.
pub(crate) struct Noting {
    writes: Userfault,
    has_begun: bool,
}

impl Noting {
    pub(crate) fn new(writes: Userfault) -> Noting {
        Noting { writes, has_begun: false }
    }

    /// From now on it notes writes to the `clean` pages of a mapping.
    fn begin(&mut self, mapping: &Mapping, clean: &[PageRange]) -> io::Result<()> {
        self.writes.register_writes(mapping.start, mapping.end)?;
        self.has_begun = true;
        clean.iter().try_for_each(|run| self.writes.note_writes(run.start().get(), run.end().get()))
    }

    /// The shadow that has been cast. `None`: nothing is noted.
    pub(crate) fn shadow(self, pid: i32, manifest: &Arc<Manifest>) -> Option<Shadow> {
        self.has_begun.then(|| Shadow { pid, manifest: Arc::clone(manifest), writes: self.writes })
    }
}

/// A process whose memory is back, and that stands still; its faults are still watched.
pub(crate) struct Whole<'a> {
    pub(crate) pid: i32,
    pub(crate) manifest: &'a Arc<Manifest>,
    /// Watches its missing pages, and has noted writes since they were filled.
    pub(crate) faults: &'a Userfault,
    /// Where pages stand that came from other addresses.
    pub(crate) moved: &'a [PageRange],
    /// Pages that will be written anyhow.
    pub(crate) hot: &'a [PageRange],
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Casting {
    /// Missing pages are no longer watched.
    Done,
    /// All is as it was: it shall run on, and be asked again.
    BrokenOff,
}

impl Whole<'_> {
    /// Ends the watch over missing pages, mapping by mapping, and has `noting` note what is written from then on. `noting`
    /// is `None` afterwards if there is something that writes without being noted, or if there was no time. On error some of
    /// the process may still be watched for missing pages.
    pub(crate) fn cast(
        &self,
        noting: &mut Option<Noting>,
        give_up: &dyn Fn() -> bool,
    ) -> io::Result<Casting> {
        let Whole { pid, faults, .. } = *self;
        let mappings = match maps::read_without_flags_unless(pid, give_up) {
            Err(_) if faults.is_orphaned() => return Ok(Casting::Done), // It died.
            Err(_) if give_up() => return Ok(Casting::BrokenOff),
            mappings => mappings?,
        };
        noting.take_if(|_| !matches!(carry::direct_writes(pid, &mappings), Ok(None)));
        let clean = match noting {
            Some(_) => self.still_as_stored(&mappings, give_up).unwrap_or_default(),
            None => Vec::new(),
        };
        if give_up() {
            return Ok(Casting::BrokenOff); // The last moment at which nothing is lost.
        }
        let Some(mappings) = ours(&mappings, faults)? else { return Ok(Casting::Done) };
        for mapping in &mappings {
            match faults.unregister(mapping.start, mapping.end) {
                Err(_) if faults.is_orphaned() => return Ok(Casting::Done), // It died.
                done => done?,
            }
            if noting.is_some() && give_up() {
                *noting = None; // To end the watch is half of the work: the invocation waits for no more.
            }
            let clean = common(&[mapping.range()], &clean);
            let Some(begun) = noting.as_mut().filter(|_| !clean.is_empty()) else { continue };
            if let Err(error) = begun.begin(mapping, &clean) {
                tracing::debug!(pid, %error, "cannot note writes: the next sleep looks at every page");
                *noting = None;
            }
        }
        Ok(Casting::Done)
    }

    /// Pages that hold what the manifest says of their address.
    fn still_as_stored(
        &self,
        mappings: &[Mapping],
        give_up: &dyn Fn() -> bool,
    ) -> io::Result<Vec<PageRange>> {
        let mut page_map = PageMap::open(self.pid)?;
        let mappings = || mappings.iter().filter(|mapping| mapping.is_private_anonymous());
        page_map.look_over(mappings(), give_up)?;
        let mut runs = Vec::new();
        for mapping in mappings() {
            page_map.unwritten(mapping.start, mapping.end, &mut runs)?;
        }
        let content: Vec<_> = self.manifest.content_ranges().collect();
        Ok(without(&without(&common(&runs, &content), self.moved), self.hot))
    }
}

impl Shadow {
    /// Pages that were not written since, in order; for a process that is stopped. The marks of the noting are taken
    /// out of `mappings`: what remains is of the program's own doing.
    pub(crate) fn unwritten(
        &self,
        mappings: &mut [Mapping],
        page_map: &mut PageMap,
    ) -> io::Result<Vec<PageRange>> {
        let mut runs = Vec::new();
        for mapping in mappings.iter_mut().filter(|mapping| mapping.flags.any(&[Flags::USERFAULT_WRITE])) {
            if self.writes.register_writes(mapping.start, mapping.end).is_ok() {
                mapping.flags = mapping.flags.without(Flags::USERFAULT_WRITE);
                page_map.unwritten(mapping.start, mapping.end, &mut runs)?;
            } // Else somebody else watches it.
        }
        Ok(common(&runs, &self.manifest.content_ranges().collect::<Vec<_>>()))
    }
}

/// Mappings that are watched by us, or by nobody. `None`: the process died.
fn ours<'a>(mappings: &'a [Mapping], faults: &Userfault) -> io::Result<Option<Vec<&'a Mapping>>> {
    // Busy: the program watches it itself. Invalid: it is of a kind that cannot be watched.
    const NOT_OURS: [Errno; 2] = [Errno::BUSY, Errno::INVAL];
    let mut ours = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.is_private_anonymous()) {
        match faults.register(mapping.start, mapping.end) {
            Ok(()) => ours.push(mapping),
            Err(error) if NOT_OURS.iter().any(|no| error.raw_os_error() == Some(no.raw_os_error())) => {}
            Err(_) if faults.is_orphaned() => return Ok(None),
            Err(error) => return Err(error), // One of ours may be left watched, with nobody who serves it.
        }
    }
    Ok(Some(ours))
}
