//! A relocation as bytes: what sleeps keeps it so.
//!
//! ```text
//! runs: varint | run ...
//! run: pages from the end of the last run: varint | pages: varint | distance minus the last one's, zigzag: varint
//! ```
//!
//! There is no checksum: a damaged relocation decodes to other pages, and every page is checked.

use super::{PAGE_NUMBER_END, Relocation, Run, SEGMENT_PAGES_MAX};
use crate::varint::{self, unzigzag, zigzag};

/// No run takes less, so no more are expected than the bytes could hold.
const RUN_LEN_MIN: usize = 3;

/// The bytes are no relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed relocation at byte {offset}")]
pub struct RelocationError {
    /// Where reading stopped.
    pub offset: usize,
}

/// A relocation as bytes, and nothing else: what is kept of it while nobody decodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedRelocation {
    bytes: Box<[u8]>,
}

impl PackedRelocation {
    /// Moves nothing.
    pub fn none() -> Self {
        Relocation::none().pack()
    }

    /// Whether it moves nothing.
    pub fn is_none(&self) -> bool {
        *self.bytes == [0]
    }

    /// Ready to be applied.
    pub fn expand(&self) -> Result<Relocation, RelocationError> {
        Relocation::from_bytes(&self.bytes)
    }

    /// The memory it takes in an [`Arc`](std::sync::Arc), as allocated.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + 2 * size_of::<usize>() + self.bytes.len()
    }
}

impl Relocation {
    /// What is kept of it.
    pub fn pack(&self) -> PackedRelocation {
        PackedRelocation { bytes: self.to_bytes().into() }
    }

    /// The relocation as bytes, four or five for each run.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint::push(&mut bytes, self.runs.len() as u64);
        let (mut end, mut delta) = (0, 0u64);
        for run in &self.runs {
            varint::push(&mut bytes, run.first - end);
            varint::push(&mut bytes, u64::from(run.pages));
            varint::push(&mut bytes, zigzag(run.delta.wrapping_sub(delta) as i64));
            (end, delta) = (run.end(), run.delta);
        }
        bytes
    }

    /// Reads what [`Relocation::to_bytes`] wrote. Takes at most 8 MiB and eight times the bytes, whatever they say.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RelocationError> {
        let mut offset = 0;
        let runs = read_runs(bytes, &mut offset).filter(|_| offset == bytes.len());
        runs.map(Self::new).ok_or(RelocationError { offset })
    }
}

fn read_runs(bytes: &[u8], offset: &mut usize) -> Option<Vec<Run>> {
    let count = usize::try_from(varint::read(bytes, offset)?).ok()?;
    if count > (bytes.len() - *offset) / RUN_LEN_MIN {
        return None;
    }
    let mut runs = Vec::with_capacity(count);
    let (mut end, mut delta) = (0u64, 0u64);
    for _ in 0..count {
        let first = end.checked_add(varint::read(bytes, offset)?)?;
        let pages = varint::read(bytes, offset)?;
        delta = delta.wrapping_add(unzigzag(varint::read(bytes, offset)?) as u64);
        end = first.checked_add(pages).filter(|&end| end <= PAGE_NUMBER_END)?;
        let pages =
            u32::try_from(pages).ok().filter(|&pages| (1..=SEGMENT_PAGES_MAX).contains(&pages.into()))?;
        runs.push(Run { first, pages, delta });
    }
    Some(runs)
}
