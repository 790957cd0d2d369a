//! A node for tests that keeps every byte where it is: processes are real, a sleep is SIGSTOP, a wake is SIGCONT.
//! It is for faults that real sandboxes cannot be made to show; what it was asked to do is recorded.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use node::{
    CheckError, Exit, LaunchError, LaunchSpec, Output, Peer, SleepError, Sockets, WakeError, Witness,
};
use protocol::{
    Account, CheckRecord, Event, NodeRecord, Refused, RevisionId, SandboxId, SandboxRecord, SleepRecord,
    State, WakeRecord,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::catalogue::{Revision, Version};
use crate::functions::load_function;
use crate::hands::{NodeHands, SandboxHands, Work};

/// The node. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub(crate) struct Double(Arc<Inner>);

#[derive(Default)]
struct Inner {
    last_id: AtomicU64,
    sandboxes: Mutex<BTreeMap<SandboxId, DoubleSandbox>>,
    calls: Mutex<Vec<String>>,
    faults: Faults,
}

/// What is to go wrong from now on.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) launch: AtomicBool,
    pub(crate) sleep: AtomicBool,
    pub(crate) wake: AtomicBool,
    pub(crate) not_ready: AtomicBool,
    /// Whoever connects is taken for a function.
    pub(crate) of_cell: AtomicBool,
    /// Once: the sandbox is found dead when it is to get an invocation.
    pub(crate) begin_once: AtomicBool,
}

#[derive(Clone)]
struct DoubleSandbox {
    id: SandboxId,
    name: String,
    pid: Pid,
    state: Arc<Mutex<State>>,
    exit: watch::Receiver<Option<Exit>>,
    node: Double,
}

/// A revision of a function that is not there, for what only passes it on.
pub(crate) fn revision() -> Revision {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("f");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("bootstrap"), "").unwrap();
    Revision { id: RevisionId(1), version: Version::Latest, function: load_function(&root).unwrap() }
}

impl Double {
    pub(crate) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Everything that was asked, in order: `launch 1`, `sleep 1` …
    pub(crate) fn calls(&self) -> Vec<String> {
        self.0.calls.lock().unwrap().clone()
    }

    /// Kills what still runs when it is dropped: most tests end without a shutdown.
    pub(crate) fn kill_all_in_the_end(&self) -> KillAll {
        KillAll(self.clone())
    }

    fn note(&self, call: &str, id: SandboxId) {
        self.0.calls.lock().unwrap().push(format!("{call} {id}"));
    }
}

pub(crate) struct KillAll(Double);

impl Drop for KillAll {
    fn drop(&mut self) {
        self.0.0.sandboxes.lock().unwrap().values().for_each(|sandbox| sandbox.signal(Signal::KILL));
    }
}

impl NodeHands for Double {
    fn is_of_cell(&self, _from: SocketAddr, _to: SocketAddr) -> io::Result<bool> {
        Ok(self.0.faults.of_cell.load(SeqCst))
    }

    fn sandbox(&self, _id: SandboxId) -> Option<Arc<dyn SandboxHands>> {
        None // Every sandbox here was launched by dispatch.
    }

    fn launch(&self, spec: LaunchSpec) -> Result<Arc<dyn SandboxHands>, LaunchError> {
        if self.0.faults.launch.load(SeqCst) {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(LaunchError::Spawn { program: spec.program, source });
        }
        let stdio = |output| match output {
            Output::Inherit => Stdio::inherit(),
            Output::Discard => Stdio::null(),
            Output::To(fd) => fd.into(),
        };
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).env_clear().envs(spec.env).stdin(Stdio::null());
        command.stdout(stdio(spec.stdout)).stderr(stdio(spec.stderr));
        command.current_dir(spec.cwd.unwrap());
        let spawned = command.spawn();
        let program = spec.program;
        let mut child = spawned.map_err(|source| LaunchError::Spawn { program, source })?;

