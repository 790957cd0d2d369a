//! dormouse itself, through the node that the server uses. Sharing needs several sandboxes: all of them sleep, and
//! in each round the next one is woken and put to sleep again.

use std::time::{Duration, Instant};

use node::{LaunchSpec, Layout, Limits, Node, NodeConfig, Output, Sandbox, Sharing, SleepError};
use protocol::{Depth, Merge, NodeRecord, State};
use report::bench::{KeptParts, Way};
use tokio::runtime::Handle;

use super::error::BenchError;
use super::keep::{Asleep, Keep, Woken, micros_since};
use super::line::Line;
use super::workshop::{Kind, Workshop};

/// What woke without its whole memory has it within 3 seconds, on a machine with nothing else to do.
const ALL_BACK_WITHIN: Duration = Duration::from_secs(60);
/// How often to look. A look reads `/proc` for each sandbox.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// All sandboxes of one worker, in a node of their own.
pub(crate) struct Ours {
    runtime: Handle,
    node: Node,
    sandboxes: Vec<(Sandbox, Line)>,
    /// The one that is woken next.
    turn: usize,
    own: Own,
    /// What this process and the guard would have without sandboxes.
    own_bytes_before: u64,
    /// How long the first sleep of each took.
    first_sleeps_us: Vec<u64>,
    /// How long the last sleep took.
    last_sleep_us: u64,
}

/// This process, which is the node of all ways that are dormouse's: each of them is counted an equal part of its growth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    bytes_before: u64,
    nodes: u64,
}

impl Own {
    /// Before there are any.
    pub(crate) fn look(ways: &[Way]) -> Result<Own, BenchError> {
        let nodes = ways.iter().filter(|way| matches!(way, Way::Dormouse | Way::Light)).count() as u64;
        Ok(Own { bytes_before: own_bytes()?, nodes: nodes.max(1) })
    }
}

fn own_bytes() -> Result<u64, BenchError> {
    let status = linux::process::status(std::process::id() as i32);
    Ok(status.map_err(BenchError::system("read our own status"))?.anonymous_bytes)
}

impl Ours {
    /// Starts the sandboxes. Each has slept and served once when this returns, so its working set is known.
    pub(crate) fn start(
        workshop: &Workshop,
        (kind, depth): (Kind, Depth),
        sandboxes: usize,
        own: Own,
        runtime: &Handle,
    ) -> Result<Ours, BenchError> {
        let node = start_node(workshop, &format!("{}-{depth}", kind.name()), 1)?;
        let others_growth = own_bytes()?.saturating_sub(own.bytes_before);
        let own_bytes_before = node.record().own_resident_bytes.saturating_sub(others_growth);
        let mut ours = Ours {
            runtime: runtime.clone(),
            node,
            sandboxes: Vec::new(),
            turn: 0,
            own,
            own_bytes_before,
            first_sleeps_us: Vec::new(),
            last_sleep_us: 0,
        };
        for number in 0..sandboxes {
            let (spec, line) = launch_spec(workshop, (kind, depth), number);
            let sandbox = ours.node.launch(spec).map_err(BenchError::ours("launch a sandbox"))?;
            ours.sandboxes.push((sandbox, line));
        }
        for (sandbox, line) in &ours.sandboxes {
            line.ask_when_ready(0)?.answer()?;
            sandbox.mark_ready().map_err(BenchError::ours("mark a sandbox ready"))?;
        }
        ours.first_sleeps_us = ours.all_sleep()?;
        for number in 0..sandboxes as u64 {
            ours.wake(number)?;
        }
        Ok(ours)
    }

    /// Puts those that are awake to sleep, one after the other; how long each took.
    fn all_sleep(&mut self) -> Result<Vec<u64>, BenchError> {
        let mut took = Vec::new();
        for (sandbox, _) in self.sandboxes.iter().filter(|(sandbox, _)| sandbox.state() == State::Warm) {
            let started = Instant::now();
            self.runtime.block_on(sandbox.sleep()).map_err(BenchError::ours("put a sandbox to sleep"))?;
            took.push(micros_since(started));
        }
        self.last_sleep_us = took.last().copied().unwrap_or(self.last_sleep_us);
        Ok(took)
    }

    /// The sandbox whose turn it is.
    fn next(&mut self) -> Result<(Sandbox, Line), BenchError> {
        let place = self.turn % self.sandboxes.len().max(1);
        self.turn += 1;
        let none = || BenchError::Ours { doing: "wake a sandbox", said: "there is none".to_owned() };
        self.sandboxes.get(place).cloned().ok_or_else(none)
    }

    /// Asks a sandbox, which is not busy, and waits for its answer.
    fn ask(&self, (sandbox, line): &(Sandbox, Line), number: u64) -> Result<Woken, BenchError> {
        let asked = line.ask(number)?;
        let started = Instant::now();
        self.runtime.block_on(sandbox.wake()).map_err(BenchError::ours("wake a sandbox"))?;
        sandbox.begin_invocation().map_err(BenchError::ours("begin an invocation"))?;
        let answer = asked.answer()?;
        let wake_us = micros_since(started);
        sandbox.end_invocation().map_err(BenchError::ours("end an invocation"))?;
        Ok(Woken { wake_us, answer })
    }

