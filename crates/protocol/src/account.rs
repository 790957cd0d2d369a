//! What a sandbox costs, and what its sleep saves. Savings are computed here and nowhere else.

use serde::{Deserialize, Serialize};

/// The memory one sandbox costs the machine, in bytes. A page that several sandboxes share is counted to each
/// by its part: the sum over all sandboxes is what the machine pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Private memory (anonymous, and private copies of file pages) when it last went to sleep; while it is awake and
    /// all its memory is back, what it has now.
    pub warm_bytes: u64,
    /// Private memory that is resident now.
    pub resident_bytes: u64,
    /// Resident file and shared memory. Others use it too and it stays, so it is shown but not counted as cost.
    pub shared_bytes: u64,
    /// Its part of stored pages that other sandboxes have too.
    pub store_identical_bytes: u64,
    /// Patches of its own, and their part of the base pages that they are patches against.
    pub store_patched_bytes: u64,
    /// Stored pages of its own, compressed.
    pub store_packed_bytes: u64,
    /// Stored pages of its own, kept whole.
    pub store_whole_bytes: u64,
    /// The manifest, and its part of the store's tables.
    pub manifest_bytes: u64,
    /// Page tables of its processes.
    pub page_table_bytes: u64,
    /// Other kernel memory charged to it: stacks, task and socket structures.
    pub kernel_bytes: u64,
}

impl Account {
    /// Everything it costs now.
    pub fn kept_bytes(&self) -> u64 {
        self.resident_bytes + self.store_bytes() + self.page_table_bytes + self.kernel_bytes
    }

    /// What the store and our own tables hold for it.
    pub fn store_bytes(&self) -> u64 {
        let pages = self.store_identical_bytes + self.store_patched_bytes;
        pages + self.store_packed_bytes + self.store_whole_bytes + self.manifest_bytes
    }

    /// Warm private memory minus everything kept; negative where sleep costs more than it gives.
    pub fn saved_bytes(&self) -> i64 {
        self.warm_bytes as i64 - self.kept_bytes() as i64
    }

    /// Adds another sandbox's account, for totals.
    pub fn add(&mut self, other: &Account) {
        self.warm_bytes += other.warm_bytes;
        self.resident_bytes += other.resident_bytes;
        self.shared_bytes += other.shared_bytes;
        self.store_identical_bytes += other.store_identical_bytes;
        self.store_patched_bytes += other.store_patched_bytes;
        self.store_packed_bytes += other.store_packed_bytes;
        self.store_whole_bytes += other.store_whole_bytes;
        self.manifest_bytes += other.manifest_bytes;
        self.page_table_bytes += other.page_table_bytes;
        self.kernel_bytes += other.kernel_bytes;
    }
}
