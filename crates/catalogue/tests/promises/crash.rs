//! Killed at any step, a catalogue has what was acknowledged, whole, and nothing by halves.
//!
//! The child is this same test program. It deploys functions, one after the other, and says so after each.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use catalogue::{CatalogueStore, LATEST, Look as _, Packages, Trees, VersionRecord};

use crate::record::version;
use crate::tree::zip;

/// Tells the child where to work.
const FOLDER: &str = "DORMOUSE_TEST_FOLDER";

/// Functions that a child deploys.
const FUNCTIONS: u64 = 4;

fn package(number: u64) -> Vec<u8> {
    zip(&[("lambda_function.py", 0o100_644, format!("x = {number}").as_bytes())])
}

fn deploy(folder: &Path, runtime: &tokio::runtime::Runtime) {
    let store = CatalogueStore::open(&folder.join("catalogue.redb")).unwrap();
    let packages = Packages::open(&folder.join("packages")).unwrap();
    let trees = Trees::open(&folder.join("trees")).unwrap();
    for number in 0..FUNCTIONS {
        let bytes = Bytes::from(package(number));
        let id = runtime.block_on(packages.put(bytes.clone())).unwrap();
        trees.unpack(&id, &bytes).unwrap();
        let name = format!("f{number}").parse().unwrap();
        let record = VersionRecord { package: id, ..version("") };
        store.write(|writer| writer.put(&name, LATEST, &record)).unwrap();
        println!("{number}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
#[ignore = "started by the test below"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    deploy(Path::new(&folder), &tokio::runtime::Runtime::new().unwrap());
}

/// Runs the child until it dies at `point`; returns the functions that it said it had deployed.
fn until_dead(folder: &Path, point: &str) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env("DORMOUSE_DIE_AT", point).stderr(std::process::Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{point} is not reached");
    let said = String::from_utf8(output.stdout).unwrap();
    // The harness has begun the first line before the child writes.
    said.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

/// What the child has acknowledged is there with its package; what it has not may be, but then also whole.
#[track_caller]
fn check(point: &str) {
    let folder = tempfile::tempdir().unwrap();
    let said = until_dead(folder.path(), point);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = CatalogueStore::open(&folder.path().join("catalogue.redb")).unwrap();
    let packages = Packages::open(&folder.path().join("packages")).unwrap();
    let found = store.read().unwrap().all::<VersionRecord>().unwrap().records;
    assert!(found.len() >= said.len(), "{point}: {said:?} were acknowledged, {found:?} are there");
    assert!(found.len() <= said.len() + 1, "{point}");
    for (name, _, record) in &found {
        let number = name.as_str()[1..].parse().unwrap();
        let bytes = runtime.block_on(packages.get(&record.package)).unwrap();
        assert_eq!(bytes, package(number), "{point}");
    }

    let named: Vec<_> = found.iter().map(|(_, _, record)| record.package).collect();
    runtime.block_on(packages.sweep(|id| named.contains(id))).unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("packages")).unwrap().count(), named.len(), "{point}");
    drop(store);
    deploy(folder.path(), &runtime); // And it goes on.
}

#[test]
fn a_server_that_dies_at_any_step_loses_nothing_that_was_acknowledged() {
    for step in ["package-kept", "tree-unpacked", "tree-placed", "catalogue-changing", "catalogue-changed"] {
        for time in [1, 3] {
            check(&format!("{step}:{time}"));
        }
    }
    check("catalogue-made");
}
