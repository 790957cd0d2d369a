//! Functions that were deployed, as they lie on disk: records of what people configured, packages with their code,
//! and trees, which are packages unpacked. No HTTP, no sandbox.
//!
//! A package is written before the record that names it, and the record before anybody is told: who was told that a
//! function is there finds it after any crash. What no record names is swept at the next start.

mod package;
mod record;
mod store;
mod tree;

pub use package::{InvalidPackageId, PACKAGE_BYTES_MAX, PackageError, PackageId, Packages};
pub use record::{
    AliasRecord, EventInvokeRecord, FunctionRecord, LATEST, PolicyRecord, ProvisionedRecord, Record,
    UrlRecord, VersionRecord,
};
pub use store::{All, CatalogueStore, Damaged, Look, RECORD_BYTES_MAX, Reader, StoreError, Writer};
pub use tree::{TREE_BYTES_MAX, TREE_ENTRIES_MAX, TreeError, Trees};
