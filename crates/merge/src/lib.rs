//! Which pages of running processes have the same content, and which ranges of them are worth merging. Pure: hashes
//! come in, page addresses go out. Who reads the pages and who merges them is not decided here, and neither is who may
//! share with whom: there is one [`Index`] for each sharing domain.

mod block;
mod choice;
mod index;
mod page_hash;

pub use choice::Choice;
pub use index::Index;
pub use page_hash::PageHash;
