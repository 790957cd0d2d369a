//! Looks over a stopped process: which of its pages can leave, and whether anything forbids it.

use std::io;
use std::sync::Arc;

use linux::maps::Mapping;
use linux::pagemap::PageMap;
use linux::trace::Stopped;
use linux::{carry, maps, process};
use pages::{Manifest, PAGE_SIZE, PageAddr, PageRange};

use crate::dedup::DedupError;
use crate::ranges::{common, pages as pages_of, without};
use crate::shadow::Shadow;

/// Splitting mappings must leave the program room for its own.
const MAPPINGS_MAX_DEFAULT: usize = 65_530;

/// At most so many pages hold the command line that is left in place for `ps`.
const COMMAND_LINE_PAGES_MAX: u64 = 16;

/// What a stopped process has.
pub(crate) struct Survey {
    pub(crate) pid: i32,
    pub(crate) mappings: Vec<Mapping>,
    /// Memory that can leave, by mapping.
    pub(crate) parts: Vec<Part>,
    /// What stands in the store as it is; `None`: nothing is known to.
    pub(crate) unchanged: Option<Unchanged>,
    /// Private pages that stay.
    pub(crate) left_pages: u64,
    /// Whether some of them stay because they are of the working set.
    pub(crate) leaves_working_set: bool,
    /// Those of them that lie in `parts`, sorted.
    left: Vec<PageRange>,
}

/// Pages that were not written since they came from the store.
pub(crate) struct Unchanged {
    /// What they were filled from.
    pub(crate) manifest: Arc<Manifest>,
    /// In order.
    pub(crate) ranges: Vec<PageRange>,
}

/// The pages of one mapping that can leave.
pub(crate) struct Part {
    /// Own pages, in order.
    pub(crate) runs: Vec<PageRange>,
    /// The whole mapping.
    pub(crate) mapping: PageRange,
    /// `PROT_*` bits of the mapping.
    pub(crate) prot: u64,
    pub(crate) kind: Kind,
}

/// Whose pages they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anonymous memory.
    Anonymous,
    /// Private copies of pages of a file.
    FileCopies,
}

impl Survey {
    /// Own pages that leave and stand in the store as they are.
    pub(crate) fn unchanged_runs(&self) -> Vec<PageRange> {
        common(&self.runs(), self.unchanged())
    }

    /// Own pages that leave and must be looked at.
    pub(crate) fn changed_runs(&self) -> Vec<PageRange> {
        without(&self.runs(), self.unchanged())
    }

    fn unchanged(&self) -> &[PageRange] {
        self.unchanged.as_ref().map_or(&[], |unchanged| &unchanged.ranges)
    }

    /// Own pages that leave.
    pub(crate) fn runs(&self) -> Vec<PageRange> {
        self.parts.iter().flat_map(|part| &part.runs).copied().collect()
    }

    /// Pages of anonymous memory that leave: giving them back to the kernel is all that there is to it.
    pub(crate) fn anonymous_runs(&self) -> Vec<PageRange> {
        let parts = self.parts.iter().filter(|part| part.kind == Kind::Anonymous);
        parts.flat_map(|part| &part.runs).copied().collect()
    }

    /// Takes pages out of what can leave: they stay in the process.
    pub(crate) fn leave(&mut self, ranges: &[PageRange]) {
        for part in &mut self.parts {
            let left = common(&part.runs, ranges);
            part.runs = without(&part.runs, ranges);
            self.left_pages += pages_of(&left);
            self.left.extend(left);
        }
        self.left.sort_unstable();
    }

    /// Leaves what the next invocation will touch.
    pub(crate) fn leave_working_set(&mut self, ranges: &[PageRange]) {
        let before = self.left_pages;
        self.leave(ranges);
        self.leaves_working_set = self.left_pages > before;
    }

    /// Each run of file copies becomes a mapping of its own and may split the one around it in three.
    fn mappings_when_split(&self) -> usize {
        let copies = self.parts.iter().filter(|part| part.kind == Kind::FileCopies);
        self.mappings.len() + 2 * copies.map(|part| part.runs.len()).sum::<usize>()
    }

    /// Cuts a range where pages stay.
    pub(crate) fn without_left(&self, range: PageRange) -> Vec<PageRange> {
        without(&[range], &self.left)
    }

    /// Leaves all pages that hold any byte of the range.
    pub(crate) fn leave_bytes(&mut self, start: u64, len_bytes: u64) {
        let end = PageAddr::containing(start + len_bytes + PAGE_SIZE as u64 - 1);
        self.leave(&[PageRange::from_bounds(PageAddr::containing(start), end)]);
    }
}

/// Surveys one process. `LeftWarm` when something in it cannot be carried.
pub(crate) fn survey(
    stopped: &Stopped,
    shadow: Option<&Shadow>,
    give_up: &dyn Fn() -> bool,
) -> Result<Survey, DedupError> {
    let pid = stopped.pid();
    let failed = |source| DedupError::Io { what: "survey", pid, source };
    let in_time = |error| if give_up() { DedupError::Interrupted } else { failed(error) };
    let mut mappings = maps::read_unless(pid, give_up).map_err(in_time)?;
    let mut page_map = PageMap::open(pid).map_err(failed)?;
    let looked = page_map.look_over(&mappings, give_up);
    if looked.is_err() && give_up() {
        return Err(DedupError::Interrupted);
    } // Else, on an error, it looks at each by itself, and says which it cannot look at.
    let unchanged = shadow.map(|shadow| -> io::Result<Unchanged> {
        let ranges = shadow.unwritten(&mut mappings, &mut page_map)?;
        Ok(Unchanged { manifest: Arc::clone(&shadow.manifest), ranges })
    });
    if let Some(why) = carry::obstacle(pid, &mappings).map_err(failed)? {
        return Err(DedupError::LeftWarm { why });
    }
    let unchanged = unchanged.transpose().map_err(failed)?;
    let (parts, left_pages) = parts(&mappings, &mut page_map).map_err(failed)?;
    let (leaves_working_set, left) = (false, Vec::new());
    let mut survey = Survey { pid, mappings, parts, unchanged, left_pages, leaves_working_set, left };
    if survey.mappings_when_split() > MAPPINGS_MAX_DEFAULT / 2 {
        return Err(DedupError::LeftWarm {
            why: format!("process {pid} has too many mappings to split more"),
        });
    }
    if let Some((start, end)) = process::command_line_place(pid) {
        let len_bytes = (end - start).min(COMMAND_LINE_PAGES_MAX * PAGE_SIZE as u64);
        survey.leave_bytes(start, len_bytes);
    }
    Ok(survey)
}

/// The pages that can leave, by mapping, and how many stay with mappings that must.
fn parts(mappings: &[Mapping], page_map: &mut PageMap) -> io::Result<(Vec<Part>, u64)> {
    let (mut parts, mut left_pages) = (Vec::new(), 0);
    for mapping in mappings {
        let kind = match mapping {
            m if m.is_private_anonymous() => Kind::Anonymous,
            m if m.is_private_file() => Kind::FileCopies,
            _ => continue,
        };
        let mut runs = Vec::new();
        let looked = page_map.own_pages(mapping, &mut runs);
        if carry::must_stay(mapping) {
            // Device memory has no pages that could be counted: an error here is not one of ours.
            left_pages += pages_of(&runs);
            continue;
        }
        looked?;
        if !runs.is_empty() {
            parts.push(Part { runs, mapping: mapping.range(), prot: mapping.prot(), kind });
        }
    }
    Ok((parts, left_pages))
}
