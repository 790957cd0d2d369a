//! The example functions answer deterministically: two of them agree, and a stop changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use testkit::{Specimen, SpecimenError, Subject, require_java, require_node, require_python};

/// Two workers, one of which is stopped and let go: the same answers, and a state that requests do not change.
#[track_caller]
fn check(function: &str, modules: &[&str]) -> Result<(), SpecimenError> {
    if require_python(modules) { check_subject(&Subject::function(function), function) } else { Ok(()) }
}

#[track_caller]
fn check_subject(subject: &Subject, function: &str) -> Result<(), SpecimenError> {
    let (mut plain, mut stopped) = (Specimen::alone(subject)?, Specimen::alone(subject)?);
    let state = plain.ask(r#"{"verify": true}"#)?;
    assert!(state.starts_with(r#"{"sha256": ""#), "{state}");
    let mut answers = Vec::new();
    for n in 0..3 {
        let event = format!(r#"{{"n": {n}}}"#);
        stopped.stop()?;
        stopped.say(&event)?;
        stopped.go_on()?;
        answers.push(plain.ask(&event)?);
        assert_eq!(stopped.answer()?, answers[n], "{function} {event}");
    }
    assert_ne!(answers[0], answers[1], "{function} answers what it is asked");
    for specimen in [&mut plain, &mut stopped] {
        assert_eq!(specimen.ask(r#"{"verify": true}"#)?, state, "{function}");
    }
    Ok(())
}

#[test]
fn hello_is_deterministic() -> Result<(), SpecimenError> {
    check("hello", &[])
}

#[test]
fn html_is_deterministic() -> Result<(), SpecimenError> {
    check("html", &[])
}

#[test]
fn objects_are_deterministic() -> Result<(), SpecimenError> {
    check("objects", &[])
}

#[test]
fn threads_are_deterministic() -> Result<(), SpecimenError> {
    check("threads", &[])
}

#[test]
fn asyncio_is_deterministic() -> Result<(), SpecimenError> {
    check("asyncio", &[])
}

#[test]
fn child_is_deterministic() -> Result<(), SpecimenError> {
    check("child", &[])
}

#[test]
fn numpy_is_deterministic() -> Result<(), SpecimenError> {
    check("numpy", &["numpy"])
}

#[test]
fn pandas_is_deterministic() -> Result<(), SpecimenError> {
    check("pandas", &["pandas"])
}

#[test]
fn sklearn_is_deterministic() -> Result<(), SpecimenError> {
    check("sklearn", &["sklearn"])
}

#[test]
fn the_node_server_is_deterministic() -> Result<(), SpecimenError> {
    if !require_node() {
        return Ok(());
    }
    let subject = Subject::node_server();
    let (mut plain, mut stopped) = (Specimen::alone(&subject)?, Specimen::alone(&subject)?);
    for path in ["/verify", "/?n=1", "/?n=2", "/verify"] {
        stopped.stop()?;
        stopped.say(path)?;
        stopped.go_on()?;
        assert_eq!(plain.ask(path)?, stopped.answer()?, "{path}");
    }
    Ok(())
}

#[test]
fn the_java_function_is_deterministic() -> Result<(), SpecimenError> {
    if require_java() { check_subject(&Subject::java_function(), "java") } else { Ok(()) }
}
