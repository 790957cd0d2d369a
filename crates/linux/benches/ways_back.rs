//! What it costs to bring a page back into a process, in every way that stock Linux has, next to copying it: filled
//! (`UFFDIO_COPY`, in runs of some pages), or mapped from the store and copied on the first write.

#![allow(missing_docs, unsafe_code, clippy::unwrap_used)]

use std::fs::File;
use std::hint::black_box;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::null_mut;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use linux::userfault::{Userfault, Watch};
use pages::{PAGE_SIZE, PageAddr};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};

const PAGES: usize = 4096;
const BYTES: usize = PAGES * PAGE_SIZE;

/// Memory that stands for that of a process, and a memory file that stands for the store.
struct Memory {
    at: *mut u8,
    file: File,
    store: *const u8,
}

impl Memory {
    fn new() -> Memory {
        let (prot, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let file = File::from(memfd_create(c"store", MemfdFlags::CLOEXEC).unwrap());
        file.write_all_at(&vec![0xa5; BYTES], 0).unwrap();
        // SAFETY: a new mapping, at no address that we chose.
        let at = unsafe { mmap_anonymous(null_mut(), BYTES, prot, private) }.unwrap().cast();
        // SAFETY: as above; nobody writes to the file any more.
        let store = unsafe { mmap(null_mut(), BYTES, ProtFlags::READ, MapFlags::SHARED, &file, 0) };
        Memory { at, file, store: store.unwrap().cast_const().cast() }
    }

    fn store(&self) -> &[u8] {
        // SAFETY: mapped for as long as the program runs, `BYTES` long, and written by nobody.
        unsafe { std::slice::from_raw_parts(self.store, BYTES) }
    }

    fn addr(&self, page: usize) -> PageAddr {
        PageAddr::containing(self.at.addr() as u64) + page as u64
    }

    /// Gives all of it back to the kernel.
    fn empty(&self) {
        // SAFETY: the range is ours, and nobody holds a reference into it.
        unsafe { madvise(self.at.cast(), BYTES, Advice::LinuxDontNeed) }.unwrap();
    }

    /// Fresh anonymous memory in its place.
    fn renew(&self) {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
        // SAFETY: the range is ours, and nobody holds a reference into it.
        unsafe { mmap_anonymous(self.at.cast(), BYTES, prot, flags) }.unwrap();
    }

    /// Maps every second run of `pages` pages from the store.
    fn map(&self, pages: usize) {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
        for page in (0..PAGES).step_by(2 * pages) {
            let offset = page * PAGE_SIZE;
            // SAFETY: inside our memory.
            let at = unsafe { self.at.add(offset) };
            // SAFETY: the range is ours, and nobody holds a reference into it.
            unsafe { mmap(at.cast(), pages * PAGE_SIZE, prot, flags, &self.file, offset as u64) }.unwrap();
        }
    }

    /// Touches every second run of `pages` pages.
    fn touch(&self, pages: usize, is_write: bool) {
        for page in (0..PAGES).filter(|page| (page / pages).is_multiple_of(2)) {
            // SAFETY: inside our memory.
            let at = unsafe { self.at.add(page * PAGE_SIZE) };
            // SAFETY: readable and writable, and no reference into it lives.
            let byte = unsafe { at.read_volatile() };
            if is_write {
                // SAFETY: as above.
                unsafe { at.write_volatile(byte) };
            }
        }
    }

    /// Fills every second run of `pages` pages.
    fn fill(&self, userfault: &Userfault, pages: usize) {
        for page in (0..PAGES).step_by(2 * pages) {
            let bytes = &self.store()[page * PAGE_SIZE..][..pages * PAGE_SIZE];
            userfault.fill(self.addr(page), bytes).unwrap();
        }
    }
}

fn userfault() -> Userfault {
    // SAFETY: no pointers; a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    assert!(fd >= 0, "run it as root: {}", std::io::Error::last_os_error());
    // SAFETY: fresh, and nobody else knows it.
    Userfault::set_up(unsafe { OwnedFd::from_raw_fd(fd as i32) }, Watch::Faults).unwrap()
}

fn filled(group: &mut BenchmarkGroup<'_, WallTime>, memory: &Memory) {
    let userfault = userfault();
    let (start, end) = (memory.addr(0).get(), memory.addr(PAGES).get());
    for pages in [1, 8, 64] {
        group.bench_function(format!("filled, {pages} at a time"), |bencher| {
            let set_up = || {
                memory.renew();
                userfault.register(start, end).unwrap();
            };
            bencher.iter_batched(set_up, |()| memory.fill(&userfault, pages), BatchSize::PerIteration);
        });
    }
    userfault.unregister(start, end).unwrap();
}

fn mapped(group: &mut BenchmarkGroup<'_, WallTime>, memory: &Memory) {
    for pages in [1, 8, 64] {
        for (touch, how) in [(None, "not touched"), (Some(false), "read"), (Some(true), "written")] {
            group.bench_function(format!("mapped, {pages} at a time, {how}"), |bencher| {
                let work = |()| {
                    memory.map(pages);
                    touch.into_iter().for_each(|is_write| memory.touch(pages, is_write));
                };
                bencher.iter_batched(|| memory.renew(), work, BatchSize::PerIteration);
            });
        }
    }
    memory.renew();
}

fn ways_back(criterion: &mut Criterion) {
    let memory = Memory::new();
    let mut group = criterion.benchmark_group("a page comes back");
    group.throughput(Throughput::Bytes(BYTES as u64 / 2)).sample_size(30);
    let mut copy = vec![0u8; BYTES];
    group.bench_function("copied within one process", |bencher| {
        bencher.iter(|| {
            let runs = copy.chunks_mut(PAGE_SIZE).zip(memory.store().chunks(PAGE_SIZE)).step_by(2);
            runs.for_each(|(to, from)| to.copy_from_slice(from));
            black_box(&copy);
        });
    });
    group.bench_function("fresh, written for the first time", |bencher| {
        bencher.iter_batched(|| memory.empty(), |()| memory.touch(1, true), BatchSize::PerIteration);
    });
    filled(&mut group, &memory);
    mapped(&mut group, &memory);
    group.finish();
}

criterion_group!(benches, ways_back);
criterion_main!(benches);
