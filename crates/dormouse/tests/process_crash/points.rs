//! The server dies, or one of its drivers panics, at a point that was chosen in its code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use rustix::process::{Signal, set_child_subreaper};
use serde_json::json;

use super::common::{Server, comes_true, until};
use super::{
    A_WHILE, ALL, CODE, Way, drive_to_death, expect_no_trace, expect_right_beats, ground, ground_with, signal,
};

/// The server dies at this point.
#[track_caller]
fn check(point: &str, ways: &[Way]) {
    for way in ways {
        println!("--- {point}, {way:?}");
        let ground = ground();
        let mut server = Server::start_with(&ground, way.setup(Some(point)));
        drive_to_death(&mut server);
        assert_eq!(server.running.exit(), -(Signal::KILL.as_raw()), "{}", server.running.log());
        drop(server);
        expect_no_trace(&ground, *way);
    }
}

/// What only userfaultfd brings.
const BY_USERFAULTFD: &[Way] = &[Way::Whole, Way::Lazy];

#[test]
fn dying_when_all_is_stopped_is_safe() {
    check("frozen", ALL);
}

#[test]
fn dying_when_all_is_stored_is_safe() {
    check("stored", ALL);
}

#[test]
fn dying_when_file_copies_became_anonymous_is_safe() {
    check("converted", BY_USERFAULTFD);
}

#[test]
fn dying_when_memory_is_watched_is_safe() {
    check("registered", BY_USERFAULTFD);
}

#[test]
fn dying_when_some_memory_has_left_is_safe() {
    check("emptied-some", ALL);
}

#[test]
fn dying_between_emptying_and_poison_is_safe() {
    check("dontneed", ALL);
}

#[test]
fn dying_when_one_process_is_empty_is_safe() {
    check("emptied-one", ALL);
}

#[test]
fn dying_between_ptrace_and_the_freezer_is_safe() {
    check("emptied", ALL);
}

#[test]
fn dying_when_the_sandbox_has_just_fallen_asleep_is_safe() {
    check("asleep", ALL);
}

#[test]
fn dying_before_the_first_page_is_filled_is_safe() {
    check("waking", ALL);
}

#[test]
fn dying_while_pages_are_filled_is_safe() {
    check("filling", ALL);
    check("filling:5", &[Way::Whole, Way::Nobody]);
}

#[test]
fn dying_when_all_is_filled_is_safe() {
    check("filled", ALL);
}

#[test]
fn dying_before_the_thaw_is_safe() {
    check("unwatched", ALL);
}

#[test]
fn dying_after_the_thaw_is_safe() {
    check("thawed", ALL);
}

#[test]
fn dying_while_memory_comes_back_to_a_running_sandbox_is_safe() {
    check("lazy-filling", &[Way::Lazy]);
    check("lazy-filling:5", &[Way::Lazy]);
}

#[test]
fn dying_when_the_last_page_has_come_back_is_safe() {
    check("lazy-finished", &[Way::Lazy]);
}

#[test]
fn dying_when_processes_can_be_emptied_is_safe() {
    check("planted", ALL);
}

#[test]
fn dying_at_a_later_journey_is_safe() {
    check("asleep:3", ALL);
    check("thawed:3", ALL);
}

/// Forks a child at each request, which looks at its state as the parent does.
const FORKS: &str = "
parent = lambda_handler
def lambda_handler(event, context):
    child = os.fork()
    if child == 0:
        for _ in range(5): os.write(BEATS, b'ok\\n' if is_right() else b'WRONG\\n')
        os._exit(0)
    os.waitpid(child, 0)
    return parent(event, context)
";

#[test]
fn dying_when_a_child_was_forked_while_memory_comes_back_is_safe() {
    for point in ["forked", "forked:3"] {
        let ground = ground_with(&format!("{CODE}{FORKS}"));
        let mut server = Server::start_with(&ground, Way::Lazy.setup(Some(point)));
        let guard = server.guard().unwrap();
        signal(guard, Signal::STOP); // It holds what it was given, and comes late to its work.
        drive_to_death(&mut server);
        assert_eq!(server.running.exit(), -(Signal::KILL.as_raw()), "{}", server.running.log());
        drop(server);
        let looked = || std::fs::metadata(ground.data().join("beats")).unwrap().len();
        let before = looked();
        // At the first wake nothing is known of the working set, and the child waits for most of its state.
        let has_looked = point == "forked" && comes_true(A_WHILE, || looked() > before);
        assert!(!has_looked, "the child looked at memory that was not back");
        signal(guard, Signal::CONT);
        expect_no_trace(&ground, Way::Lazy);
    }
}

#[test]
fn a_driver_that_panics_costs_its_sandbox_and_nothing_else() {
    for way in ALL {
        for point in ["stored", "emptied-one", "asleep", "filled"] {
            println!("--- {point}, {way:?}");
            let ground = ground();
            set_child_subreaper(None).unwrap(); // The guard of a server that ends well is nobody's business.
            let mut setup = way.setup(None);
            setup.env.push(("DORMOUSE_PANIC_AT", point.to_owned()));
            let server = Server::start_with(&ground, setup);
            let first = server.invoke("f", &json!({})).answer();
            until("the panic has killed it", || {
                server.run(&["sleep", "--all"]); // Passes over a sandbox that is not yet through with its answer.
                server.run(&["wake", "--all"]);
                server.stats().node.deaths == 1
            });
            let second = server.invoke("f", &json!({})).answer();
            assert_eq!(second["right"], json!(true));
            assert_ne!(second["pid"], first["pid"]);
            assert_eq!(server.stats().node.sandboxes, 1);
            server.stop();
            ground.await_empty();
            expect_right_beats(&ground);
        }
    }
}
