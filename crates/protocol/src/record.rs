//! Records: what was measured, in the shape that `--json` prints. Units stand last in each name.

use serde::{Deserialize, Serialize};

use crate::{Account, Depth, SandboxId, State};

/// One line of `dormouse ps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its number.
    pub id: SandboxId,
    /// Function name, or the command of `dormouse run`.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// The first process of its tree.
    pub pid: i32,
    /// How deep it is to sleep. How deep it did, its last sleep says.
    #[serde(default)]
    pub depth: Depth,
    /// What it costs.
    pub account: Account,
    /// How long it has been in this state.
    pub state_age_ms: u64,
    /// Invocations answered.
    pub invocations: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Times it woke.
    pub wakes: u64,
    /// Why it was left warm when it was last asked to sleep, if it was.
    pub left_warm: Option<String>,
    /// The last time it went to sleep.
    pub last_sleep: Option<SleepRecord>,
    /// The last time it woke.
    pub last_wake: Option<WakeRecord>,
}

/// One journey into sleep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SleepRecord {
    /// From when it is being stopped to asleep; its turn among sleepers, and memory still out, are waited for before.
    pub total_us: u64,
    /// Of it: until every process stood still.
    pub freeze_us: u64,
    /// Of it: finding which pages are its own.
    pub scan_us: u64,
    /// Of it: reading, encoding and storing them.
    pub encode_us: u64,
    /// Of it: giving the memory back to the kernel, by injected system calls.
    pub empty_us: u64,
    /// Processes in the tree.
    pub processes: u32,
    /// How deep it sleeps: `light` where pages of a working set stayed, whatever it was to be.
    #[serde(default)]
    pub depth: Depth,
    /// Pages that left without being encoded again: known to be unchanged since the last sleep.
    pub unchanged_pages: u64,
    /// Pages full of zeros.
    pub zero_pages: u64,
    /// Pages that the store had already.
    pub same_pages: u64,
    /// Pages stored as patches against base pages.
    pub patched_pages: u64,
    /// Pages stored compressed.
    pub packed_pages: u64,
    /// Pages stored whole.
    pub whole_pages: u64,
    /// Private pages that stayed: locked, needed by the kernel, not ours to take, or of the working set (light sleep).
    pub left_pages: u64,
    /// Of those that were encoded, pages that stayed as well: an invocation came while memory was leaving.
    #[serde(default)]
    pub stayed_pages: u64,
}

impl SandboxRecord {
    /// How deep it sleeps, if it sleeps.
    pub fn depth_reached(&self) -> Option<Depth> {
        self.last_sleep.as_ref().filter(|_| self.state == State::Dedup).map(|sleep| sleep.depth)
    }
}

impl SleepRecord {
    /// Private pages that the sandbox had.
    pub fn own_pages(&self) -> u64 {
        self.unchanged_pages
            + self.zero_pages
            + self.same_pages
            + self.patched_pages
            + self.packed_pages
            + self.whole_pages
            + self.left_pages
    }
}

/// One journey back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WakeRecord {
    /// From the first page filled to running; a sleep that has to end first is not in it.
    pub total_us: u64,
    /// Of it: decoding and filling before the thaw.
    pub fill_us: u64,
    /// Pages filled before the thaw.
    pub filled_pages: u64,
    /// Pages decoded for that: their neighbours in the store included, and base pages.
    #[serde(default)]
    pub decoded_pages: u64,
    /// Pages left to faults and the background at the thaw.
    pub lazy_pages: u64,
    /// Of the lazy pages: fetched by a fault. Known when all memory is back.
    pub faulted_pages: u64,
    /// Pages in the recorded working set.
    pub working_set_pages: u64,
}

/// What `dormouse check` found: a sleep and a wake with every byte compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// Hash of all private memory, addresses included, before.
    pub hash_before: String,
    /// The same after.
    pub hash_after: String,
    /// Pages hashed before.
    pub pages_before: u64,
    /// Pages hashed after.
    pub pages_after: u64,
    /// The sleep in between.
    pub sleep: SleepRecord,
    /// The wake in between.
    pub wake: WakeRecord,
}

impl CheckRecord {
    /// Whether the memory is what it was.
    pub fn is_same(&self) -> bool {
        self.hash_before == self.hash_after && self.pages_before == self.pages_after
    }
}

/// The whole node, for `dormouse stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Sandboxes alive.
    pub sandboxes: u64,
    /// Of them asleep.
    pub dedup_sandboxes: u64,
    /// Of them awake, and some of their memory still on its way back.
    #[serde(default)]
    pub coming_back: u64,
    /// Of them awake, and known in which pages they differ from what the store still has of them.
    #[serde(default)]
    pub shadows: u64,
    /// Sum over all sandboxes.
    pub account: Account,
    /// Bytes the store's memory holds: encodings, fragmentation included.
    pub store_bytes: u64,
    /// Distinct pages in the store.
    pub store_pages: u64,
    /// Groups they lie in.
    pub store_groups: u64,
    /// References given back to the store that nobody had. Anything but 0 is a bug.
    pub store_strays: u64,
    /// Bases of all lineages of which somebody sleeps: one for each, and one more of every forty sleepers.
    pub bases: u64,
    /// Tables of the store.
    pub store_table_bytes: u64,
    /// Resident private memory of the node process itself.
    pub own_resident_bytes: u64,
    /// Sleeps that ended in sleep.
    pub sleeps: u64,
    /// Sleeps broken off by an invocation.
    pub sleeps_interrupted: u64,
    /// Sleeps that came to nothing: something cannot be carried, or the kernel or the store refused.
    pub sleeps_refused: u64,
    /// Wakes.
    pub wakes: u64,
    /// Sleeping sandboxes whose pages of a newly known working set were moved together.
    #[serde(default)]
    pub regrouped: u64,
    /// Pages whose check failed when they were rebuilt; each cost a sandbox.
    pub pages_damaged: u64,
    /// Sandboxes that ended, however they ended: purged, killed, or by themselves; not those that a shutdown ends.
    pub deaths: u64,
    /// Chunks of base pages by which alike pages are found.
    #[serde(default)]
    pub registry_chunks: u64,
    /// Memory they take; part of `store_table_bytes`.
    #[serde(default)]
    pub registry_bytes: u64,
    /// Why it can start no sandbox, or put none to sleep; `None`: it can.
    #[serde(default)]
    pub not_ready: Option<String>,
    /// How sandboxes are stopped here.
    pub stop_by: String,
    /// How memory is filled here.
    pub fill_by: String,
}
