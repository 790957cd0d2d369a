//! Places in an address space, always aligned to a page. What lies there is none of this file's business.

use std::fmt;
use std::ops::Add;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// The same, where addresses are computed.
const PAGE_BYTES: u64 = PAGE_SIZE as u64;

/// The highest page address. It never starts a page of a process, so a range can end there at the latest.
const LAST: u64 = !(PAGE_BYTES - 1);

/// An aligned place in a sandbox's address space.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageAddr(u64);

impl PageAddr {
    /// The page address `addr`, if it is aligned.
    pub const fn new(addr: u64) -> Option<Self> {
        if addr.is_multiple_of(PAGE_BYTES) { Some(Self(addr)) } else { None }
    }

    /// The address of the page that holds the byte at `addr`.
    pub const fn containing(addr: u64) -> Self {
        Self(addr & LAST)
    }

    /// The address as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Pages from `earlier` to here; none if `earlier` is not earlier.
    pub const fn pages_since(self, earlier: PageAddr) -> u64 {
        self.0.saturating_sub(earlier.0) / PAGE_BYTES
    }
}

/// The address that many pages further up. Stops at the last page of the address space instead of wrapping.
impl Add<u64> for PageAddr {
    type Output = PageAddr;

    fn add(self, pages: u64) -> PageAddr {
        Self(self.0.saturating_add(pages.saturating_mul(PAGE_BYTES)) & LAST)
    }
}

impl fmt::Debug for PageAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for PageAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::LowerHex for PageAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Consecutive page addresses. Its end never passes the end of the address space.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageRange {
    start: PageAddr,
    pages: u64,
}

impl PageRange {
    /// `pages` pages from `start` on, or as many as there are before the address space ends.
    pub fn new(start: PageAddr, pages: u64) -> Self {
        Self::from_bounds(start, start + pages)
    }

    /// From `start` up to, but not including, `end`. Empty if `end` does not come after `start`.
    pub fn from_bounds(start: PageAddr, end: PageAddr) -> Self {
        Self { start, pages: end.pages_since(start) }
    }

    /// The first address.
    pub const fn start(self) -> PageAddr {
        self.start
    }

    /// The first address behind it.
    pub fn end(self) -> PageAddr {
        self.start + self.pages
    }

    /// How many pages.
    pub const fn pages(self) -> u64 {
        self.pages
    }

    /// How many bytes.
    pub const fn len_bytes(self) -> u64 {
        self.pages * PAGE_BYTES
    }

    /// Whether it holds no page.
    pub const fn is_empty(self) -> bool {
        self.pages == 0
    }

    /// Whether `addr` is one of its addresses.
    pub fn contains(self, addr: PageAddr) -> bool {
        self.start <= addr && addr < self.end()
    }

    /// What both have in common, if anything.
    pub fn intersect(self, other: PageRange) -> Option<PageRange> {
        let common = Self::from_bounds(self.start.max(other.start), self.end().min(other.end()));
        (!common.is_empty()).then_some(common)
    }

    /// Its addresses, upwards.
    pub fn addrs(self) -> impl DoubleEndedIterator<Item = PageAddr> {
        (0..self.pages).map(move |n| self.start + n)
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::from_bounds(PageAddr::containing(start), PageAddr::containing(end))
    }

    #[track_caller]
    fn check(a: PageRange, b: PageRange, common: Option<PageRange>) {
        assert_eq!(a.intersect(b), common);
        assert_eq!(b.intersect(a), common);
        for addr in a.addrs() {
            assert_eq!(b.contains(addr), common.is_some_and(|c| c.contains(addr)), "{addr}");
        }
    }

    #[test]
    fn ranges_share_what_lies_in_both() {
        check(range(0x1000, 0x4000), range(0x2000, 0x8000), Some(range(0x2000, 0x4000)));
        check(range(0x1000, 0x2000), range(0x2000, 0x3000), None);
        check(range(0x3000, 0x1000), range(0, 0x9000), None);
    }

    #[test]
    fn a_page_address_is_aligned() {
        assert_eq!(PageAddr::new(0x1001), None);
        assert_eq!(PageAddr::new(0x1000), Some(PageAddr::containing(0x1fff)));
    }

    #[test]
    fn a_range_ends_where_the_address_space_does() {
        let all = PageRange::new(PageAddr::containing(u64::MAX - 3 * 4096), u64::MAX);
        check(all, all, Some(all));
        assert_eq!(all.pages(), 3);
        assert_eq!(all.end().get(), u64::MAX - 4095);
    }
}
