//! What is queued.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use protocol::{FunctionName, InvocationId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One event of one queue, in the order of acceptance. Never used twice while the queue is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub(crate) u64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

/// Where an event, or the record of what became of it, is to go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A function is invoked with it.
    Function {
        /// Which one.
        name: FunctionName,
        /// Which version or alias; `$LATEST` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        qualifier: Option<String>,
    },
    /// It becomes a line of a file.
    File {
        /// Which one; absolute.
        path: PathBuf,
    },
}

impl Target {
    /// The lane that events with this target wait in.
    pub fn lane(&self) -> Lane {
        match self {
            Target::Function { name, .. } => Lane::Function(name.clone()),
            Target::File { path } => Lane::File(path.clone()),
        }
    }
}

/// Events that wait for the same thing: for one function, whatever the version, or for one file. One lane does not
/// hold another up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Those that invoke this function.
    Function(FunctionName),
    /// Those that become lines of this file.
    File(PathBuf),
}

/// An event that is to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// What is to be done with it.
    pub target: Target,
    /// The request id: the same for all attempts.
    pub invocation: InvocationId,
    /// What the function gets, or the line.
    pub payload: Bytes,
    /// The trace that it belongs to.
    pub trace_id: String,
    /// How many events led to this one: 0 for one that a client sent.
    pub hops: u8,
}

/// An event that was taken, to be tried now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the queue.
    pub id: EventId,
    /// What is to be done with it.
    pub target: Target,
    /// The request id: the same for all attempts.
    pub invocation: InvocationId,
    /// What the function gets, or the line.
    pub payload: Bytes,
    /// The trace that it belongs to.
    pub trace_id: String,
    /// How many events led to this one.
    pub hops: u8,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Attempts that ended in an error of the function.
    pub failures: u32,
}
