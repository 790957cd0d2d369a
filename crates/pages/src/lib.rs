//! Pages at rest: page addresses, how a page is kept, the manifest of a sandbox, and the store that keeps the
//! content of all sandboxes once. Nothing here knows a clock, a thread or a file; whoever owns memory or
//! processes brings them in through [`Arena`] and through the bytes he gives.

#![forbid(unsafe_code)]

mod address;
mod arena;
mod codec;
mod domain;
mod encoding;
mod extent;
mod free_runs;
#[doc(hidden)]
pub mod fuzzing;
mod manifest;
mod manifest_bytes;
mod page_id;
mod store;

pub use address::{PAGE_SIZE, PageAddr, PageRange};
pub use arena::{Arena, ArenaError, HeapArena};
pub use codec::Scratch;
pub use domain::Domain;
pub use encoding::{Encoding, Heat};
pub use extent::{EXTENT_ALIGN, Extents};
pub use manifest::{Content, Manifest, ManifestBuilder, PushedTwice};
pub use manifest_bytes::ManifestError;
pub use store::{
    Fill, FillError, FillJob, FillPlan, JobIndex, PAGES_PER_GROUP, PAGES_PER_PUT, ReadError, SlotId, Store,
    StoreError, StoreShare, StoreStats,
};
