//! What cannot be carried through a sleep is left warm, with a reason that names it, and goes on working. Memory that
//! must stay where it is stays there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Bench, FILLED, LAZY, every_way, sandbox};
use node::SleepError;
use protocol::State;
use rustix::process::Signal;
use testkit::{Specimen, SpecimenError, Subject, require};

/// Pages of the regions that stay: `mlocked` and `wipeonfork` of the `memory` specimen.
const STAYING_PAGES: u64 = 2 * 64;

/// Pages that may stay besides: the command line, and where the kernel itself writes.
const STAYING_BESIDES_MAX: u64 = 20;

/// Sleeps are asked for this often: each must be refused alike.
const TRIES: usize = 3;

/// Tries to put the specimen to sleep: it stays warm, for a reason that holds `reason`, and does what `command` says
/// as it did before.
#[track_caller]
fn check(args: &[&str], reason: &str, command: &str, is_right: impl Fn(&str) -> bool) {
    let bench = Bench::new();
    let subject = Subject::specimen(args);
    if let Err(SpecimenError::Unavailable { why }) = Specimen::alone(&subject) {
        let _ = require(false, args[0], &why);
        return;
    }
    let mut specimen = bench.launch(&subject);
    for _ in 0..TRIES {
        let refused = bench.try_sleep(&specimen);
        assert!(matches!(&refused, Err(SleepError::LeftWarm { why }) if why.contains(reason)), "{refused:?}");
        let record = sandbox(&specimen).record();
        assert_eq!(record.state, State::Warm);
        assert!(record.left_warm.is_some_and(|why| why.contains(reason)));
        assert_eq!(bench.node.record().store_pages, 0);
        let answer = specimen.ask(command).unwrap();
        assert!(is_right(&answer), "{command}: {answer}");
    }
    assert_eq!(bench.node.record().sleeps_refused, TRIES as u64);
}

#[test]
fn registered_buffers_are_left_warm() {
    check(&["uring"], "io_uring", "use", |answer| answer == "read=8 bytes=right");
}

#[test]
fn a_userfaultfd_is_left_warm() {
    check(&["uffd"], "userfaultfd", "use", |answer| answer.ends_with("filled=true"));
}

#[test]
fn a_debugger_and_what_it_traces_are_left_warm() {
    check(&["traced"], "traced", "use", |answer| answer == "stopped=true");
}

#[test]
fn asynchronous_io_is_left_warm() {
    check(&["aio"], "asynchronous I/O", "use", |answer| answer == "read=8 bytes=right");
}

#[test]
fn a_busy_process_is_left_warm_or_sleeps_unharmed() {
    let bench = Bench::new();
    let mut refused = 0;
    for threads in ["1", "3"] {
        let mut specimen = bench.launch(&Subject::specimen(&["spin", threads]));
        for _ in 0..10 {
            match bench.try_sleep(&specimen) {
                Err(SleepError::LeftWarm { why }) if why.contains("busy") => refused += 1,
                Ok(_) => drop(bench.wake(&specimen)), // It was caught looking at its line.
                Err(error) => panic!("{error}"),
            }
            let counts = specimen.ask("await-rounds 10").unwrap();
            assert!(counts.ends_with("wrong=0"), "{counts}");
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_process_stopped_by_job_control_is_left_as_it_is() {
    let bench = Bench::new();
    let mut specimen = bench.launch(&Subject::specimen(&["memory", "3"]));
    let before = specimen.ask("checksum").unwrap();
    common::signal(specimen.pid(), Signal::STOP);
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", specimen.pid())).unwrap();
    testkit::until(|| state().contains(") T ")).unwrap();
    let refused = bench.try_sleep(&specimen);
    assert!(
        matches!(&refused, Err(SleepError::LeftWarm { why }) if why.contains("job control")),
        "{refused:?}"
    );
    testkit::until(|| state().contains(") T ")).unwrap();
    common::signal(specimen.pid(), Signal::CONT);
    assert_eq!(specimen.ask("checksum").unwrap(), before);
    assert!(bench.check(&specimen).is_same());
}

#[test]
fn a_thread_that_does_not_stop_is_left_to_go_on() {
    let bench = Bench::new();
    let mut specimen = bench.launch(&Subject::specimen(&["vfork"]));
    let refused = bench.try_sleep(&specimen);
    assert!(
        matches!(&refused, Err(SleepError::LeftWarm { why }) if why.contains("does not stop")),
        "{refused:?}"
    );
    assert_eq!(specimen.ask("release").unwrap(), "went on");
    assert!(bench.check(&specimen).is_same());
}

#[test]
fn a_thread_that_did_not_stop_can_be_killed() {
    let bench = Bench::new();
    let specimen = bench.launch(&Subject::specimen(&["vfork"]));
    assert!(bench.try_sleep(&specimen).is_err());
    sandbox(&specimen).purge();
    bench.await_nothing();
}

#[test]
fn memory_that_must_stay_stays_and_is_right_afterwards() {
    for (way, configure) in every_way() {
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(&Subject::specimen(&["memory", "5"]));
        let before = specimen.ask("checksum").unwrap();
        let slept = bench.sleep(&specimen);
        let expected = STAYING_PAGES..=STAYING_PAGES + STAYING_BESIDES_MAX;
        assert!(expected.contains(&slept.left_pages), "{way}: {slept:?}");
        let account = sandbox(&specimen).record().account;
        assert!(account.resident_bytes >= STAYING_PAGES * 4096, "{way}: {account:?}");
        bench.wake(&specimen);
        assert_eq!(specimen.ask("checksum").unwrap(), before, "{way}");
    }
}

/// Huge pages of the reserved pool; no machine has any unless somebody asked for them. Put back on drop.
struct HugePages {
    before: String,
}

impl HugePages {
    const KNOB: &str = "/proc/sys/vm/nr_hugepages";

    fn set_aside(count: u64) -> HugePages {
        let before = std::fs::read_to_string(Self::KNOB).unwrap();
        let wanted = before.trim().parse::<u64>().unwrap() + count;
        std::fs::write(Self::KNOB, wanted.to_string()).unwrap();
        HugePages { before }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        std::fs::write(Self::KNOB, self.before.trim()).unwrap();
    }
}

#[test]
fn explicit_huge_pages_stay() {
    let _set_aside = HugePages::set_aside(8);
    for (way, configure) in [FILLED, LAZY] {
        let subject = Subject::specimen(&["huge"]);
        if let Err(SpecimenError::Unavailable { why }) = Specimen::alone(&subject) {
            let _ = require(false, "huge pages", &why);
            return;
        }
        let bench = Bench::with(configure);
        let mut specimen = bench.launch(&subject);
        let before = specimen.ask("checksum").unwrap();
        bench.sleep(&specimen);
        bench.wake(&specimen);
        assert_eq!(specimen.ask("checksum").unwrap(), before, "{way}");
    }
}
