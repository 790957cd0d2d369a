//! A redis-server sleeps under open connections: a request written meanwhile is answered after the wake, and every
//! key has its value.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use common::{Bench, every_way, wait};
use node::{LaunchSpec, Layout, Limits, Output, Sandbox, Sharing};
use protocol::{Depth, Merge, State};

const CLIENTS: usize = 8;
const KEYS: usize = 4000;

/// A connection, speaking RESP.
struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn connect(socket: &Path) -> Option<Client> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(testkit::ANSWER_WITHIN)).unwrap();
        Some(Client { stream: BufReader::new(stream) })
    }

    /// Sends a command; its reply is for later.
    fn send(&mut self, words: &[&str]) {
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// The next reply, of a kind that this test asks for: a status, a number or a string.
    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let line = line.trim_end();
        let Some(len_bytes) = line.strip_prefix('$') else { return line.to_owned() };
        let mut text = vec![0; len_bytes.parse::<usize>().unwrap() + 2];
        self.stream.read_exact(&mut text).unwrap();
        text.truncate(text.len() - 2);
        String::from_utf8(text).unwrap()
    }
}

/// The value of a key after so many changes: from 10 bytes to 6 KB.
fn value(key: usize, changes: usize) -> String {
    format!("value {key} {changes} ").repeat(1 + key * 7 % 400)
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

/// A server of its own, without persistence, that listens in `folder`.
fn launch(bench: &Bench, folder: &Path) -> (Sandbox, Vec<Client>) {
    let socket = folder.join("redis");
    let options = ["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"];
    let args = options.iter().map(Into::into).chain([socket.clone().into()]).collect();
    let spec = LaunchSpec {
        name: "redis".to_owned(),
        program: "redis-server".into(),
        args,
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        cwd: Some(folder.to_owned()),
        limits: Limits::default(),
        layout: Layout::Random,
        sharing: Sharing::None,
        depth: Depth::Deep,
        merge: Merge::Off,
        cell: None,
        stdout: Output::Discard,
        stderr: Output::Inherit,
    };
    let sandbox = bench.node.launch(spec).unwrap();
    testkit::until(|| Client::connect(&socket).is_some()).unwrap();
    sandbox.mark_ready().unwrap();
    let clients = (0..CLIENTS).map(|_| Client::connect(&socket).unwrap()).collect();
    (sandbox, clients)
}

/// Which keys a client works on.
fn keys_of(client: usize) -> impl Iterator<Item = usize> {
    (client..KEYS).step_by(CLIENTS)
}

/// Each client sets its keys.
fn set_all(clients: &mut [Client], changes: usize) {
    for (at, client) in clients.iter_mut().enumerate() {
        for number in keys_of(at) {
            client.send(&["SET", &key(number), &value(number, changes)]);
            assert_eq!(client.reply(), "+OK");
        }
    }
}

#[track_caller]
fn expect_all(clients: &mut [Client], changes: usize) {
    for (at, client) in clients.iter_mut().enumerate() {
        for number in keys_of(at) {
            client.send(&["GET", &key(number)]);
            assert!(client.reply() == value(number, changes), "key {number} after {changes} changes");
        }
    }
}

/// Sleeps while every client has requests on the way: they are answered in order after the wake.
#[track_caller]
fn check(rounds: usize) {
    let version = Command::new("redis-server").arg("--version").output();
    if !testkit::require(version.is_ok(), "redis-server", "apt-get install redis-server") {
        return;
    }
    for (way, configure) in every_way() {
        println!("--- {way}");
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::with(configure);
        let (sandbox, mut clients) = launch(&bench, folder.path());
        for round in 0..rounds {
            set_all(&mut clients, round);
            let found = wait(sandbox.check()).unwrap();
            assert!(found.is_same(), "{way}: {found:?}");
            wait(sandbox.sleep()).unwrap();
            for (at, client) in clients.iter_mut().enumerate() {
                client.send(&["GET", &key(at)]);
                client.send(&["INCR", "counter"]);
                client.send(&["ECHO", "still here"]);
            }
            assert_eq!(sandbox.state(), State::Dedup, "{way}: nobody woke it");
            wait(sandbox.wake()).unwrap().expect("it slept");
            let mut counted = Vec::new();
            for (at, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.reply(), value(at, round), "{way}");
                counted.push(client.reply());
                assert_eq!(client.reply(), "still here", "{way}");
            }
            counted.sort_by_key(|count| count[1..].parse::<usize>().unwrap());
            let expected = (1..=CLIENTS).map(|count| format!(":{}", round * CLIENTS + count));
            assert_eq!(counted, expected.collect::<Vec<_>>(), "{way}");
            expect_all(&mut clients, round);
        }
        sandbox.purge();
    }
}

#[test]
fn a_redis_server_keeps_its_data_and_its_connections() {
    check(2);
}
