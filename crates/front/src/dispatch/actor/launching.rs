//! One launch: a port, a pipe, a process.

use std::io::PipeReader;
use std::sync::Arc;
use std::time::Instant;

use node::LaunchError;

use crate::catalogue::Revision;
use crate::functions::Function;
use crate::hands::{NodeHands, SandboxHands};
use crate::launch::{Individual, Launcher};
use crate::outcome::Fault;
use crate::runtime_api::{About, INSIDE_PORT, Link};
use crate::{entrypoint, extension_files};

/// A sandbox that was launched and has not been served yet.
pub(crate) struct Launched {
    pub(super) sandbox: Arc<dyn SandboxHands>,
    pub(super) link: Link,
    pub(super) output: PipeReader,
    /// When its process was about to be started.
    pub(super) started: Instant,
    pub(super) about: About,
}

/// Launches one sandbox.
pub(super) async fn launch(
    launcher: Arc<Launcher>,
    node: Arc<dyn NodeHands>,
    revision: Arc<Revision>,
) -> Result<Launched, Fault> {
    let no_port = |error| Fault::Launch(format!("bind a port: {error}"));
    let network =
        launcher.networks().of(&revision.function).map_err(|error| Fault::Launch(error.to_string()))?;
    let link = match network.is_own() {
        true => None, // It is made with the cell.
        false => Some(Link::of_machine().map_err(no_port)?),
    };
    let port = link.as_ref().map_or(Ok(INSIDE_PORT), Link::port).map_err(no_port)?;
    let has_strangers = launcher.has_cells() && network.is_shared();
    let blocking = tokio::task::spawn_blocking(move || {
        let no_pipe = |error| Fault::Launch(format!("make a pipe: {error}"));
        let (output, stdout) = std::io::pipe().map_err(no_pipe)?;
        let stderr = stdout.try_clone().map_err(no_pipe)?;
        let own = Individual {
            port,
            log_stream: format!("[{}]{}", revision.version, uuid::Uuid::new_v4().simple()),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let function = &revision.function;
        entrypoint::check(function).map_err(Fault::Entrypoint)?;
        let about = About {
            function: function.name.to_string(),
            version: revision.version.to_string(),
            handler: function.handler.clone(),
            extensions: extension_files::of(&function.root),
        };
        let spec = launcher.spec(&revision, own, network).map_err(|error| Fault::Launch(chain(&error)))?;
        let started = Instant::now();
        let sandbox = node.launch(spec).map_err(|error| refused(function, &error))?;
        Ok::<_, Fault>((sandbox, output, started, about))
    });
    let launched = blocking.await.map_err(|error| Fault::Launch(format!("launch: {error}")))?;
    let (sandbox, output, started, about) = launched?;
    let link = match (link, sandbox.take_sockets()) {
        (Some(link), _) => link,
        (None, Some(sockets)) => Link::inside(sockets).map_err(no_port)?,
        (None, None) => return Err(Fault::Launch("its cell came without a Runtime API".to_owned())),
    };
    let link = if has_strangers { link.only_for(&sandbox) } else { link };
    Ok(Launched { sandbox, link, output, started, about })
}

/// Whose fault it is that a sandbox could not be launched.
fn refused(function: &Function, error: &LaunchError) -> Fault {
    let of_function = match error {
        LaunchError::Spawn { source, .. } => entrypoint::fault(function, source),
        _ => None,
    };
    of_function.map_or_else(|| Fault::Launch(chain(error)), Fault::Entrypoint)
}

/// An error and what is behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
