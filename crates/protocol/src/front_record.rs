//! What the front counted, beside what the node measured.

use serde::{Deserialize, Serialize};

use crate::{FunctionName, NodeRecord};

/// One function, since the server started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// Its name.
    pub name: FunctionName,
    /// Invocations that ended, however they ended.
    pub invocations: u64,
    /// Of them: the function reported an error, crashed, or could not start.
    pub errors: u64,
    /// Of them: took too long, and cost their sandbox.
    pub timeouts: u64,
    /// Of them: got no sandbox, because of the limit or the queue's bound.
    pub throttles: u64,
    /// Handed to a sandbox that was started for the occasion.
    pub cold_starts: u64,
    /// Handed to a sandbox that was warm.
    pub warm_starts: u64,
    /// Handed to a sandbox that slept.
    pub dedup_starts: u64,
    /// Waiting now.
    pub queued: u64,
    /// Sandboxes now, starting and dying ones included.
    pub sandboxes: u64,
}

/// What `dormouse stats` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsRecord {
    /// The node and its memory.
    pub node: NodeRecord,
    /// Every function, by name.
    pub functions: Vec<FunctionRecord>,
}
