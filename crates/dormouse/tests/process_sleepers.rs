//! Invocations that meet a sleeping sandbox, or one that is falling asleep, are answered right, ten thousand times in a
//! row. Every answer is compared with what only a sandbox that kept all its memory can say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::time::Duration;

use common::{Ground, Server};
use protocol::{FunctionRecord, SandboxId};
use serde_json::json;
use testkit::require_python;

/// Invocations that have to meet a sleeper, of all functions together.
const MEETINGS: u64 = 10_000;

/// How often a function is asked before somebody looks how many meetings there were.
const ROUNDS: u32 = 250;

/// What each event writes into the function's bytes, and keeps as a text.
const PIECE: usize = 64;

/// Remembers every event in one block of bytes, and in small objects all over the interpreter's heap; answers with what
/// it counted and with checksums of all it remembers.
const CODE: &str = "\
import os, zlib
BYTES = bytearray(int(os.environ['BYTES']))
TEXTS = {}
count = 0
def lambda_handler(event, context):
    global count
    count += 1
    at, piece = event['at'], event['piece']
    BYTES[at:at + len(piece) // 2] = bytes.fromhex(piece)
    TEXTS[event['key']] = piece.upper()
    texts = ''.join(f'{key}{text}' for key, text in sorted(TEXTS.items()))
    return f'{count} {zlib.crc32(BYTES)} {zlib.crc32(texts.encode())}'
";

/// Texts that a function keeps; a new one takes the place of the old one of its key.
const KEYS: u64 = 512;

/// A function, and what is special about how its sandbox sleeps.
struct Kind {
    name: &'static str,
    bytes: usize,
    settings: &'static str,
}

/// Small and large, so that memory comes back before the thaw and after it.
const KINDS: [Kind; 4] = [
    Kind { name: "small", bytes: 64 << 10, settings: "" },
    Kind { name: "light", bytes: 256 << 10, settings: "depth = 'light'\n" },
    Kind { name: "alone", bytes: 64 << 10, settings: "layout = 'random'\nsharing = 'none'\n" },
    Kind { name: "large", bytes: 2 << 20, settings: "" },
];

/// What a sandbox must know.
struct Model {
    count: u64,
    bytes: Vec<u8>,
    texts: std::collections::BTreeMap<u64, String>,
    chance: u64,
}

impl Model {
    fn new(lane: u64, bytes: usize) -> Model {
        Model { count: 0, bytes: vec![0; bytes], texts: Default::default(), chance: lane }
    }

    /// The next of numbers that have nothing in common (splitmix64).
    fn number(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An event, and the bytes of its answer.
    fn next(&mut self) -> (String, String) {
        let at = (self.number() % (self.bytes.len() - PIECE) as u64) as usize;
        let piece: Vec<u8> = (0..PIECE / 8).flat_map(|_| self.number().to_le_bytes()).collect();
        let (key, hex) =
            (self.number() % KEYS, piece.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let event = json!({ "at": at, "piece": hex, "key": format!("{key:04}") }).to_string();
        self.count += 1;
        self.bytes[at..at + PIECE].copy_from_slice(&piece);
        self.texts.insert(key, hex.to_uppercase());
        let texts: String = self.texts.iter().map(|(key, text)| format!("{key:04}{text}")).collect();
        let sums = (crc32fast::hash(&self.bytes), crc32fast::hash(texts.as_bytes()));
        (event, format!("\"{} {} {}\"", self.count, sums.0, sums.1))
    }
}

/// Has the sandbox fall asleep, and calls it at some moment of that, or after it; now and then it is awake.
fn meet(server: &Server<'_>, name: &str, sandbox: SandboxId, model: &mut Model) {
    let (moment, wait) = (model.number() % 16, Duration::from_micros(model.number() % 4000));
    let mut asleep = (moment > 0).then(|| server.begin_sleep(sandbox).unwrap());
    match moment {
        0 => {}
        1..=11 => std::thread::sleep(wait),
        _ => drop(asleep.take().map(|reply| reply().unwrap())),
    }
    let (event, expected) = model.next();
    let reply = server.post(name, &[], event.as_bytes()).unwrap();
    let said = String::from_utf8_lossy(&reply.body);
    assert_eq!((reply.status, &*said), (200, &*expected), "{name}, event {}", model.count);
    drop(asleep.map(|reply| reply().unwrap())); // Broken off, most likely.
}

/// How many invocations woke their sandbox, and how many kept it from falling asleep. Nobody else does either.
fn meetings(server: &Server<'_>) -> [u64; 2] {
    let stats = server.stats();
    let woken = stats.functions.iter().map(|function| function.dedup_starts).sum();
    [woken, stats.node.sleeps_interrupted]
}

#[test]
fn ten_thousand_invocations_that_meet_a_sleeper_are_answered_right() {
    if !require_python(&["awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    for Kind { name, bytes, settings } in KINDS {
        let own = format!("concurrency = 1\nkeep_warm_s = 3600\ntimeout_s = 60\n{settings}");
        ground.function(name, CODE, &format!("{own}[environment]\nBYTES = '{bytes}'\n"));
    }
    let server = Server::start(&ground);
    let mut models: Vec<Model> = (0..).zip(&KINDS).map(|(lane, kind)| Model::new(lane, kind.bytes)).collect();
    for (kind, model) in KINDS.iter().zip(&mut models) {
        let (event, expected) = model.next();
        assert_eq!(server.post(kind.name, &[], event.as_bytes()).unwrap().body, expected.as_bytes());
    }
    let sandboxes = KINDS.map(|kind| server.sandbox_of(kind.name).id);
    while meetings(&server).iter().sum::<u64>() < MEETINGS {
        std::thread::scope(|scope| {
            for ((kind, model), sandbox) in KINDS.iter().zip(&mut models).zip(sandboxes) {
                let server = &server;
                scope.spawn(move || (0..ROUNDS).for_each(|_| meet(server, kind.name, sandbox, model)));
            }
        });
    }
    let found = meetings(&server);
    assert!(found.iter().all(|way| *way >= MEETINGS / 10), "asleep and falling asleep: {found:?}");
    look_back(&server, &models);
    server.stop();
}

/// Every invocation was answered, by the one sandbox that each function ever had, and every byte is in its place.
fn look_back(server: &Server<'_>, models: &[Model]) {
    let stats = server.stats();
    for (kind, model) in KINDS.iter().zip(models) {
        let of_kind = |function: &&FunctionRecord| function.name.as_str() == kind.name;
        let function = stats.functions.iter().find(of_kind).unwrap();
        assert_eq!((function.invocations, function.cold_starts), (model.count, 1), "{function:#?}");
        assert_eq!((function.errors, function.timeouts, function.throttles), (0, 0, 0), "{function:#?}");
        assert!(server.check(&server.sandbox_of(kind.name)).is_same());
    }
    assert_eq!((stats.node.deaths, stats.node.pages_damaged, stats.node.store_strays), (0, 0, 0));
}
