//! Bodies of the fuzz targets, here so that ordinary tests run them too.

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    BASE_PAGES_PER_GROUP, Form, Manifest, PAGE_SIZE, PATCH_PAGES_PER_GROUP, PatchDecoder, PatchEncoder,
    Relocation,
};

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

/// Reads `data` as a relocation. What can be read must say the same after it was written and read again, and can be
/// applied to anything; `data` itself serves as the page.
pub fn relocation(data: &[u8]) {
    if let Ok(relocation) = Relocation::from_bytes(data) {
        let again = Relocation::from_bytes(&relocation.to_bytes());
        let (mut once, mut twice) = (data.to_vec(), data.to_vec());
        relocation.apply(&mut once);
        again.unwrap_or_default().apply(&mut twice);
        assert_eq!(once, twice);
    }
}

/// Decodes `data` as a patch: its first byte says how it is encoded, its second how many pages it should have and how
/// many base pages there are. Whatever comes out has the right length. Then encodes pages made of `data` against base
/// pages made of it: these must come back.
pub fn patch(data: &[u8]) {
    let [form, pages, bytes @ ..] = data else { return };
    let (Some(mut encoder), Some(mut decoder)) = (PatchEncoder::new(), PatchDecoder::new()) else { return };
    let form = [Form::Patch, Form::Alone, Form::Whole][usize::from(*form % 3)];
    let base_len = (usize::from(*pages >> 4) % BASE_PAGES_PER_GROUP + 1) * PAGE_SIZE;
    let pages_len = (usize::from(*pages) % PATCH_PAGES_PER_GROUP + 1) * PAGE_SIZE;
    let base = repeated(data, base_len);
    let mut decoded = vec![0; pages_len];
    // Right or wrong: the store tells by the checks of the pages.
    let _ = decoder.decode(form, bytes, &base, &mut decoded);

    let content = repeated(bytes, pages_len);
    for piece in encoder.encode(&base, &content).into_iter().flatten() {
        let pages = &content[piece.pages.start * PAGE_SIZE..piece.pages.end * PAGE_SIZE];
        let mut decoded = vec![0; pages.len()];
        assert_eq!(decoder.decode(piece.form, &piece.bytes, &base, &mut decoded), Ok(()));
        assert!(decoded == pages);
    }
}

/// `len` bytes: those of `data`, over and over.
fn repeated(data: &[u8], len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = data.iter().copied().cycle().take(len).collect();
    bytes.resize(len, 0); // There may be none.
    bytes
}
