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

impl Shadow {
    /// Ends the watch over missing pages, and casts the shadow. `None`: there is nothing to note, or something that
    /// writes without being noted. On error some of the process may still be watched for missing pages.
    pub(crate) fn cast(whole: &Whole<'_>, writes: Option<Userfault>) -> io::Result<Option<Shadow>> {
        let Whole { pid, faults, .. } = *whole;
        let mappings = match maps::read_without_flags(pid) {
            Err(_) if faults.is_orphaned() => return Ok(None), // It died.
            mappings => mappings?,
        };
        let is_noted = writes.is_some() && matches!(carry::direct_writes(pid, &mappings), Ok(None));
        let Some(mappings) = ours(&mappings, faults)? else { return Ok(None) };
        let clean = if is_noted { still_as_stored(whole, &mappings).unwrap_or_default() } else { Vec::new() };
        for mapping in &mappings {
            match faults.unregister(mapping.start, mapping.end) {
                Err(_) if faults.is_orphaned() => return Ok(None), // It died.
                done => done?,
            }
        }
        let Some(writes) = writes.filter(|_| !clean.is_empty()) else { return Ok(None) };
        let note = |mapping: &&Mapping| -> io::Result<()> {
            let clean = common(&[mapping.range()], &clean);
            if !clean.is_empty() {
                writes.register_writes(mapping.start, mapping.end)?;
            }
            clean.iter().try_for_each(|run| writes.note_writes(run.start().get(), run.end().get()))
        };
        if let Err(error) = mappings.iter().try_for_each(note) {
            tracing::debug!(pid, %error, "cannot note writes: the next sleep looks at every page");
            return Ok(None);
        }
        Ok(Some(Shadow { pid, manifest: Arc::clone(whole.manifest), writes }))
    }

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

/// Pages that hold what the manifest says of their address.
fn still_as_stored(whole: &Whole<'_>, mappings: &[&Mapping]) -> io::Result<Vec<PageRange>> {
    let mut page_map = PageMap::open(whole.pid)?;
    page_map.look_over(mappings.iter().copied(), &|| false)?;
    let mut runs = Vec::new();
    for mapping in mappings {
        page_map.unwritten(mapping.start, mapping.end, &mut runs)?;
    }
    let content: Vec<_> = whole.manifest.content_ranges().collect();
    Ok(without(&without(&common(&runs, &content), whole.moved), whole.hot))
}
