//! Starts a sandbox: its cgroup, its driver, its first process.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use linux::cgroup::Cgroup;
use linux::process::Process;
use linux::spawn::{self, Spawn};
use pages::Domain;
use protocol::SandboxId;

use crate::WorkingSet;
use crate::body::Body;
use crate::driver::Driver;
use crate::family::{Family, Mark};
use crate::launch_spec::{LaunchError, LaunchSpec, Layout, Output, Sharing};
use crate::lineage::{Kin, Lineage, Ties};
use crate::mailbox::Mailbox;
use crate::node::Shared;
use crate::sandbox::{Command as Order, Inner, Sandbox};

/// A driver keeps little on its stack, and there is one for each sandbox.
const DRIVER_STACK_BYTES: usize = 512 << 10;

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
    let (name, depth) = (spec.name.clone(), spec.depth);
    // Without a freezer nobody knows the members of a cgroup either.
    let mark = (!cgroup.can_freeze()).then(|| Mark::of_sandbox(&node.instance, id.0));
    spec.env.extend(mark.as_ref().map(Mark::variable));
    let spawned = start(&cgroup, spec, layout_key);
    let mailbox = spawned.and_then(|process| Ok((process, Mailbox::new()?)));
    match mailbox {
        Ok((root, mailbox)) => {
            let ties = Ties { domain, layout_key, lineage };
            let family = Arc::new(Family::new(root.pid(), cgroup, mark));
            let inner = Inner::new(
                (id, name, depth),
                ties,
                root.pid(),
                Arc::clone(node),
                Arc::clone(&family),
                mailbox,
            );
            let inner = Arc::new(inner);
            let body = Body::new(root, family, node.means);
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

fn stdio(output: Output) -> Stdio {
    match output {
        Output::Inherit => Stdio::inherit(),
        Output::Discard => Stdio::null(),
        Output::To(fd) => Stdio::from(fd),
    }
}