    /// A function that is idle has all its memory, as the rivals have it.
    fn await_all_back(&self) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            let coming_back = self.node.record().coming_back;
            if coming_back == 0 {
                return Ok(());
            }
            if started.elapsed() > ALL_BACK_WITHIN {
                let said = format!("{coming_back} sandboxes still wait for some");
                return Err(BenchError::Ours { doing: "wait until all memory is back", said });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Keep for Ours {
    fn sleep(&mut self) -> Result<Asleep, BenchError> {
        self.await_all_back()?;
        let sleep_us = self.all_sleep()?.last().copied();
        let record = self.node.record();
        tracing::debug!(?record, "all asleep");
        let own_growth = record.own_resident_bytes.saturating_sub(self.own_bytes_before) / self.own.nodes;
        let count = self.sandboxes.len().max(1) as u64;
        let (kept_bytes, kept_parts) =
            (kept_bytes(&record, own_growth) / count, parts(&record, own_growth, count));
        let warm_bytes = record.account.warm_bytes / count;
        Ok(Asleep { warm_bytes, kept_bytes, kept_parts: Some(kept_parts), sleep_us })
    }

    fn wake(&mut self, number: u64) -> Result<Woken, BenchError> {
        let next = self.next()?;
        self.ask(&next, number)
    }

    fn disturb(&mut self, number: u64, part: f64) -> Result<Option<Woken>, BenchError> {
        let next = self.next()?;
        self.ask(&next, number)?; // So that it is awake, and has slept before.
        self.await_all_back()?;
        let (runtime, sandbox) = (self.runtime.clone(), next.0.clone());
        let falls_asleep = std::thread::spawn(move || runtime.block_on(sandbox.sleep()));
        std::thread::sleep(Duration::from_micros((self.last_sleep_us as f64 * part) as u64));
        let woken = self.ask(&next, number)?;
        match falls_asleep.join() {
            // Refused: it was busy already.
            Ok(Ok(_) | Err(SleepError::Interrupted | SleepError::Refused(_))) => Ok(Some(woken)),
            Ok(Err(error)) => Err(BenchError::ours("put a sandbox to sleep")(error)),
            Err(_) => {
                Err(BenchError::Ours { doing: "put a sandbox to sleep", said: "it panicked".to_owned() })
            }
        }
    }

    fn first_sleeps_us(&self) -> &[u64] {
        &self.first_sleeps_us
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.node.shutdown();
    }
}

/// The sum of all costs. The accounts hold each sandbox's part; what the store and this process hold beyond the sum of
/// parts (fragments, buffers, tables) is the node's, and counted too.
pub(super) fn kept_bytes(record: &NodeRecord, own_growth: u64) -> u64 {
    let KeptParts { resident_bytes, kernel_bytes, store_bytes, table_bytes } = parts(record, own_growth, 1);
    resident_bytes + kernel_bytes + store_bytes + table_bytes
}

/// The same in parts, for one of `count` sandboxes.
fn parts(record: &NodeRecord, own_growth: u64, count: u64) -> KeptParts {
    let sum = &record.account;
    let pages = sum.store_bytes() - sum.manifest_bytes;
    KeptParts {
        resident_bytes: sum.resident_bytes / count,
        kernel_bytes: (sum.page_table_bytes + sum.kernel_bytes) / count,
        store_bytes: pages.max(record.store_bytes) / count,
        table_bytes: sum.manifest_bytes.max(own_growth) / count,
    }
}

/// A node for the bench. As many sandboxes as it has `sleep_slots` may fall asleep at the same time.
pub(super) fn start_node(workshop: &Workshop, name: &str, sleep_slots: usize) -> Result<Node, BenchError> {
    let guard = std::env::current_exe().map_err(BenchError::system("find this program"))?;
    let data_dir = workshop.dir.path().join(format!("node-{name}"));
    let config = NodeConfig { guard: Some(guard), sleep_slots, ..NodeConfig::new(data_dir) };
    Node::start(config).map_err(BenchError::ours("start a node"))
}

/// Each kind has a secret of its own, as each function version has one: the node takes sandboxes with the same secret
/// for alike.
fn layout(workshop: &Workshop, kind: Kind) -> Layout {
    let secret = workshop.layout_secret.map(|secret| secret.wrapping_add(kind as u64));
    secret.map_or(Layout::Random, |secret| Layout::Pinned { secret })
}

/// A sandbox of this kind, and how to talk to it.
pub(super) fn launch_spec(
    workshop: &Workshop,
    (kind, depth): (Kind, Depth),
    number: usize,
) -> (LaunchSpec, Line) {
    // Of one length for all: the addresses of memory depend on it.
    let way = if depth == Depth::Light { "lite" } else { "ours" };
    let socket = workshop.socket(way, number);
    let _ = std::fs::remove_file(&socket); // Of the worker before it.
    let environment = workshop.environment().into_iter();
    let spec = LaunchSpec {
        name: kind.name().to_owned(),
        program: workshop.program(kind).into(),
        args: workshop.arguments(kind, &socket, true),
        env: environment.map(|(name, value)| (name.into(), value.into())).collect(),
        cwd: Some("/".into()),
        limits: Limits::default(),
        layout: layout(workshop, kind),
        sharing: Sharing::Domain(kind.name().to_owned()),
        depth,
        merge: Merge::Off,
        cell: None,
        stdout: Output::Discard,
        stderr: Output::Discard,
    };
    (spec, Line::to(kind, socket, workshop.stop.clone()))
}
