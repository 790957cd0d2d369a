//! `memory [SEED] [MIB]`: holds every kind of private memory there is, and states hashes of it that it computes
//! itself. What it holds follows from the seed and the commands so far, never from addresses: a twin that is given
//! the same must answer the same.

mod acts;
mod family;
mod heap;
mod image;
mod kinds;
mod stacks;

use std::io;
use std::os::fd::RawFd;

use crate::content;
use crate::control::{Control, number, unknown};
use crate::region::Region;

use family::Child;
use heap::Heap;
use image::{Image, Jit};
use stacks::Stacks;

/// Bytes of the main thread's stack that are filled.
const MAIN_STACK_BYTES: usize = 256 << 10;

/// Size of the one big mapping, where the test does not say.
const MIB_DEFAULT: u64 = 4;

/// All that it holds, the main thread's stack excepted.
struct Memory {
    seed: u64,
    regions: Vec<Region>,
    heap: Heap,
    image: Image,
    jit: Jit,
    stacks: Stacks,
    child: Child,
}

/// Builds everything, then answers.
pub(crate) fn run(mut control: Control, args: &[&str]) -> io::Result<()> {
    let seed = if args.is_empty() { 1 } else { number(args, 0)? };
    let mib = if args.len() < 2 { MIB_DEFAULT } else { number(args, 1)? };
    let mut stack = [0u8; MAIN_STACK_BYTES];
    content::fill(&mut stack, seed ^ 0x57ac);
    let mut memory = Memory::build(seed, mib, control.raw_fd())?;
    let fd = control.raw_fd();
    control.serve(&format!("seed {seed}"), |verb, rest| {
        let stack = std::hint::black_box(&mut stack[..]);
        match verb {
            "checksum" => memory.checksum(stack),
            "mutate" => memory.mutate(number(rest, 0)?, stack),
            "exec" => Err(memory.exec(fd)),
            verb => memory.act(verb, rest),
        }
    })?;
    memory.child.dismiss()
}

impl Memory {
    /// The child is forked while there is one thread. What is written after that, no other process shares.
    fn build(seed: u64, mib: u64, control: RawFd) -> io::Result<Memory> {
        let mut regions = kinds::of_the_family(seed)?;
        let child = Child::fork(&mut regions, control)?;
        regions.extend(kinds::of_its_own(seed, mib)?);
        let heap = Heap::filled(seed);
        let image = Image::filled(seed);
        let jit = Jit::written(seed)?;
        let stacks = Stacks::start(seed)?;
        Ok(Memory { seed, regions, heap, image, jit, stacks, child })
    }

    /// `all=HASH` and one hash for each kind of memory, so that a difference has a name.
    fn checksum(&mut self, stack: &[u8]) -> io::Result<String> {
        let mut sums = self.inherited_sums()?;
        sums.push(("main-stack", content::sum(stack)));
        sums.push(("stacks", self.stacks.sum()?));
        sums.push(("child", self.child.sum()?));
        let all = content::combine(sums.iter().map(|(_, sum)| *sum));
        let parts: Vec<String> = sums.iter().map(|(name, sum)| format!("{name}={sum:016x}")).collect();
        Ok(format!("all={all:016x} {}", parts.join(" ")))
    }

    /// What a forked child has too, but for its `MADV_DONTFORK` and `MADV_WIPEONFORK` regions.
    fn inherited_sums(&mut self) -> io::Result<Vec<(&'static str, u64)>> {
        let mut sums = Vec::new();
        for region in &mut self.regions {
            sums.push((region.name(), region.sum()?));
        }
        sums.push(("heap", self.heap.sum()));
        sums.extend(self.image.sums());
        sums.push(("jit", self.jit.call()?));
        Ok(sums)
    }

    /// Changes some pages of everything; the child gets other changes than the parent.
    fn mutate(&mut self, seed: u64, stack: &mut [u8]) -> io::Result<String> {
        for region in &mut self.regions {
            region.mutate(content::mix(seed ^ content::sum(region.name().as_bytes())))?;
        }
        self.heap.mutate(seed);
        self.image.mutate(seed);
        self.jit.rewrite(seed)?;
        content::mutate(stack, seed);
        self.stacks.mutate(seed)?;
        self.child.mutate(seed.wrapping_add(1))?;
        Ok("mutated".to_owned())
    }

    /// The region of this name.
    fn region(&mut self, name: &str) -> io::Result<&mut Region> {
        let found = self.regions.iter_mut().find(|region| region.name() == name);
        found.ok_or_else(|| io::Error::other(format!("no region {name:?}")))
    }

    fn act(&mut self, verb: &str, rest: &[&str]) -> io::Result<String> {
        match verb {
            "kinds" => Ok(self.regions.iter().map(Region::name).collect::<Vec<_>>().join(" ")),
            "fork" => self.fork(),
            "spawn" => acts::spawn(),
            "thread" => self.thread(),
            "mmap" => self.mmap(number(rest, 0)?),
            "munmap" => self.munmap(),
            "mprotect" => self.mprotect(),
            "mremap-grow" => self.mremap_grow(),
            "mremap-move" => self.mremap_move(),
            "dontneed" => self.dontneed(),
            "grow-heap" => Ok(self.heap.grow(self.seed)),
            "shrink-heap" => Ok(self.heap.shrink()),
            "pipe" => self.pipe(),
            verb => Err(unknown(verb)),
        }
    }
}
