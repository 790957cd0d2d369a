//! Programs of other people, with the library in them, and what the agent hears of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use advice::{BYTES_MAX, Message, Range, Wish};
use tempfile::TempDir;
use testkit::{built, python, require_python, workspace_root};

/// Where an agent listens, or should.
struct Agent {
    folder: TempDir,
    socket: Option<UnixDatagram>,
}

impl Agent {
    fn listening() -> Agent {
        let agent = Agent::absent();
        let socket = UnixDatagram::bind(agent.path()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Agent { socket: Some(socket), ..agent }
    }

    /// Where one should listen nobody does.
    fn absent() -> Agent {
        Agent { folder: tempfile::tempdir().unwrap(), socket: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// What was said since the last time, a datagram each.
    fn heard(&self) -> Vec<(Wish, Vec<Range>)> {
        let mut heard = Vec::new();
        let mut room = [0; BYTES_MAX + 1];
        while let Ok(length) = self.socket.as_ref().unwrap().recv(&mut room) {
            let message = Message::decode(&room[..length]).unwrap();
            heard.push((message.wish(), message.ranges().collect()));
        }
        heard
    }

    /// Runs a program that can reach it; what it said, line by line.
    #[track_caller]
    fn run(&self, mut command: Command) -> Vec<String> {
        let ran = command.env("DORMOUSE_MERGE_SOCKET", self.path()).output().unwrap();
        let (said, errors) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{}\n{said}\n{errors}", ran.status);
        said.lines().map(str::to_owned).collect()
    }
}

fn library() -> PathBuf {
    let library = built("libdormouse.so");
    assert!(library.is_absolute(), "cargo has not built libdormouse.so: run the tests with --workspace");
    library
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

/// A Python program that has our module at hand.
fn python_program(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(program(name)).env("PYTHONPATH", workspace_root().join("python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("DORMOUSE_LIB", library());
    command
}

fn preloaded(name: &str) -> Command {
    let mut command = python_program(name);
    command.env("LD_PRELOAD", library()).env_remove("DORMOUSE_LIB");
    command
}

/// Address and length, as programs print them.
fn range(line: &str) -> Range {
    let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap());
    Range::new(numbers.next().unwrap(), numbers.next().unwrap()).unwrap()
}

#[track_caller]
fn compiled(agent: &Agent) -> Command {
    let (out, library) = (agent.folder.path().join("program"), library());
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic", "-pthread", "-I"]);
    compiler.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"));
    compiler.arg(program("advises.c")).arg("-o").arg(&out).arg(&library);
    let ran = compiler.output().expect("cc, which Rust needs, too");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut command = Command::new(out);
    command.env("LD_LIBRARY_PATH", library.parent().unwrap());
    command
}

#[test]
fn a_c_program_tells_the_agent_from_anywhere() {
    let agent = Agent::listening();
    let said = agent.run(compiled(&agent));
    let three = range(&said[0]);
    let first = |pages: u64| Range::new(three.start(), pages * 4096).unwrap();
    let expected = [
        (Wish::Merge, vec![three]),
        (Wish::Leave, vec![first(1)]),
        (Wish::Merge, vec![first(2), first(1)]), // Of many ranges, those that hold a page.
        (Wish::Merge, vec![first(2)]),           // From a thread,
        (Wish::Merge, vec![first(3)]),           // a forked child without any open file,
        (Wish::Merge, vec![first(1)]),           // and a signal handler.
    ];
    assert_eq!(agent.heard(), expected);
    assert_eq!(said[1..], ["merging", "5 6 40960 1 0 0 1", "done"]);
}

#[test]
fn a_c_program_without_an_agent_runs_on() {
    let agent = Agent::absent();
    let said = agent.run(compiled(&agent));
    assert_eq!(said[1..], ["no agent", "0 0 0 1 0 6 0", "done"]);
    let mut command = compiled(&agent);
    let ran = command.env("DORMOUSE_MERGE_SOCKET", "").output().unwrap();
    assert!(String::from_utf8(ran.stdout).unwrap().contains("\noff\n"));
}

#[test]
fn nobody_waits_for_an_agent_that_does_not_listen_in_time() {
    let agent = Agent::listening();
    let said = agent.run(python_program("floods.py"));
    let [sent, lost]: [u64; 2] =
        said[0].split(' ').map(|word| word.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(sent, agent.heard().len() as u64);
    assert_eq!((sent + lost, sent > 0, lost > 0), (5000, true, true));
}

#[test]
fn madvise_becomes_advice_and_nothing_else_changes() {
    let agent = Agent::listening();
    let said = agent.run(preloaded("madvises.py"));
    let whole = range(&said[0]);
    let first = Range::new(whole.start(), 4096).unwrap();
    assert_eq!(agent.heard(), [(Wish::Merge, vec![whole]), (Wish::Leave, vec![first])]);
    assert_eq!(said[1], "marked: False, merging");
}

#[test]
fn where_no_agent_listens_madvise_is_the_kernels() {
    let said = Agent::absent().run(preloaded("madvises.py"));
    assert_eq!(said[1], "marked: True, no agent");
    let mut alone = preloaded("madvises.py");
    alone.env_remove("LD_PRELOAD");
    let said = Agent::absent().run(alone);
    assert_eq!(said[1], "marked: True, no library");
}

#[test]
fn python_tells_of_arrays_and_modules() {
    if !require_python(&["numpy"]) {
        return;
    }
    let agent = Agent::listening();
    let said = agent.run(python_program("merges.py"));
    let array = range(&said[0]);
    let heard = agent.heard();
    let messages: Vec<_> = heard.iter().map(|(wish, ranges)| (*wish, ranges.len())).collect();
    let expected = [
        (Wish::Merge, 1),  // An array,
        (Wish::Leave, 1),  // the same,
        (Wish::Merge, 2),  // an mmap and read-only bytes in one message,
        (Wish::Merge, 64), // and a module of a hundred parameters in two.
        (Wish::Merge, 36),
    ];
    assert_eq!(messages, expected);
    assert_eq!((heard[0].1[0], heard[1].1[0]), (array, array));
    assert_eq!(said[1..], ["merging", "done"]);
    assert_eq!(Agent::absent().run(python_program("merges.py"))[1..], ["no agent", "done"]);
}

#[test]
fn python_without_the_library_runs_on() {
    if !require_python(&["numpy"]) {
        return;
    }
    let mut command = python_program("merges.py");
    command.env("DORMOUSE_LIB", "/nowhere/libdormouse.so");
    assert_eq!(Agent::absent().run(command)[1..], ["no library", "done"]);
}

/// What a library exports goes before that of the C library: there must be no more than what is meant to.
#[test]
fn nothing_else_is_exported() {
    let ran =
        Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output().expect("nm, beside cc");
    let said = String::from_utf8(ran.stdout).unwrap();
    let mut names: Vec<_> = said.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    names.sort_unstable();
    let ours = ["advise", "advise_ranges", "stats", "status", "unadvise", "unadvise_ranges"];
    let expected: Vec<_> =
        ours.iter().map(|name| format!("dormouse_{name}")).chain(["madvise".to_owned()]).collect();
    assert_eq!(names, expected);
}
