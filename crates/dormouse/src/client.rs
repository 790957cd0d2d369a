//! Calls to a running server, through the unix socket in its data directory, for commands that wait.

use std::ops::ControlFlow;
use std::path::Path;

use front::{Client, ClientError};
use protocol::{CheckRecord, FunctionName, SandboxId, SandboxRecord, StatsRecord};

use crate::data_dir;
use crate::failure::Failure;

/// Every sandbox that is not gone.
pub(crate) fn sandboxes(data: &Path) -> Result<Vec<SandboxRecord>, Failure> {
    call(data, async |client| client.sandboxes().await)
}

/// The whole node.
pub(crate) fn stats(data: &Path) -> Result<StatsRecord, Failure> {
    call(data, async |client| client.stats().await)
}

/// Puts a sandbox to sleep.
pub(crate) fn sleep(data: &Path, id: SandboxId) -> Result<SandboxRecord, Failure> {
    call(data, async |client| client.sleep(id).await)
}

/// Wakes it.
pub(crate) fn wake(data: &Path, id: SandboxId) -> Result<SandboxRecord, Failure> {
    call(data, async |client| client.wake(id).await)
}

/// Puts it to sleep, wakes it, and compares every byte.
pub(crate) fn check(data: &Path, id: SandboxId) -> Result<CheckRecord, Failure> {
    call(data, async |client| client.check(id).await)
}

/// The last lines of a function's log, and those that come.
pub(crate) fn logs(
    data: &Path,
    function: &FunctionName,
    lines: usize,
    follow: bool,
    take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), Failure> {
    call(data, async |client| client.logs(function, lines, follow, take).await)
}

fn call<T>(data: &Path, call: impl AsyncFnOnce(Client) -> Result<T, ClientError>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("start", &error))?;
    let client = Client::new(data_dir::socket(data));
    runtime.block_on(call(client)).map_err(|error| Failure::of(&error))
}
