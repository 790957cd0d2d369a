//! A file that is not what it should be is refused with words, and never taken for an empty one.

use std::path::Path;

use catalogue::{CatalogueStore, Look as _, Record, StoreError, VersionRecord};

use crate::record::version;

/// A store with some records, and its file's bytes.
fn made(path: &Path) -> Vec<u8> {
    let store = CatalogueStore::open(path).unwrap();
    for number in 0..50 {
        let name = format!("f{number}").parse().unwrap();
        store.write(|writer| writer.put(&name, "$LATEST", &version("so long a text"))).unwrap();
    }
    drop(store);
    std::fs::read(path).unwrap()
}

#[track_caller]
fn check_refused(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalogue.redb");
    std::fs::write(&path, bytes).unwrap();
    let error = CatalogueStore::open(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("catalogue.redb"), "{error}");
}

#[test]
fn a_file_that_is_none_of_ours_is_refused() {
    check_refused(b"");
    check_refused(b"SQLite format 3\0");
    check_refused(&[0; 65536]);
    check_refused(&[0xa5; 200_000]);
}

#[test]
fn a_file_that_is_cut_off_is_refused_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = made(&folder.path().join("catalogue.redb"));
    for eighths in 0..8 {
        check_refused(&bytes[..bytes.len() * eighths / 8]);
    }
}

#[test]
fn a_file_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalogue.redb");
    let _store = CatalogueStore::open(&path).unwrap();
    let error = CatalogueStore::open(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
}

#[test]
fn a_record_that_is_too_long_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = CatalogueStore::open(&folder.path().join("catalogue.redb")).unwrap();
    let name = "f".parse().unwrap();
    let long = version(&"x".repeat(catalogue::RECORD_BYTES_MAX));
    let error = store.write(|writer| writer.put(&name, "1", &long)).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
    assert_eq!(store.read().unwrap().get::<VersionRecord>(&name, "1").unwrap(), None);
}

/// A version as a later program might write it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Later {}

impl Record for Later {
    const KIND: &'static str = "version";
    const FORMAT: u32 = 2;
}

#[test]
fn a_record_that_cannot_be_read_hides_no_other_and_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalogue.redb");
    made(&path);
    let store = CatalogueStore::open(&path).unwrap();
    let name = "f7".parse().unwrap();
    store.write(|writer| writer.put(&name, "$LATEST", &Later {})).unwrap();
    let reader = store.read().unwrap();
    let all = reader.all::<VersionRecord>().unwrap();
    assert_eq!((all.records.len(), all.damaged.len()), (49, 1));
    let damaged = &all.damaged[0];
    assert_eq!((damaged.function.as_str(), damaged.qualifier.as_str()), ("f7", "$LATEST"));
    assert!(damaged.error.is_of_record() && damaged.error.to_string().contains("version/f7/$LATEST"));
    assert!(reader.has::<VersionRecord>(&name, "$LATEST").unwrap());
    assert!(reader.get::<VersionRecord>(&name, "$LATEST").is_err());
    store.write(|writer| writer.remove_all::<VersionRecord>(&name)).unwrap();
    assert!(store.read().unwrap().all::<VersionRecord>().unwrap().damaged.is_empty());
}