        let id = SandboxId(self.0.last_id.fetch_add(1, SeqCst) + 1);
        self.note("launch", id);
        let (dead, exit) = watch::channel(None);
        let state = Arc::new(Mutex::new(State::Starting));
        let pid = Pid::from_child(&child);
        let sandbox = DoubleSandbox { id, name: spec.name, pid, state, exit, node: self.clone() };
        self.0.sandboxes.lock().unwrap().insert(id, sandbox.clone());
        let node = self.clone();
        std::thread::spawn(move || {
            let status = child.wait().unwrap();
            node.0.sandboxes.lock().unwrap().remove(&id);
            let signal = status.signal().map_or(Exit::Unknown, Exit::Signal);
            dead.send_replace(Some(status.code().map_or(signal, Exit::Code)));
        });
        Ok(Arc::new(sandbox))
    }

    fn sandboxes(&self) -> Vec<SandboxRecord> {
        self.0.sandboxes.lock().unwrap().values().map(SandboxHands::record).collect()
    }

    fn not_ready(&self) -> Option<String> {
        self.0.faults.not_ready.load(SeqCst).then(|| "its guard is dead".to_owned())
    }

    fn record(&self) -> NodeRecord {
        NodeRecord { sandboxes: self.0.sandboxes.lock().unwrap().len() as u64, ..NodeRecord::default() }
    }
}

impl DoubleSandbox {
    fn change(&self, event: Event) -> Result<(), Refused> {
        let mut state = self.state.lock().unwrap();
        *state = state.after(event)?;
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_none() {
            let _ = kill_process(self.pid, signal); // It may have died since.
        }
    }
}

impl SandboxHands for DoubleSandbox {
    fn id(&self) -> SandboxId {
        self.id
    }

    fn take_sockets(&self) -> Option<Sockets> {
        None // It has the machine's network.
    }

    fn peer(&self, _of: &Witness, _from: SocketAddr, _to: SocketAddr) -> io::Result<Peer> {
        Ok(Peer::Own)
    }

    fn mark_ready(&self) -> Result<(), Refused> {
        self.change(Event::Ready)
    }

    fn begin_invocation(&self) -> Result<(), Refused> {
        if self.node.0.faults.begin_once.swap(false, SeqCst) {
            return Err(Refused { state: State::Gone, event: Event::Invoke });
        }
        self.change(Event::Invoke)
    }

    fn end_invocation(&self) -> Result<(), Refused> {
        self.change(Event::Answer)
    }

    fn sleep(&self) -> Work<Result<SleepRecord, SleepError>> {
        let sandbox = self.clone();
        Box::pin(async move {
            sandbox.node.note("sleep", sandbox.id);
            if sandbox.node.0.faults.sleep.load(SeqCst) {
                return Err(SleepError::LeftWarm { why: "it holds a device".to_owned() });
            }
            sandbox.change(Event::Freeze)?;
            sandbox.signal(Signal::STOP);
            sandbox.change(Event::Emptied)?;
            Ok(SleepRecord::default())
        })
    }

    fn wake(&self) -> Work<Result<Option<WakeRecord>, WakeError>> {
        let sandbox = self.clone();
        Box::pin(async move {
            sandbox.node.note("wake", sandbox.id);
            if sandbox.node.0.faults.wake.load(SeqCst) {
                sandbox.purge();
                return Err(WakeError::Gone);
            }
            if *sandbox.state.lock().unwrap() == State::Warm {
                return Ok(None);
            }
            sandbox.change(Event::Restore)?;
            sandbox.signal(Signal::CONT);
            sandbox.change(Event::Restored)?;
            Ok(Some(WakeRecord::default()))
        })
    }

    fn check(&self) -> Work<Result<CheckRecord, CheckError>> {
        let (sleep, wake) = (self.sleep(), self.wake());
        Box::pin(async move {
            let (sleep, wake) = (sleep.await?, wake.await?.unwrap_or_default());
            Ok(CheckRecord { sleep, wake, ..CheckRecord::default() })
        })
    }

    fn purge(&self) {
        self.node.note("purge", self.id);
        *self.state.lock().unwrap() = State::Gone;
        self.signal(Signal::KILL);
    }

    fn peak_bytes(&self) -> u64 {
        12 << 20
    }

    fn exit(&self) -> Work<Exit> {
        let mut exit = self.exit.clone();
        Box::pin(async move { exit.wait_for(Option::is_some).await.unwrap().unwrap() })
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap()
    }

    fn record(&self) -> SandboxRecord {
        SandboxRecord {
            id: self.id,
            name: self.name.clone(),
            state: *self.state.lock().unwrap(),
            pid: self.pid.as_raw_nonzero().get(),
            depth: protocol::Depth::Deep,
            account: Account::default(),
            state_age_ms: 0,
            invocations: 0,
            sleeps: 0,
            wakes: 0,
            left_warm: None,
            last_sleep: None,
            last_wake: None,
        }
    }
}
