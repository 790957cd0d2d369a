//! An ordinary user has neither cgroups nor userfaultfd: trace stops and writing carry a sandbox as well. As root each
//! test runs itself again as nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::process::Command;

use common::{Bench, OpenFolder, sandbox};
use protocol::State;
use rustix::process::Signal;
use testkit::{Subject, built, require};

const NOBODY: &str = "65534";

/// Runs `body` if we are an ordinary user, else this test once more as nobody.
#[track_caller]
fn check(test: &str, body: impl FnOnce(&Bench)) {
    if !rustix::process::geteuid().is_root() {
        let bench = Bench::for_anybody(|_| {});
        let record = bench.node.record();
        assert_eq!((record.stop_by.as_str(), record.fill_by.as_str()), ("ptrace", "writing"));
        return body(&bench);
    }
    let setpriv = Command::new("setpriv").arg("--version").output();
    if !require(setpriv.is_ok(), "setpriv", "install util-linux") {
        return;
    }
    // Nobody may be unable to reach the folder in which we were built.
    let folder = OpenFolder::new();
    let me = folder.with_copy_of("test", &std::env::current_exe().unwrap());
    folder.with_copy_of("specimen", &built("specimen"));
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let mut again = Command::new("setpriv");
    again.args(ids).arg("--clear-groups").arg(me).args(["--exact", test, "--nocapture"]);
    let outcome = again.current_dir("/").output().unwrap();
    let said = [outcome.stdout, outcome.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(outcome.status.success() && said[0].contains("1 passed"), "{}{}", said[0], said[1]);
}

#[test]
fn nobody_can_let_a_sandbox_sleep() {
    check("nobody_can_let_a_sandbox_sleep", |bench| {
        for args in [&["memory", "61"][..], &["tree"]] {
            let mut specimen = bench.launch(&Subject::specimen(args));
            let before = specimen.ask("checksum").unwrap();
            for _ in 0..3 {
                let found = bench.check(&specimen);
                assert!(found.is_same(), "{found:?}");
                bench.sleep(&specimen);
                assert_eq!(sandbox(&specimen).state(), State::Dedup);
                bench.wake(&specimen);
                assert_eq!(specimen.ask("checksum").unwrap(), before);
            }
        }
    });
}

#[test]
fn nobody_notices_a_death_in_sleep() {
    check("nobody_notices_a_death_in_sleep", |bench| {
        let specimen = bench.launch(&Subject::specimen(&["memory", "62"]));
        bench.sleep(&specimen);
        common::signal(specimen.pid(), Signal::KILL);
        common::await_state(sandbox(&specimen), State::Gone);
        bench.await_nothing();
    });
}

#[test]
fn nobody_leaves_warm_what_cannot_be_carried() {
    check("nobody_leaves_warm_what_cannot_be_carried", |bench| {
        let mut specimen = bench.launch(&Subject::specimen(&["aio"]));
        assert!(bench.try_sleep(&specimen).is_err());
        assert_eq!(specimen.ask("use").unwrap(), "read=8 bytes=right");
    });
}
