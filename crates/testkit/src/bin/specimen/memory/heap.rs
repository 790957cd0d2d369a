//! Many blocks from the allocator, small enough to lie in the `brk` heap.

use crate::content;

/// Blocks at the start.
const BLOCKS: u64 = 512;

/// Bytes of the smallest block; others are up to twice as long. Far below the `mmap` threshold of malloc.
const BLOCK_BYTES: u64 = 2000;

/// Blocks held, in order of allocation.
pub(super) struct Heap {
    blocks: Vec<Vec<u8>>,
}

impl Heap {
    /// A heap with content.
    pub(super) fn filled(seed: u64) -> Heap {
        let mut heap = Heap { blocks: Vec::new() };
        heap.grow(seed);
        heap
    }

    /// Hash of all blocks.
    pub(super) fn sum(&self) -> u64 {
        content::combine(self.blocks.iter().map(|block| content::sum(block)))
    }

    /// Changes some blocks.
    pub(super) fn mutate(&mut self, seed: u64) {
        for (block, index) in self.blocks.iter_mut().zip(0u64..) {
            content::mutate(block, content::mix(seed) ^ index);
        }
    }

    /// Takes as many blocks again as at the start.
    pub(super) fn grow(&mut self, seed: u64) -> String {
        let first = self.blocks.len() as u64;
        self.blocks.extend((first..first + BLOCKS).map(|index| {
            let draw = content::mix(seed ^ index);
            let mut block = vec![0; (BLOCK_BYTES + draw % BLOCK_BYTES) as usize];
            content::fill(&mut block, draw);
            block
        }));
        self.state()
    }

    /// Gives half of the blocks back, the newest first, and asks the allocator to pass them on to the kernel.
    pub(super) fn shrink(&mut self) -> String {
        self.blocks.truncate(self.blocks.len() / 2);
        // SAFETY: `malloc_trim` touches only memory that nobody holds.
        unsafe { libc::malloc_trim(0) };
        self.state()
    }

    fn state(&self) -> String {
        format!("blocks={} sum={:016x}", self.blocks.len(), self.sum())
    }
}
