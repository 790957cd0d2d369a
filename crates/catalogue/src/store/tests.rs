//! A disk that fails.

use std::fs::OpenOptions;

use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use super::*;
use crate::FunctionRecord;

/// A file to which nothing can be written while the switch is on.
#[derive(Debug)]
struct Fallible {
    file: FileBackend,
    fails: Arc<AtomicBool>,
}

impl Fallible {
    fn check(&self) -> std::io::Result<()> {
        let fails = self.fails.load(Ordering::SeqCst);
        if fails { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Fallible {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.file.close()
    }
}

fn put(store: &CatalogueStore, name: &str) -> Result<(), StoreError> {
    let name = name.parse().unwrap();
    store.write(|writer| writer.put(&name, "", &FunctionRecord::default()))
}

fn names(store: &CatalogueStore) -> Vec<String> {
    let all = store.read().unwrap().all::<FunctionRecord>().unwrap();
    all.records.into_iter().map(|(name, ..)| name.to_string()).collect()
}

#[test]
fn a_disk_that_was_full_for_a_while_is_written_to_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalogue.redb");
    create(&path).unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let opener = move || {
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let backend = Fallible { file: FileBackend::new(file).unwrap(), fails: Arc::clone(&switch) };
        Builder::new().create_with_backend(backend).map_err(failed)
    };
    let store = CatalogueStore::open_by(Box::new(opener)).unwrap();
    put(&store, "before").unwrap();
    let reader = store.read().unwrap();
    fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        put(&store, "meanwhile").unwrap_err();
    }
    fails.store(false, Ordering::SeqCst);
    put(&store, "after").unwrap();
    assert_eq!(names(&store), ["after", "before"]);
    drop(reader);
    put(&store, "later").unwrap();
    assert_eq!(names(&store), ["after", "before", "later"]);
}
