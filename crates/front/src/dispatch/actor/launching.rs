//! One launch: a port, a pipe, a process.

use std::io::PipeReader;
use std::sync::Arc;
use std::time::Instant;

use crate::catalogue::Revision;
use crate::extension_files;
use crate::hands::{NodeHands, SandboxHands};
use crate::launch::{Individual, Launcher};
use crate::runtime_api::{About, INSIDE_PORT, Link};

/// A sandbox that was launched and has not been served yet.
pub(crate) struct Launched {
    pub(super) sandbox: Arc<dyn SandboxHands>,
    pub(super) link: Link,
    pub(super) output: PipeReader,
    /// When its process was about to be started.
    pub(super) started: Instant,
    pub(super) about: About,
}

/// Launches one sandbox. The error is for the log and the client both, so it is text.
pub(super) async fn launch(
    launcher: Arc<Launcher>,
    node: Arc<dyn NodeHands>,
    revision: Arc<Revision>,
) -> Result<Launched, String> {
    let no_port = |error| format!("bind a port: {error}");
    let link = match launcher.network(&revision.function).is_own() {
        true => None, // It is made with the cell.
        false => Some(Link::of_machine().await.map_err(no_port)?),
    };
    let port = link.as_ref().map_or(Ok(INSIDE_PORT), Link::port).map_err(no_port)?;
    let has_cells = launcher.has_cells();
    let blocking = tokio::task::spawn_blocking(move || {
        let (output, stdout) = std::io::pipe().map_err(|error| format!("make a pipe: {error}"))?;
        let stderr = stdout.try_clone().map_err(|error| format!("make a pipe: {error}"))?;
        let own = Individual {
            port,
            log_stream: format!("[{}]{}", revision.version, uuid::Uuid::new_v4().simple()),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let function = &revision.function;
        let about = About {
            function: function.name.to_string(),
            version: revision.version.to_string(),
            handler: function.handler.clone(),
            extensions: extension_files::of(&function.root),
        };
        let spec = launcher.spec(&revision, own).map_err(|error| chain(&error))?;
        let started = Instant::now();
        let sandbox = node.launch(spec).map_err(|error| chain(&error))?;
        Ok::<_, String>((sandbox, output, started, about))
    });
    let (sandbox, output, started, about) = blocking.await.map_err(|error| format!("launch: {error}"))??;
    let link = match (link, sandbox.take_sockets()) {
        (Some(link), _) if has_cells => link.only_for(&sandbox),
        (Some(link), _) => link,
        (None, Some(sockets)) => Link::inside(sockets).map_err(no_port)?,
        (None, None) => return Err("its cell came without a Runtime API".to_owned()),
    };
    Ok(Launched { sandbox, link, output, started, about })
}

/// An error and what is behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
