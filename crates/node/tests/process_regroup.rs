//! Sandboxes that fell asleep before anybody knew what a wake touches: once one of them has shown it, the first wake of
//! each of the others decodes little more than it needs.

#![allow(clippy::unwrap_used, clippy::expect_used)] // The lint lets tests, but not what tests call.

mod common;

use common::{Bench, sandbox};
use node::{LaunchSpec, Layout, Sharing};
use protocol::WakeRecord;
use testkit::{Specimen, Subject, require_python};

const REQUEST: &str = r#"{"n": 3}"#;

fn alike(spec: &mut LaunchSpec) {
    spec.env.push(("PYTHONHASHSEED".into(), "20150331".into())); // As the server sets it.
    spec.layout = Layout::Pinned { secret: 0x4e6 };
    spec.sharing = Sharing::Domain("tenant".to_owned());
}

/// Wakes it for a request. What it answers.
fn invoke(bench: &Bench, specimen: &mut Specimen) -> (WakeRecord, String) {
    let woke = bench.wake(specimen);
    sandbox(specimen).begin_invocation().unwrap();
    let answer = specimen.ask(REQUEST).unwrap();
    sandbox(specimen).end_invocation().unwrap();
    (woke, answer)
}

#[test]
fn the_first_wake_of_those_that_slept_before_decodes_few_pages_in_vain() {
    if !require_python(&["sklearn"]) {
        return;
    }
    let bench = Bench::new();
    let subject = Subject::function("sklearn");
    let mut specimens: Vec<Specimen> = (0..6).map(|_| bench.launch_with(&subject, alike)).collect();
    let answers: Vec<_> = specimens.iter_mut().map(|one| one.ask(REQUEST).unwrap()).collect();
    for one in &specimens {
        bench.sleep(one);
    }
    // Neither the first sleeper, which is base of the others, nor the last.
    let (woke, answer) = invoke(&bench, &mut specimens[2]);
    assert_eq!((woke.filled_pages, &answer), (0, &answers[2]), "nothing is known yet");
    let moved = || bench.node.record().regrouped >= specimens.len() as u64 - 1;
    testkit::until(moved).unwrap();
    for at in [1, 0, 5] {
        let (woke, answer) = invoke(&bench, &mut specimens[at]);
        println!("{woke:?}");
        assert!(woke.filled_pages > 500, "{woke:?}");
        assert!(woke.decoded_pages <= 2 * woke.filled_pages, "{woke:?}");
        assert_eq!(answer, answers[at]);
        // A page that has moved is the one that it was.
        testkit::until(|| bench.node.record().coming_back == 0).unwrap();
        let found = bench.check(&specimens[at]);
        assert!(found.is_same(), "{found:?}");
    }
}
