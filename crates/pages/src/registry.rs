//! Which base pages have a chunk: for a page that is to be encoded, the base page that is most like it.
//!
//! A registry gives hints. A wrong one, or none, costs savings and never content: whoever uses a hint compares or
//! checks. So there are no errors, and a registry that cannot be reached just knows nothing.

mod memory;
mod table;

pub use memory::MemoryRegistry;

use crate::{Domain, Fingerprint};

/// A base image: the pages of one sandbox that were made base pages. Numbered by whoever makes it, each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseImage(pub u32);

/// A base page: an image, and the place in it. The registry does not say where its content lies. The store's slots
/// would, but they mean something on one node only and are reused; an image and a place mean the same everywhere, as
/// long as the image lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BasePage {
    /// The image.
    pub image: BaseImage,
    /// The how-manieth page of the image, by address.
    pub page: u32,
}

/// The best base page for a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The page.
    pub base: BasePage,
    /// Chunks that both have.
    pub chunks: u8,
}

/// Maps chunks to base pages. Answers never cross a sharing domain.
pub trait Registry {
    /// Adds pages of a base image.
    fn announce(&mut self, domain: &Domain, pages: &[(BasePage, Fingerprint)]);

    /// For each fingerprint, the base page with most chunks in common. Among equals one of the preferred image (that
    /// of the same function, or one on this node) comes first, then the lowest image and page, so that answers do not
    /// depend on the order in which images came.
    fn lookup(
        &self,
        domain: &Domain,
        wanted: &[Fingerprint],
        preferred: Option<BaseImage>,
    ) -> Vec<Option<Hit>>;

    /// Removes a base image with all its chunks.
    fn forget(&mut self, domain: &Domain, image: BaseImage);
}
