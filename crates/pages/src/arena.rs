//! Where stored bytes live. The store decides what to keep; an arena only holds it. The arena of a node is a
//! sealed memory mapping and is written where the system calls are; the one here is the plain heap.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Holds the store's bytes. Many threads use it at once.
pub trait Arena: Send + Sync {
    /// The right to stored bytes. It is handed out by `put`, cannot be copied, and ends with `remove`: so there
    /// is no way to read bytes that were removed.
    type Blob: Send + Sync;

    /// Keeps a copy of `bytes`, at a place aligned to `align` (a power of two) as far as places mean something.
    fn put(&self, bytes: &[u8], align: usize) -> Result<Self::Blob, ArenaError>;

    /// The bytes of `blob`: as many as were put. They are as safe as the memory they lie in, so readers check.
    fn get<'a>(&'a self, blob: &'a Self::Blob) -> &'a [u8];

    /// Gives the memory of `blob` back.
    fn remove(&self, blob: Self::Blob);

    /// The sum of the lengths of all blobs.
    fn used_bytes(&self) -> u64;

    /// The memory that they really take: with what was lost to rounding and fragmentation.
    fn held_bytes(&self) -> u64;
}

/// Bytes could not be kept. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The arena is full: the caller frees something, or leaves the sandbox warm.
    #[error("no room for {wanted_bytes} bytes in an arena of {capacity_bytes}")]
    Full {
        /// How much was to be put.
        wanted_bytes: u64,
        /// How much the arena may ever hold.
        capacity_bytes: u64,
    },
    /// The system gave no memory: no arena of this machine can be relied on now.
    #[error("get memory for {wanted_bytes} bytes")]
    Memory {
        /// How much was to be put.
        wanted_bytes: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// An arena on the heap, bounded by a capacity. Alignment means nothing to it.
#[derive(Debug)]
pub struct HeapArena {
    capacity_bytes: u64,
    used_bytes: AtomicU64,
}

impl HeapArena {
    /// An empty arena that never holds more than `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> Self {
        Self { capacity_bytes, used_bytes: AtomicU64::new(0) }
    }
}

impl Arena for HeapArena {
    type Blob = Box<[u8]>;

    fn put(&self, bytes: &[u8], _align: usize) -> Result<Box<[u8]>, ArenaError> {
        let wanted_bytes = bytes.len() as u64;
        let full = || ArenaError::Full { wanted_bytes, capacity_bytes: self.capacity_bytes };
        let grow = |used: u64| used.checked_add(wanted_bytes).filter(|&sum| sum <= self.capacity_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).map_err(|_| full())?;
        Ok(bytes.into())
    }

    fn get<'a>(&'a self, blob: &'a Box<[u8]>) -> &'a [u8] {
        blob
    }

    fn remove(&self, blob: Box<[u8]>) {
        self.used_bytes.fetch_sub(blob.len() as u64, Ordering::Relaxed);
    }

    fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn held_bytes(&self) -> u64 {
        self.used_bytes()
    }
}
