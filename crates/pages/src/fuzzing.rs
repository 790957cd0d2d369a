//! Bodies of the fuzz targets, here so that ordinary tests run them too.

use xxhash_rust::xxh3::xxh3_64;

use crate::Manifest;

/// Reads `data` as a manifest, as it is and again under a right header and checksum. What can be read must say
/// the same after it was written and read again.
pub fn manifest(data: &[u8]) {
    let mut sealed = [b"dorm\x01", data].concat();
    sealed.extend_from_slice(&xxh3_64(&sealed).to_le_bytes());
    for bytes in [data, &sealed] {
        if let Ok(manifest) = Manifest::from_bytes(bytes) {
            assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).as_ref(), Ok(&manifest));
            assert!(manifest.content_page_count() <= manifest.page_count());
        }
    }
}

/// Decodes `data` as a group of the store: its first byte says how it is encoded, its second how many pages it
/// should have. Whatever it decodes to is not what was put, so it must be called damaged.
pub fn store_group(data: &[u8]) {
    if let [codec, pages, blob @ ..] = data {
        assert!(crate::store::damaged_group_is_noticed(*codec, *pages, blob));
    }
}
