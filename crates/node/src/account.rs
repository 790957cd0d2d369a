//! The honest account of one sandbox, from `/proc`, its cgroup and the store.

use linux::process;
use protocol::{Account, State};

use crate::sandbox::Inner;

/// Kernel stack of a thread (x86-64), counted where no controller counts kernel memory.
const KERNEL_STACK_BYTES: u64 = 16 << 10;

/// What the sandbox costs now.
pub(crate) fn of(sandbox: &Inner) -> Account {
    let mut account = Account::default();
    if sandbox.state() == State::Gone {
        return account;
    }
    let mut threads = 0;
    for pid in sandbox.family.processes().into_iter().chain(sandbox.family.keeper) {
        // A process that has just died costs nothing.
        let status = process::status(pid).unwrap_or_default();
        account.resident_bytes += status.anonymous_bytes + status.swap_bytes;
        account.shared_bytes += status.file_bytes + status.shared_bytes;
        account.page_table_bytes += status.page_table_bytes;
        threads += u64::from(status.threads);
    }
    account.kernel_bytes = match sandbox.family.cgroup.usage() {
        Some(usage) => usage.kernel_bytes.saturating_sub(account.page_table_bytes),
        None => threads * KERNEL_STACK_BYTES,
    };
    let facts = sandbox.facts();
    account.warm_bytes = match facts.warm_bytes {
        Some(bytes) if !facts.manifests.is_empty() => bytes,
        _ => account.resident_bytes,
    };
    for manifest in facts.manifests.iter().chain(&facts.shadows) {
        let share = sandbox.node.store.share(manifest);
        account.store_identical_bytes += share.identical_bytes;
        account.store_patched_bytes += share.patched_bytes;
        account.store_packed_bytes += share.packed_bytes;
        account.store_whole_bytes += share.whole_bytes;
        account.manifest_bytes += share.table_bytes + manifest.heap_bytes();
    }
    account
}
