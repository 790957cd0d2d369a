//! What stands for the content of a page in the index.

use xxhash_rust::xxh3::xxh3_64;

/// Hash of the content of a page. It finds pages that may be equal; whether they are is decided by whoever merges them,
/// byte by byte. So 64 bits are enough, and no key is needed: a collision costs a look in vain, and only those who share
/// a domain can look for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageHash(pub(crate) u64);

impl PageHash {
    /// The hash of this content.
    pub fn of(page: &[u8]) -> Self {
        Self(xxh3_64(page))
    }
}
