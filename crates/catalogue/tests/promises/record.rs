//! Records that tests write.

use std::collections::BTreeMap;

use catalogue::{PackageId, VersionRecord};

/// A version with this much to tell it from others.
pub(crate) fn version(description: &str) -> VersionRecord {
    VersionRecord {
        etag: "0".to_owned(),
        modified_ms: 0,
        package: PackageId::of(description.as_bytes()),
        package_bytes: 0,
        runtime: "python3.12".to_owned(),
        handler: "lambda_function.lambda_handler".to_owned(),
        role: String::new(),
        description: description.to_owned(),
        timeout_s: 3,
        memory_mb: 128,
        tmp_mb: 512,
        environment: BTreeMap::new(),
        architecture: "x86_64".to_owned(),
        snap_start: false,
        dead_letter: None,
        told: BTreeMap::new(),
    }
}
