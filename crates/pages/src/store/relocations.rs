//! The relocations that patch groups need. All patches of one process have one, and it is kept as long as any of them.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::PackedRelocation;

/// How many groups need each.
#[derive(Default)]
pub(super) struct Relocations {
    /// By where it lies: the groups that need it keep it there.
    uses: HashMap<usize, u32>,
    bytes: usize,
}

impl Relocations {
    /// One more group needs it.
    pub(super) fn hold(&mut self, relocation: &Arc<PackedRelocation>) {
        let uses = self.uses.entry(place(relocation)).or_default();
        if *uses == 0 {
            self.bytes += relocation.heap_bytes();
        }
        *uses += 1;
    }

    /// One group less needs it.
    pub(super) fn let_go(&mut self, relocation: &Arc<PackedRelocation>) {
        let Some(uses) = self.uses.get_mut(&place(relocation)) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.bytes -= relocation.heap_bytes();
            self.uses.remove(&place(relocation));
        }
    }

    /// What each of the groups that need it pays for it.
    pub(super) fn part_bytes(&self, relocation: &Arc<PackedRelocation>) -> f64 {
        let uses = self.uses.get(&place(relocation)).copied().unwrap_or(1);
        relocation.heap_bytes() as f64 / f64::from(uses)
    }

    /// Memory of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory of the table alone.
    pub(super) fn heap_bytes(&self) -> usize {
        self.uses.allocation_size()
    }
}

fn place(relocation: &Arc<PackedRelocation>) -> usize {
    Arc::as_ptr(relocation).addr()
}
