//! Starts a sandbox: its cgroup, its driver, its first process.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use linux::cell::{self, Cell, CellSpawn, Inmates, View};
use linux::cgroup::Cgroup;
use linux::process::Process;
use linux::socket_owner::Witness;
use linux::spawn::{self, Spawn};
use pages::Domain;
use protocol::{Merge, SandboxId};
use xxhash_rust::xxh3::xxh3_64;

use crate::WorkingSet;
use crate::body::Body;
use crate::driver::Driver;
use crate::family::{Family, Mark};
use crate::launch_spec::{CellSpec, LaunchError, LaunchSpec, Layout, Output, Sharing};
use crate::lineage::{Kin, Lineage, Ties};
use crate::mailbox::Mailbox;
use crate::node::{Node, Shared};
use crate::outsiders;
use crate::sandbox::{Command as Order, Inner, Sandbox};

/// A driver keeps little on its stack, and there is one for each sandbox.
const DRIVER_STACK_BYTES: usize = 512 << 10;

/// Users of the machine that cells of root's nodes have.
const CELL_USERS: RangeInclusive<u32> = 0x7000_0000..=0x7fff_ffff;

impl Node {
    /// Whether a function in a cell may have made the connection from `from` to `to`, both in the network of this process.
    /// Of one that is closed already nobody knows, and it counts as a function's. Asks the kernel: tens of microseconds;
    /// where we are no root it looks into `/proc` for who has the connection, some milliseconds.
    pub fn is_of_cell(&self, from: SocketAddr, to: SocketAddr) -> io::Result<bool> {
        let Some(owner) = Witness::new()?.of_connection(from, to)? else { return Ok(true) };
        let us = rustix::process::geteuid();
        if us.is_root() {
            return Ok(CELL_USERS.contains(&owner.user));
        }
        // Our cells have no user but us.
        Ok(owner.user == us.as_raw() && !outsiders::have_socket(owner.inode))
    }
}

/// Launches what `spec` says. Nothing is left of it on error.
pub(crate) fn launch(node: &Arc<Shared>, spec: LaunchSpec) -> Result<Sandbox, LaunchError> {
    if node.closing.load(Ordering::SeqCst) {
        return Err(LaunchError::ShuttingDown);
    }
    let id = SandboxId(node.next_id.fetch_add(1, Ordering::Relaxed));
    let node = Arc::clone(node);
    let (ready, started) = mpsc::sync_channel(1);
    let program = spec.program.clone();
    let drive = move || match prepare(&node, id, spec) {
        Ok(driver) => {
            let sandbox = Sandbox { inner: Arc::clone(&driver.inner) };
            node.remember(&driver.inner);
            if node.closing.load(Ordering::SeqCst) {
                driver.inner.mailbox.post(Order::Purge); // The shutdown may not have seen it.
            }
            let _ = ready.send(Ok(sandbox)); // If nobody waits any more, it is reachable through the node.
            driver.run();
        }
        Err(error) => drop(ready.send(Err(error))),
    };
    // The thread that starts the process is the one that traces it, and whose end ends it.
    let thread = std::thread::Builder::new().name(format!("sandbox-{id}")).stack_size(DRIVER_STACK_BYTES);
    thread.spawn(drive).map_err(|source| LaunchError::Spawn { program, source })?;
    started.recv().unwrap_or(Err(LaunchError::ShuttingDown))
}

/// Makes the cgroup and the process.
fn prepare(node: &Arc<Shared>, id: SandboxId, mut spec: LaunchSpec) -> Result<Driver, LaunchError> {
    let failed = |source| LaunchError::Cgroup { path: PathBuf::from(id.to_string()), source };
    let cgroup = node.hierarchy.add(&id.to_string()).map_err(failed)?;
    let domain = match &spec.sharing {
        Sharing::Domain(name) => Domain::named(name),
        Sharing::None => Domain::private(id.0),
    };
    let layout_key = match spec.layout {
        Layout::Pinned { secret } => Some(secret),
        Layout::Random => None,
    };
    let kin = match spec.layout {
        Layout::Pinned { secret } => Kin::Layout(secret),
        Layout::Random => Kin::Program { name: spec.name.clone(), program: spec.program.clone() },
    };
    let lineage = matches!(spec.sharing, Sharing::Domain(_)).then(|| Lineage { domain: domain.clone(), kin });
    let program = spec.program.clone();
    let (name, depth, merge) = (spec.name.clone(), spec.depth, spec.merge_in_effect());
    if merge == Merge::Advised {
        let_advise(node, &mut spec);
    }
    // Without a freezer nobody knows the members of a cgroup either.
    let mark = (!cgroup.can_freeze()).then(|| Mark::of_sandbox(&node.instance, id.0));
    spec.env.extend(mark.as_ref().map(Mark::variable));
    let spawned = match spec.cell.take() {
        Some(cell) => start_in_cell(node, id, &cgroup, spec, cell)
            .map(|Inmates { program, keeper, sockets }| (program, Some(keeper), sockets)),
        None => start(&cgroup, spec, layout_key).map(|root| (root, None, None)),
    };
    let mailbox = spawned.and_then(|process| Ok((process, Mailbox::new()?)));
    match mailbox {
        Ok(((root, keeper, sockets), mailbox)) => {
            let ties = Ties { domain, layout_key, lineage };
            let keeper_pid = keeper.as_ref().map(Process::pid);
            let family = Arc::new(Family::new(root.pid(), keeper_pid, cgroup, mark));
            let inner = Inner::new(
                (id, name, depth, merge),
                ties,
                root.pid(),
                Arc::clone(node),
                Arc::clone(&family),
                mailbox,
            );
            inner.keep_sockets(sockets);
            let inner = Arc::new(inner);
            let body = Body::new(root, keeper, family, node.means);
            let working_set = WorkingSet::default();
            Ok(Driver { inner, body, working_set, asleep: None, lazy: None, leftover: None })
        }
        Err(source) => {
            if let Err(error) = cgroup.remove() {
                tracing::error!(%error, "cannot remove the cgroup of a sandbox that did not start");
            }
            Err(LaunchError::Spawn { program, source })
        }
    }
}

