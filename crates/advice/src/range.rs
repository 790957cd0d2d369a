//! Whole pages of one address space.

/// Bytes in a page.
pub const PAGE_BYTES: u64 = 4096;

/// No address of a process lies at or above this, also where page tables have five levels.
const ADDRESS_END: u64 = 1 << 56;

/// Whole pages, at least one, inside of what can be an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    start: u64,
    bytes: u64,
}

/// These are no pages of any process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRange {
    /// It does not start or end where a page does.
    #[error("a range must be whole pages of 4096 bytes")]
    Unaligned,
    /// It holds no page.
    #[error("a range must hold a page")]
    Empty,
    /// No process has memory there.
    #[error("a range must end within the address space")]
    Outside,
}

impl Range {
    /// The first page of all, for places that hold no range yet.
    pub const FIRST: Range = Range { start: 0, bytes: PAGE_BYTES };

    /// Exactly these bytes.
    pub const fn new(start: u64, bytes: u64) -> Result<Range, NoRange> {
        if !start.is_multiple_of(PAGE_BYTES) || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(NoRange::Unaligned);
        }
        match start.checked_add(bytes) {
            _ if bytes == 0 => Err(NoRange::Empty),
            Some(end) if end <= ADDRESS_END => Ok(Range { start, bytes }),
            _ => Err(NoRange::Outside),
        }
    }

    /// The pages that lie in these bytes as a whole.
    pub const fn inside(start: u64, bytes: u64) -> Result<Range, NoRange> {
        let (Some(end), Some(first)) = (start.checked_add(bytes), start.checked_next_multiple_of(PAGE_BYTES))
        else {
            return Err(NoRange::Outside);
        };
        let last = end - end % PAGE_BYTES;
        Range::new(first, last.saturating_sub(first))
    }

    /// As `madvise` understands it: from the start of a page up to the end of the page with the last byte.
    pub const fn around(start: u64, bytes: u64) -> Result<Range, NoRange> {
        match bytes.checked_next_multiple_of(PAGE_BYTES) {
            Some(whole) => Range::new(start, whole),
            None => Err(NoRange::Outside),
        }
    }

    /// Address of the first byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Length in bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Address behind the last byte.
    pub const fn end(self) -> u64 {
        self.start + self.bytes // Fits, says `new`.
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_range_is_refused_by_name() {
        assert_eq!(Range::new(1, PAGE_BYTES), Err(NoRange::Unaligned));
        assert_eq!(Range::new(PAGE_BYTES, 1), Err(NoRange::Unaligned));
        assert_eq!(Range::new(PAGE_BYTES, 0), Err(NoRange::Empty));
        assert_eq!(Range::new(0, ADDRESS_END + PAGE_BYTES), Err(NoRange::Outside));
        assert_eq!(Range::new(ADDRESS_END, PAGE_BYTES), Err(NoRange::Outside));
        assert_eq!(Range::new(u64::MAX - PAGE_BYTES + 1, PAGE_BYTES), Err(NoRange::Outside));
        assert_eq!(Range::inside(PAGE_BYTES - 1, PAGE_BYTES), Err(NoRange::Empty));
        assert_eq!(Range::around(0, u64::MAX), Err(NoRange::Outside));
    }

    proptest! {
        #[test]
        fn pages_inside_are_no_more_and_around_no_less(start: u64, bytes: u64, shift in 0u32..64) {
            let (start, bytes) = (start >> shift, bytes >> shift);
            if let Ok(range) = Range::inside(start, bytes) {
                prop_assert!(start <= range.start() && range.end() <= start + bytes);
                prop_assert!(range.bytes() + 2 * PAGE_BYTES > bytes);
            }
            if let Ok(range) = Range::around(start, bytes) {
                prop_assert!(range.start() == start && range.end() >= start + bytes);
                prop_assert!(range.bytes() < bytes + PAGE_BYTES);
            }
        }
    }
}
