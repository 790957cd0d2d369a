//! Pages at rest: page addresses, how a page is kept, the manifest of a sandbox, and the store that keeps the
//! content of all sandboxes once, some as patches: what tells them apart from base pages. Fingerprints and the registry
//! find base pages. Nothing here knows a clock, a thread or a file; whoever owns memory or processes brings them in
//! through [`Arena`] and through the bytes he gives.

#![forbid(unsafe_code)]

mod address;
mod arena;
mod base_finder;
mod codec;
mod domain;
mod encoding;
mod extent;
mod fingerprint;
mod free_runs;
#[doc(hidden)]
pub mod fuzzing;
mod manifest;
mod manifest_bytes;
mod page_id;
mod patch;
mod registry;
mod relocation;
mod store;
mod varint;
mod word;

pub use address::{PAGE_SIZE, PageAddr, PageRange};
pub use arena::{Arena, ArenaError, HeapArena};
pub use base_finder::{BaseContent, BaseFinder, Similarity};
pub use codec::Scratch;
pub use domain::Domain;
pub use encoding::{Encoding, Heat};
pub use extent::{EXTENT_ALIGN, Extents};
pub use fingerprint::{CHUNK_BYTES, CHUNKS_DEFAULT, CHUNKS_MAX, ChunkHash, Fingerprint, Fingerprinter};
pub use manifest::{Content, Manifest, ManifestBuilder, PushedTwice};
pub use manifest_bytes::ManifestError;
pub use page_id::Page;
pub use patch::{
    BASE_PAGES_PER_GROUP, Form, PATCH_PAGES_PER_GROUP, PatchDecoder, PatchEncoder, PatchError, PatchGroup,
    Piece, group_by_base,
};
pub use registry::{BaseImage, BasePage, Hit, MemoryRegistry, Registry};
pub use relocation::{PackedRelocation, Relocation, RelocationBuilder, RelocationError};
pub use store::{
    BasePages, BaseReader, Fill, FillError, FillJob, FillPlan, JobIndex, Like, PAGES_PER_GROUP,
    PAGES_PER_PUT, PlanError, SlotId, Store, StoreError, StoreShare, StoreStats,
};
