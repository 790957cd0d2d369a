//! The words that cross a boundary: ids, the life cycle of a sandbox, and the records that `ps`, `stats` and
//! the metrics show. Nothing here does anything; it can be sent, stored and compared.

mod account;
mod depth;
mod front_record;
mod id;
mod life_cycle;
mod merge;
mod record;

pub use account::Account;
pub use depth::{Depth, UnknownDepth};
pub use front_record::{FunctionRecord, StatsRecord};
pub use id::{FunctionName, InvalidName, InvocationId, RevisionId, SandboxId};
pub use life_cycle::{Event, Refused, State};
pub use merge::{Merge, UnknownMerge};
pub use record::{CheckRecord, NodeRecord, SandboxRecord, SleepRecord, WakeRecord};
