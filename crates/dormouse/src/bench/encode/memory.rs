//! The private memory of a worker, read while it stands still.

use linux::maps;
use linux::memory::Memory;
use linux::pagemap::PageMap;
use pages::{Page, PageAddr, PageRange};

use crate::bench::error::BenchError;
use crate::bench::frozen;
use crate::bench::worker::Worker;
use crate::bench::workshop::{Kind, Workshop};

/// What one process held.
#[derive(Debug)]
pub(super) struct Image {
    /// Everything that was mapped.
    pub(super) mapped: Vec<PageRange>,
    /// Where the pages lay, upwards.
    pub(super) addrs: Vec<PageAddr>,
    /// Its own pages that are not all zeros.
    pub(super) pages: Vec<Page>,
}

impl Image {
    /// Starts a worker, warms it up, reads its memory, and ends it.
    pub(super) fn of(workshop: &Workshop, kind: Kind) -> Result<Image, BenchError> {
        let worker = workshop.start(kind, "encoded", true)?;
        worker.line().ask_when_ready(0)?.answer()?;
        frozen::freeze(&worker)?;
        read(&worker).map_err(BenchError::system("read the memory of a worker"))
    }

    /// Bytes of its pages.
    pub(super) fn content_bytes(&self) -> u64 {
        self.pages.as_flattened().len() as u64
    }
}

fn read(worker: &Worker) -> std::io::Result<Image> {
    let pid = worker.pid();
    let (mappings, memory, mut page_map) = (maps::read(pid)?, Memory::open(pid)?, PageMap::open(pid)?);
    let range = |mapping: &maps::Mapping| {
        PageRange::from_bounds(PageAddr::containing(mapping.start), PageAddr::containing(mapping.end))
    };
    let mut image =
        Image { mapped: mappings.iter().map(range).collect(), addrs: Vec::new(), pages: Vec::new() };
    let mut runs = Vec::new();
    for mapping in mappings.iter().filter(|m| m.is_private_anonymous() || m.is_private_file()) {
        page_map.own_pages(mapping, &mut runs)?;
    }
    for addr in runs.into_iter().flat_map(PageRange::addrs) {
        let mut page = [0; pages::PAGE_SIZE];
        memory.read(addr.get(), &mut page)?;
        if page.iter().any(|byte| *byte != 0) {
            image.addrs.push(addr);
            image.pages.push(page);
        }
    }
    Ok(image)
}
