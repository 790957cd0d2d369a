//! The mappings that `memory` holds, one of each kind.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::content::{self, PAGE_BYTES};
use crate::region::Region;

/// Bytes of a region that is there for its kind, not for its size.
const SMALL_BYTES: usize = 64 * PAGE_BYTES;

/// Bytes of a transparent huge page.
const HUGE_BYTES: usize = 2 << 20;

/// One page in so many is written in a region with holes.
const HOLE_STRIDE: usize = 7;

/// One page in so many is written in a private file mapping.
const COPY_STRIDE: usize = 5;

/// What a child forked now is to share: private pages until one of them writes, shared ones for good.
pub(super) fn of_the_family(seed: u64) -> io::Result<Vec<Region>> {
    let mut regions = vec![plain("family", 4 * SMALL_BYTES, seed ^ 10)?, shared_anonymous(seed ^ 11)?];
    regions.extend(of_memfd(seed ^ 12)?);
    Ok(regions)
}

/// All other regions. No other process has any of these pages.
pub(super) fn of_its_own(seed: u64, mib: u64) -> io::Result<Vec<Region>> {
    Ok(vec![
        plain("big", (mib as usize) << 20, seed)?,
        plain("mapped", 4 * SMALL_BYTES, seed ^ 1)?,
        protected("prot-none", libc::PROT_NONE, seed ^ 2)?,
        protected("read-only", libc::PROT_READ, seed ^ 3)?,
        locked(seed ^ 4)?,
        huge(seed ^ 5)?,
        holes(seed ^ 6)?,
        zeros()?,
        advised("dontfork", libc::MADV_DONTFORK, seed ^ 7)?,
        advised("wipeonfork", libc::MADV_WIPEONFORK, seed ^ 8)?,
        downwards(seed ^ 9)?,
        copied("file-private", &unlinked_file()?, seed ^ 13)?,
    ])
}

fn plain(name: &'static str, len_bytes: usize, seed: u64) -> io::Result<Region> {
    let mut region = Region::private(name, len_bytes)?;
    content::fill(region.bytes_mut(), seed);
    Ok(region)
}

fn protected(name: &'static str, prot: libc::c_int, seed: u64) -> io::Result<Region> {
    let mut region = plain(name, SMALL_BYTES, seed)?;
    region.protect(prot)?;
    Ok(region)
}

fn advised(name: &'static str, advice: libc::c_int, seed: u64) -> io::Result<Region> {
    let mut region = plain(name, SMALL_BYTES, seed)?;
    region.advise(SMALL_BYTES, advice)?;
    Ok(region)
}

fn locked(seed: u64) -> io::Result<Region> {
    let mut region = plain("mlocked", SMALL_BYTES, seed)?;
    region.lock()?;
    Ok(region)
}

/// Three huge pages long, so that at least two are aligned wherever the kernel puts it.
fn huge(seed: u64) -> io::Result<Region> {
    let mut region = Region::private("thp", 3 * HUGE_BYTES)?;
    region.advise(3 * HUGE_BYTES, libc::MADV_HUGEPAGE)?;
    content::fill(region.bytes_mut(), seed);
    Ok(region)
}

fn holes(seed: u64) -> io::Result<Region> {
    let mut region = Region::private("holes", 8 * SMALL_BYTES)?;
    for page in region.bytes_mut().chunks_mut(PAGE_BYTES).step_by(HOLE_STRIDE) {
        content::fill(page, seed);
    }
    Ok(region)
}

/// Pages that are there, because they were written, and hold nothing but zeros.
fn zeros() -> io::Result<Region> {
    let mut region = Region::private("zeros", SMALL_BYTES)?;
    for page in region.bytes_mut().chunks_mut(PAGE_BYTES) {
        page[0] = 1;
        std::hint::black_box(&page);
        page[0] = 0;
    }
    Ok(region)
}

/// A mapping that grows downwards, as the main stack does.
fn downwards(seed: u64) -> io::Result<Region> {
    let flags = libc::MAP_PRIVATE | libc::MAP_GROWSDOWN;
    let mut region = Region::anonymous("growsdown", SMALL_BYTES, flags)?;
    content::fill(region.bytes_mut(), seed);
    Ok(region)
}

fn shared_anonymous(seed: u64) -> io::Result<Region> {
    let mut region = Region::anonymous("shared-anon", SMALL_BYTES, libc::MAP_SHARED)?;
    content::fill(region.bytes_mut(), seed);
    Ok(region)
}

/// A memfd mapped twice: shared, and private with some pages copied.
fn of_memfd(seed: u64) -> io::Result<[Region; 2]> {
    let memfd = File::from(memfd_create("specimen", MemfdFlags::CLOEXEC)?);
    let private = copied("memfd-private", &memfd, seed)?;
    let shared = Region::of_file("memfd-shared", SMALL_BYTES, libc::MAP_SHARED, memfd.as_fd())?;
    Ok([shared, private])
}

/// Writes to the file, maps it privately and writes to some of the pages.
fn copied(name: &'static str, mut file: &File, seed: u64) -> io::Result<Region> {
    let mut original = vec![0; SMALL_BYTES];
    content::fill(&mut original, seed);
    file.write_all(&original)?;
    let mut region = Region::of_file(name, SMALL_BYTES, libc::MAP_PRIVATE, file.as_fd())?;
    for page in region.bytes_mut().chunks_mut(PAGE_BYTES).step_by(COPY_STRIDE) {
        content::fill(page, seed ^ 0xc0b1);
    }
    Ok(region)
}

/// A file on disk that no longer has a name, so that it goes with us.
fn unlinked_file() -> io::Result<File> {
    tempfile::tempfile()
}
