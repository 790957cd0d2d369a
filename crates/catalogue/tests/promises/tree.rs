//! Packages unpack to what was packed, and hostile ones to nothing.

use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use catalogue::{PackageId, TREE_BYTES_MAX, TreeError, Trees};
use zip::write::SimpleFileOptions;

/// A zip of these names, modes and contents.
pub(crate) fn zip(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        let options = SimpleFileOptions::default().unix_permissions(*mode & 0o777);
        match mode & 0o170_000 {
            0o120_000 => writer.add_symlink(*name, std::str::from_utf8(content).unwrap(), options).unwrap(),
            0o040_000 => writer.add_directory(*name, options).unwrap(),
            _ => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(content).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

struct Bench {
    folder: tempfile::TempDir,
    trees: Trees,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::open(&folder.path().join("trees")).unwrap();
    Bench { folder, trees }
}

impl Bench {
    fn unpack(&self, package: &[u8]) -> Result<PathBuf, TreeError> {
        self.trees.unpack(&PackageId::of(package), package)
    }
}

/// The package is refused with these words, and nothing of it is left, inside or outside.
#[track_caller]
fn check_refused(package: &[u8], words: &str) {
    let bench = bench();
    let error = bench.unpack(package).unwrap_err().to_string();
    assert!(error.contains(words), "{words:?} is not in {error:?}");
    let left = |path: PathBuf| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left(bench.folder.path().join("trees")).collect::<Vec<_>>(), ["boot"]);
    assert_eq!(left(bench.folder.path().to_owned()).collect::<Vec<_>>(), ["trees"]);
}

#[test]
fn a_package_becomes_files_folders_and_links() {
    let package = zip(&[
        ("lib/", 0o040_755, b""),
        ("lib/part.py", 0o100_600, b"x = 1"),
        ("bootstrap", 0o100_700, b"#!/bin/sh"),
        ("./deep/down/data", 0o100_644, b"d"),
        ("link", 0o120_777, b"lib/part.py"),
    ]);
    let bench = bench();
    let tree = bench.unpack(&package).unwrap();
    assert_eq!(std::fs::read(tree.join("link")).unwrap(), b"x = 1");
    assert_eq!(std::fs::read(tree.join("deep/down/data")).unwrap(), b"d");
    let mode = |name: &str| tree.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("lib/part.py"), mode("bootstrap")), (0o644, 0o755));
    assert_eq!(bench.unpack(&package).unwrap(), tree, "a second time it is there");
}

#[test]
fn other_users_can_read_a_tree_whatever_the_umask() {
    let package = zip(&[
        ("lib/", 0o040_700, b""),
        ("lib/part.py", 0o100_600, b"x = 1"),
        ("deep/down/run", 0o100_700, b"#!/bin/sh"),
    ]);
    let bench = bench();
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let tree = bench.unpack(&package).unwrap();
    rustix::process::umask(before);
    for (name, expected) in [
        ("", 0o755),
        ("lib", 0o755),
        ("lib/part.py", 0o644),
        ("deep", 0o755),
        ("deep/down", 0o755),
        ("deep/down/run", 0o755),
    ] {
        let mode = tree.join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{name}");
    }
}

#[test]
fn nothing_is_for_other_users_in_a_folder_that_they_can_enter() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["trees", "packages"] {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    Trees::open(&path("trees")).unwrap();
    catalogue::Packages::open(&path("packages")).unwrap();
    drop(catalogue::CatalogueStore::open(&path("catalogue.redb")).unwrap());
    for name in ["trees", "packages", "catalogue.redb"] {
        let mode = path(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[test]
fn what_leads_out_is_refused() {
    let file = 0o100_644;
    let link = 0o120_777;
    check_refused(&zip(&[("../x", file, b"")]), "leads out");
    check_refused(&zip(&[("a/../../x", file, b"")]), "leads out");
    check_refused(&zip(&[("/etc/x", file, b"")]), "leads out");
    check_refused(&zip(&[("l", link, b"/etc/passwd")]), "leads out");
    check_refused(&zip(&[("l", link, b"..")]), "leads out");
    check_refused(&zip(&[("l", link, b"nowhere")]), "leads nowhere");
    // By its text the second link stays inside; through the first it does not.
    check_refused(
        &zip(&[("a/b/", 0o040_755, b""), ("a/b/up", link, b"../.."), ("a/out", link, b"b/up/..")]),
        "leads out",
    );
    check_refused(&zip(&[("l", link, b"/tmp"), ("l/x", file, b"")]), "l");
}

#[test]
fn devices_are_refused() {
    // The library writes files and links only: the mode is changed in the central directory.
    let mut package = zip(&[("device", 0o100_644, b"")]);
    let mode = (0o100_644u32 << 16).to_le_bytes();
    let place = package.windows(4).rposition(|window| window == mode).unwrap();
    package[place..place + 4].copy_from_slice(&(0o060_644u32 << 16).to_le_bytes());
    check_refused(&package, "device");
}

#[test]
fn what_is_no_zip_is_refused() {
    check_refused(b"", "no zip");
    check_refused(b"#!/bin/sh", "no zip");
    let package = zip(&[("x", 0o100_644, &[7; 1000])]);
    check_refused(&package[..package.len() - 10], "no zip");
}

#[test]
fn content_that_is_damaged_is_refused() {
    let content: Vec<u8> = (0..2000u32).map(|n| (n * n % 251) as u8).collect();
    let mut package = zip(&[("x", 0o100_644, &content)]);
    package[200] ^= 0xff; // Amid the content.
    check_refused(&package, "x");
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    // Zeros: a thousandth of its size when packed.
    let half = vec![0u8; TREE_BYTES_MAX as usize / 2 + 1];
    let package = zip(&[("a", 0o100_644, &half), ("b", 0o100_644, &half)]);
    assert!(package.len() < 1024 * 1024);
    check_refused(&package, "unpacks to more than");
}

#[test]
fn trees_of_another_boot_go_and_those_that_nobody_names_are_swept() {
    let bench = bench();
    let (one, two) = (zip(&[("x", 0o100_644, b"1")]), zip(&[("x", 0o100_644, b"2")]));
    bench.unpack(&one).unwrap();
    bench.unpack(&two).unwrap();
    bench.trees.sweep(|id| *id == PackageId::of(&one)).unwrap();
    assert!(bench.trees.find(&PackageId::of(&one)).is_some());
    assert!(bench.trees.find(&PackageId::of(&two)).is_none());

    let folder = bench.folder.path().join("trees");
    assert!(Trees::open(&folder).unwrap().find(&PackageId::of(&one)).is_some(), "the same boot");
    std::fs::write(folder.join("boot"), "another").unwrap();
    assert!(Trees::open(&folder).unwrap().find(&PackageId::of(&one)).is_none());
}
