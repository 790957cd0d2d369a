//! Where the pointers of a base image point to in another process of the same program.
//!
//! Address randomisation moves whole mappings, and allocators that align their blocks move parts of mappings by
//! some pages more. So the distance between an object and its twin is the same over long runs of pages. A
//! [`Relocation`] is the list of these runs. Added to the pointers of base pages, before they serve to encode and
//! to decode, it makes most of two heaps equal that have not one page in common.
//!
//! The distances are learned from pages that correspond, by a majority vote for each page that is pointed to
//! (Boyer and Moore, "MJRTY", 1991). No word has to be known to be a pointer: what is added is the same at both
//! ends, so a number that is mistaken for one costs some bytes and never content.

mod bytes;
mod learn;
#[cfg(test)]
mod tests;

pub use bytes::{PackedRelocation, RelocationError};
pub use learn::RelocationBuilder;

/// Pages of the base image from `first` on, whose twins lie `delta` bytes further. Page numbers are addresses
/// divided by the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    pages: u32,
    delta: u64, // Wraps around: most mappings move down as often as up.
}

impl Run {
    fn end(self) -> u64 {
        self.first + u64::from(self.pages)
    }
}

/// Runs nearer to each other than this lie in one segment: 16 MiB, so that a process has few segments.
const SEGMENT_GAP_PAGES: u64 = 4096;

/// Pages in all segments: 8 MiB of distances, for an image that spans 4 GiB. What lies beyond is not relocated.
const SEGMENT_PAGES_MAX: u64 = 1 << 20;

const PAGE_BITS: u32 = crate::PAGE_SIZE.trailing_zeros();

/// Page numbers end here: user space has 47 bits.
const PAGE_NUMBER_END: u64 = 1 << (47 - PAGE_BITS);

/// Distances of consecutive pages, for a lookup without a search.
#[derive(Debug)]
struct Segment {
    first: u64,
    deltas: Box<[u64]>, // 0 where nothing is known, and once more at the end: for all pages outside.
}

/// For each page of a base image, how far its content lies from there in another process.
///
/// It is ready to be applied and takes 8 bytes for each page spanned. What sleeps keeps a [`PackedRelocation`].
#[derive(Debug, Default)]
pub struct Relocation {
    runs: Box<[Run]>,
    segments: Box<[Segment]>,
}

impl Relocation {
    /// Moves nothing: for two processes with the same layout.
    pub fn none() -> Self {
        Self::default()
    }

    /// Runs are in order and do not overlap. Those that do not fit under the bound are left out.
    fn new(mut runs: Vec<Run>) -> Self {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        let (mut spanned, mut fitting) = (0, 0);
        for run in &runs {
            let near = spans.last_mut().filter(|span| run.first - span.1 <= SEGMENT_GAP_PAGES);
            let from = near.as_ref().map_or(run.first, |span| span.1);
            spanned += run.end() - from;
            if spanned > SEGMENT_PAGES_MAX {
                break;
            }
            fitting += 1;
            match near {
                Some(span) => span.1 = run.end(),
                None => spans.push((run.first, run.end())),
            }
        }
        runs.truncate(fitting);
        let segments = spans.into_iter().map(|span| Segment::new(span, &runs)).collect();
        Self { runs: runs.into(), segments }
    }

    /// Whether it changes nothing.
    pub fn is_none(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many runs it has.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Adds to every word of `base` that points into a run the distance of that run. `base` is whole words.
    pub fn apply(&self, base: &mut [u8]) {
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else { return };
        let low = first.first << PAGE_BITS;
        let span = (last.end() << PAGE_BITS) - low;
        let mut segment = first; // The one that was pointed to last; pointers come in flocks.
        for bytes in base.as_chunks_mut::<8>().0 {
            let word = u64::from_le_bytes(*bytes);
            if word.wrapping_sub(low) >= span {
                continue; // Most words that are no pointers end here.
            }
            let page = word >> PAGE_BITS;
            if !segment.contains(page) {
                segment = self.segment_before(page).unwrap_or(segment);
            }
            *bytes = word.wrapping_add(segment.delta(page)).to_le_bytes();
        }
    }

    /// The last segment that begins at `page` or before it.
    fn segment_before(&self, page: u64) -> Option<&Segment> {
        let behind = self.segments.partition_point(|segment| segment.first <= page);
        self.segments.get(behind.checked_sub(1)?)
    }
}

impl Segment {
    /// The pages from `span.0` up to `span.1`, with the distances of the runs among them.
    fn new(span: (u64, u64), runs: &[Run]) -> Self {
        let mut deltas = vec![0; (span.1 - span.0) as usize + 1];
        let from = runs.partition_point(|run| run.first < span.0);
        for run in runs[from..].iter().take_while(|run| run.first < span.1) {
            let place = (run.first - span.0) as usize;
            deltas[place..place + run.pages as usize].fill(run.delta);
        }
        Self { first: span.0, deltas: deltas.into() }
    }

    fn pages(&self) -> u64 {
        self.deltas.len() as u64 - 1
    }

    fn end(&self) -> u64 {
        self.first + self.pages()
    }

    fn contains(&self, page: u64) -> bool {
        page.wrapping_sub(self.first) < self.pages()
    }

    /// How far what lies on the page has moved.
    fn delta(&self, page: u64) -> u64 {
        self.deltas[page.wrapping_sub(self.first).min(self.pages()) as usize]
    }
}
