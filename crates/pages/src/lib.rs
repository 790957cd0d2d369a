//! temporary
pub const PAGE_SIZE: usize = 4096;
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PageAddr(u64);
impl PageAddr {
    pub fn containing(a: u64) -> Self {
        Self(a & !4095)
    }
    pub fn get(self) -> u64 {
        self.0
    }
    pub fn new(a: u64) -> Option<Self> {
        (a % 4096 == 0).then_some(Self(a))
    }
}
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PageRange {
    start: PageAddr,
    pages: u64,
}
impl PageRange {
    pub fn from_bounds(s: u64, e: u64) -> Option<Self> {
        (s < e && s % 4096 == 0 && e % 4096 == 0).then(|| Self { start: PageAddr(s), pages: (e - s) / 4096 })
    }
    pub fn start(&self) -> PageAddr {
        self.start
    }
    pub fn pages(&self) -> u64 {
        self.pages
    }
    pub fn end(&self) -> PageAddr {
        PageAddr(self.start.0 + self.pages * 4096)
    }
}
