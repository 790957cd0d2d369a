//! A page's content in eight bytes. It finds pages that may be alike and it finds damage; whether two pages are
//! alike is always decided by their bytes.

use xxhash_rust::xxh3::{xxh3_64_with_secret, xxh3_64_with_seed};

use crate::{Domain, PAGE_SIZE};

/// The content of one page.
pub type Page = [u8; PAGE_SIZE];

/// What XXH3 mixes into the content; long enough for its longest form.
const SECRET_LEN: usize = 192;

/// Hash of a page's content, keyed by the store. It serves twice, and 64 bits are enough for both:
/// to find candidates, where a collision costs one comparison of bytes; and to check a page that was rebuilt from
/// memory that could be damaged, where it misses once in 2^64 damages. Both need nothing of cryptography: who
/// cannot read the key cannot search for collisions, and who finds one has wasted his own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageId(u64);

impl PageId {
    /// The hash as a number.
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// Computes the page ids of one store.
#[derive(Debug)]
pub(crate) struct PageHasher {
    secret: [u8; SECRET_LEN],
    #[cfg(test)]
    constant: bool,
}

impl PageHasher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut secret = [0; SECRET_LEN];
        for (n, word) in secret.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&xxh3_64_with_seed(key, n as u64).to_le_bytes());
        }
        Self {
            secret,
            #[cfg(test)]
            constant: false,
        }
    }

    /// A hasher to which all pages are alike, to show that nothing rests on the hash.
    #[cfg(test)]
    pub(crate) fn constant() -> Self {
        Self { constant: true, ..Self::new(&[0; 32]) }
    }

    pub(crate) fn page_id(&self, page: &Page) -> PageId {
        #[cfg(test)]
        if self.constant {
            return PageId(7);
        }
        PageId(xxh3_64_with_secret(page, &self.secret))
    }

    /// What tells the pages of one domain apart from equal pages of another, in the index.
    pub(crate) fn domain_tag(&self, domain: &Domain) -> u64 {
        match domain {
            Domain::Named(name) => xxh3_64_with_secret(name.as_bytes(), &self.secret),
            Domain::Private(number) => !xxh3_64_with_secret(&number.to_le_bytes(), &self.secret),
        }
    }
}