/// Tells libdormouse where the agent listens.
const ADVICE_VARIABLE: &str = "DORMOUSE_MERGE_SOCKET";

/// Where a sandbox in a cell finds that.
const ADVICE_INSIDE: &str = "/var/dormouse/merge.sock";

/// Lets its programs advise. Where that cannot be it runs without, as advice changes nothing but what memory costs.
fn let_advise(node: &Arc<Shared>, spec: &mut LaunchSpec) {
    let socket = match node.advice.socket(node) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, name = spec.name, "cannot listen for advice: nothing of it is merged");
            return;
        }
    };
    let seen = match &mut spec.cell {
        Some(cell) => {
            cell.views.push(View { source: socket, target: ADVICE_INSIDE.into() });
            ADVICE_INSIDE.into()
        }
        None => socket.into(),
    };
    spec.env.retain(|(key, _)| key != ADVICE_VARIABLE);
    spec.env.push((ADVICE_VARIABLE.into(), seen));
}

fn start(cgroup: &Cgroup, spec: LaunchSpec, layout_secret: Option<u64>) -> std::io::Result<Process> {
    cgroup.limit(spec.limits.memory_bytes, spec.limits.processes)?;
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear().envs(spec.env).stdin(Stdio::null());
    command.stdout(stdio(spec.stdout)).stderr(stdio(spec.stderr));
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    let limits = spawn::Limits { file_bytes: spec.limits.file_bytes, open_files: spec.limits.open_files };
    spawn::spawn(Spawn { command, entrances: cgroup.entrances()?, limits, layout_secret })
}

/// A builder is there for a moment, a keeper always: they come on top of the processes that a sandbox may have.
const PROCESSES_OF_A_CELL: u64 = 2;

/// The same in a cell: the program, and the keeper.
fn start_in_cell(
    node: &Shared,
    id: SandboxId,
    cgroup: &Cgroup,
    spec: LaunchSpec,
    cell: CellSpec,
) -> std::io::Result<Inmates> {
    let memory_bytes = spec.limits.memory_bytes.map(|bytes| bytes.saturating_add(cell.tmp_bytes));
    cgroup
        .limit(memory_bytes, spec.limits.processes.map(|limit| limit.saturating_add(PROCESSES_OF_A_CELL)))?;
    let no_builder = || std::io::Error::other("this node was not given the program that builds cells");
    let layout_secret = match spec.layout {
        Layout::Pinned { secret } => Some(secret),
        Layout::Random => None,
    };
    cell::spawn(CellSpawn {
        builder: node.config.guard.clone().ok_or_else(no_builder)?,
        cell: Cell {
            id: cell_user(&node.instance, id),
            views: cell.views,
            tmp_bytes: cell.tmp_bytes,
            network: cell.network,
            port: cell.port,
            scaffold: node.config.data_dir.canonicalize()?,
        },
        program: spec.program,
        args: spec.args,
        env: spec.env,
        cwd: spec.cwd,
        stdout: stdio(spec.stdout),
        stderr: stdio(spec.stderr),
        entrances: cgroup.entrances()?,
        limits: spawn::Limits { file_bytes: spec.limits.file_bytes, open_files: spec.limits.open_files },
        layout_secret,
    })
}

/// A user of the machine that is nobody else: far above those that people and programs get. It comes again after 65,536
/// launches, and two nodes of one machine may have the same ones: no more than a hint at who somebody is.
fn cell_user(instance: &str, id: SandboxId) -> u32 {
    let of_node = xxh3_64(instance.as_bytes()) as u32 & 0xfff;
    CELL_USERS.start() + (of_node << 16) + (id.0 as u32 & 0xffff)
}

fn stdio(output: Output) -> Stdio {
    match output {
        Output::Inherit => Stdio::inherit(),
        Output::Discard => Stdio::null(),
        Output::To(fd) => Stdio::from(fd),
    }
}
