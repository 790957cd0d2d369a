//! How one page is kept. The manifest holds the same in far less room: see there.

use crate::SlotId;
use crate::page_id::Page;

/// How one page is kept. Everything but `Zero` is one reference to a slot, and is given back exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// All bytes are zero: nothing is kept.
    Zero,
    /// The store had an equal page of this domain; every byte was compared.
    Same(SlotId),
    /// A new page, kept as what tells it apart from base pages.
    Patched(SlotId),
    /// A new page, compressed together with its neighbours.
    Packed(SlotId),
    /// A new page that does not compress.
    Whole(SlotId),
}

impl Encoding {
    /// The slot that keeps the content, if any is kept.
    pub fn slot(self) -> Option<SlotId> {
        match self {
            Self::Zero => None,
            Self::Same(slot) | Self::Patched(slot) | Self::Packed(slot) | Self::Whole(slot) => Some(slot),
        }
    }
}

/// What is expected of pages, and so how they are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heat {
    /// Wanted as soon as the sandbox wakes: quick to decode comes first.
    Hot,
    /// Wanted late or never: small comes first.
    Cold,
}

static ZERO: Page = [0; crate::PAGE_SIZE];

/// Whether all bytes are zero. Comparing with zeros is the quickest way: it stops at the first difference.
pub(crate) fn is_zero(page: &Page) -> bool {
    *page == ZERO
}
