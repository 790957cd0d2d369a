//! The specimens work by themselves and under SIGSTOP and SIGCONT, so that a sleep can be held to the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use testkit::{Specimen, SpecimenError, Subject, census, require_root};

type Outcome = Result<(), SpecimenError>;

/// These may return early, and only with `EINTR`, after SIGSTOP and SIGCONT (signal(7)).
const MAY_BE_INTERRUPTED: [&str; 6] =
    ["epoll_wait", "epoll_pwait2", "recv_timeout", "sigtimedwait", "semop", "io_uring_enter"];

/// Asks `commands` of two specimens of one kind, of which one is stopped and let go before each: all answers must
/// be the same.
#[track_caller]
fn check(args: &[&str], commands: &[&str]) -> Outcome {
    let subject = Subject::specimen(args);
    let (mut plain, mut stopped) = (Specimen::alone(&subject)?, Specimen::alone(&subject)?);
    for command in commands {
        stopped.stop()?;
        stopped.say(command)?;
        stopped.go_on()?;
        assert_eq!(plain.ask(command)?, stopped.answer()?, "{args:?} {command}");
    }
    Ok(())
}

#[test]
fn memory_follows_from_seed_and_commands() -> Outcome {
    let commands = ["checksum", "mutate 5", "checksum", "fork", "spawn", "thread", "pipe", "checksum"];
    check(&["memory", "3"], &commands)
}

#[test]
fn memory_can_be_mapped_and_unmapped() -> Outcome {
    let commands = [
        "mmap 2",
        "mprotect",
        "mremap-grow",
        "mremap-move",
        "munmap",
        "dontneed",
        "grow-heap",
        "shrink-heap",
        "checksum",
        "fork",
    ];
    check(&["memory", "4", "1"], &commands)
}

#[test]
fn another_seed_is_another_memory() -> Outcome {
    let mut sums = Vec::new();
    for seed in ["1", "2"] {
        sums.push(Specimen::alone(&Subject::specimen(&["memory", seed]))?.ask("checksum")?);
    }
    let differing = sums[0].split(' ').zip(sums[1].split(' ')).filter(|(one, other)| one != other);
    let same: Vec<&str> = sums[0].split(' ').filter(|part| sums[1].contains(part)).collect();
    assert!(differing.count() > 15, "{sums:?}");
    assert_eq!(same.len(), 2, "only zeros and relocated constants do not follow from the seed: {same:?}");
    Ok(())
}

#[test]
fn memory_starts_afresh_after_exec() -> Outcome {
    let mut specimen = Specimen::alone(&Subject::specimen(&["memory", "9"]))?;
    let before = specimen.ask("checksum")?;
    specimen.ask("mutate 1")?;
    assert_eq!(specimen.ask("exec")?, "ready seed 9");
    assert_eq!(specimen.ask("checksum")?, before);
    Ok(())
}

#[test]
fn a_tree_answers_for_all_its_processes() -> Outcome {
    check(&["tree", "2", "2"], &["checksum", "mutate 7", "checksum"])?;
    let mut tree = Specimen::alone(&Subject::specimen(&["tree", "2", "2"]))?;
    assert_eq!(tree.greeting(), "processes=8"); // 1 + 2 + 4, and the orphan.
    assert_eq!(tree.ask("pids")?.split(' ').count(), 8);
    Ok(())
}

#[test]
fn signals_are_neither_lost_nor_doubled() -> Outcome {
    let mut specimen = Specimen::alone(&Subject::specimen(&["signals"]))?;
    specimen.ask("pend")?;
    let state = specimen.ask("state")?;
    specimen.ask("raise 3")?;
    specimen.stop()?;
    specimen.say("queue 4")?;
    specimen.go_on()?;
    specimen.answer()?;
    let counts = specimen.ask("await-alarms 10")?;
    assert!(counts.ends_with("usr1=3 queued=4 wrong-stack=0"), "{counts}");
    assert_eq!(specimen.ask("state")?, state);
    assert!(state.contains("pending=true altstack=true"), "{state}");
    Ok(())
}

#[test]
fn spinning_threads_see_their_memory_unchanged() -> Outcome {
    for threads in ["1", "3"] {
        let mut specimen = Specimen::alone(&Subject::specimen(&["spin", threads]))?;
        specimen.stop()?;
        specimen.go_on()?;
        let counts = specimen.ask("await-rounds 100")?;
        assert!(counts.ends_with("wrong=0"), "{counts}");
    }
    Ok(())
}

#[test]
fn blocked_calls_wait_until_they_are_released() -> Outcome {
    let mut specimen = Specimen::alone(&Subject::specimen(&["blocked"]))?;
    assert!(specimen.greeting().ends_with("unavailable="), "{}", specimen.greeting());
    let results = specimen.ask("release")?;
    assert_eq!(results.split(' ').count(), 26, "{results}");
    for word in ["early", "wrong", "stuck", "EFAULT"] {
        assert!(!results.contains(word), "{results}");
    }
    Ok(())
}

#[test]
fn only_the_documented_calls_notice_a_stop() -> Outcome {
    if !require_root() {
        return Ok(());
    }
    let subject = Subject::specimen(&["blocked"]);
    let expected = Specimen::alone(&subject)?.ask("release")?;
    let mut specimen = Specimen::alone(&subject)?;
    specimen.stop()?;
    specimen.go_on()?;
    let results = specimen.ask("release")?;
    for (result, expected) in results.split(' ').zip(expected.split(' ')) {
        let kind = result.split('=').next().unwrap_or_default();
        let interrupted = result == format!("{kind}=early:EINTR") && MAY_BE_INTERRUPTED.contains(&kind);
        assert!(result == expected || interrupted, "{result}, not {expected}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_carried_works_while_awake() -> Outcome {
    let expected = [
        ("uring", "read=8 bytes=right"),
        ("uffd", "page=1 filled=true"),
        ("traced", "stopped=true"),
        ("aio", "read=8 bytes=right"),
    ];
    for (kind, answer) in expected {
        assert_eq!(Specimen::alone(&Subject::specimen(&[kind]))?.ask("use")?, answer);
    }
    match Specimen::alone(&Subject::specimen(&["huge"])) {
        Ok(mut huge) => assert!(huge.ask("checksum")?.starts_with("all=")),
        Err(SpecimenError::Unavailable { why }) => assert!(why.contains("memory"), "{why}"),
        Err(error) => return Err(error),
    }
    Ok(())
}

#[test]
fn a_specimen_leaves_nothing_behind() -> Outcome {
    let before = census()?;
    for args in [&["tree", "2", "2"][..], &["blocked"], &["memory"], &["traced"]] {
        let specimen = Specimen::alone(&Subject::specimen(args))?;
        assert_ne!(census()?, before, "{args:?} is seen while it lives");
        drop(specimen);
        // Whoever inherits the orphans reaps them in its own time.
        testkit::until(|| census().is_ok_and(|after| after == before))?;
        assert_eq!(census()?.differences(&before), Vec::<String>::new());
    }
    Ok(())
}

#[test]
fn a_stopped_specimen_does_not_answer() -> Outcome {
    let mut specimen = Specimen::alone(&Subject::specimen(&["memory"]))?;
    specimen.stop()?;
    specimen.say("ping")?;
    let silent = specimen.answer_within(std::time::Duration::from_millis(50));
    assert!(matches!(silent, Err(SpecimenError::Silent { .. })), "{silent:?}");
    specimen.go_on()?;
    assert_eq!(specimen.answer()?, "pong");
    Ok(())
}
