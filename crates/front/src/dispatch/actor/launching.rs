//! One launch: a port, a pipe, a process.

use std::io::PipeReader;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpListener;

use crate::catalogue::Revision;
use crate::extension_files;
use crate::hands::{NodeHands, SandboxHands};
use crate::launch::{Individual, Launcher};
use crate::runtime_api::{self, About};

/// A sandbox that was launched and has not been served yet.
pub(crate) struct Launched {
    pub(super) sandbox: Arc<dyn SandboxHands>,
    pub(super) listener: TcpListener,
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
    let listener = runtime_api::bind().await.map_err(|error| format!("bind a port: {error}"))?;
    let port = listener.local_addr().map_err(|error| format!("bind a port: {error}"))?.port();
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
    Ok(Launched { sandbox, listener, output, started, about })
}

/// An error and what is behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
