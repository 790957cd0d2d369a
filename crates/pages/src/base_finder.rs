//! Which page of a base image a page is to be encoded against. Two ways lead to it. Content: the registry found
//! pages with the same chunks. And place: what follows a page in one process mostly follows its base page in the
//! other, also where nothing is alike enough for chunks in common.

use crate::page_id::Page;
use crate::word::{WORDS, canonical, words};
use crate::{PAGE_SIZE, PageAddr};

/// Where a page has this much in common with its base page, the pages behind it are expected to follow. Less may be
/// chance: zeros and small numbers are equal everywhere.
const FOLLOWS_MIN: Similarity = Similarity(200);

/// A lead that place has over content. Neighbours that keep their order share groups of base pages.
const PLACE_BONUS: u16 = 8;

/// Words that two pages have in common at the same place, of 512; pointers count as equal wherever they point to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Similarity(pub u16);

impl Similarity {
    /// Of two pages.
    pub fn of(a: &Page, b: &Page) -> Self {
        let mut equal = 0;
        for at in 0..WORDS {
            equal += u16::from(canonical(words(a)[at]) == canonical(words(b)[at]));
        }
        Self(equal)
    }
}

/// The content of a base image, page by page. Hints rest on it and nothing else, so that a page which cannot be had
/// costs savings only.
pub trait BaseContent {
    /// The page with this number.
    fn page(&mut self, number: usize) -> Option<&Page>;
}

/// All of it is in memory.
impl BaseContent for &[Page] {
    fn page(&mut self, number: usize) -> Option<&Page> {
        self.get(number)
    }
}

/// Finds base pages in one image, for the pages of one process in the order of their addresses.
#[derive(Debug)]
pub struct BaseFinder<'a> {
    /// Of the pages of the image, upwards.
    addrs: &'a [PageAddr],
    /// How far the last base page lies from the page that it was found for.
    shift: u64,
}

impl<'a> BaseFinder<'a> {
    /// `addrs` says where the pages of the base image lay, upwards.
    pub fn new(addrs: &'a [PageAddr]) -> Self {
        Self { addrs, shift: 0 }
    }

    /// The base page for the page at `addr`, as its number in the image; `hit` is what the registry found. It looks
    /// at three pages at most: that one, the one behind the last base page, and the one at the same address. `None`
    /// if there is none of them.
    pub fn find(
        &mut self,
        base: &mut dyn BaseContent,
        addr: PageAddr,
        page: &Page,
        hit: Option<u32>,
    ) -> Option<u32> {
        let by_place = [self.shift, 0].map(|shift| self.at(addr.get().wrapping_add(shift)));
        let by_place = by_place.into_iter().flatten().map(|found| (found, PLACE_BONUS));
        let by_content = hit.map(|hit| (hit as usize, 0)).filter(|hit| hit.0 < self.addrs.len());
        let rate = |(found, bonus): (usize, u16)| {
            let similarity = Similarity::of(base.page(found)?, page);
            Some((similarity.0 + bonus, std::cmp::Reverse(found), similarity))
        };
        let (_, found, similarity) = by_content.into_iter().chain(by_place).filter_map(rate).max()?;
        if similarity >= FOLLOWS_MIN {
            self.shift = self.addrs[found.0].get().wrapping_sub(addr.get());
        }
        Some(found.0 as u32)
    }

    /// The page at an address.
    fn at(&self, addr: u64) -> Option<usize> {
        self.addrs.binary_search_by_key(&addr, |base| base.get()).ok()
    }
}

const _: () = assert!(PAGE_SIZE / WORDS == 8, "similarities are counted in words of eight bytes");

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: u64 = 0x7f00_0000_0000;

    /// Page number `n` of a program, in a process where `heap` is the start of its heap. Pages from 100 on have
    /// nothing but zeros in common with others.
    fn page(n: u64, heap: u64) -> Page {
        let mut page = [0; PAGE_SIZE];
        for (at, bytes) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let word = match at as u64 % 4 {
                0 if n < 100 => (n + 1) << 50 | at as u64,
                1 => heap + 16 * (n * 31 + at as u64),
                _ => 0,
            };
            *bytes = (word * u64::from(n < 100)).to_le_bytes();
        }
        page
    }

    /// Finds bases for pages `n` at these offsets from the start of the process, in an image of pages 0 to 9 and 100.
    #[track_caller]
    fn check(pages: &[(u64, u64)], hits: &[(usize, u32)], expected: &[Option<u32>]) {
        let numbers: Vec<u64> = (0..10).chain([100]).collect();
        let image: Vec<Page> = numbers.iter().map(|&n| page(n, IMAGE)).collect();
        let addrs: Vec<PageAddr> = (0..11).map(|n| PageAddr::containing(IMAGE) + n).collect();
        let mut finder = BaseFinder::new(&addrs);
        let start = IMAGE + 0x55_5000;
        let find = |(nth, &(offset, n)): (usize, &(u64, u64))| {
            let hit = hits.iter().find(|hit| hit.0 == nth).map(|hit| hit.1);
            finder.find(&mut &image[..], PageAddr::containing(start) + offset, &page(n, start), hit)
        };
        assert_eq!(pages.iter().enumerate().map(find).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn neighbours_follow_a_page_that_was_found_by_content() {
        check(&[(0, 3), (1, 4), (2, 5)], &[(0, 3)], &[Some(3), Some(4), Some(5)]);
        check(&[(0, 3), (1, 4)], &[], &[None, None]);
    }

    #[test]
    fn a_page_that_moved_further_is_found_by_content() {
        check(&[(0, 3), (1, 8), (2, 9)], &[(0, 3), (1, 8)], &[Some(3), Some(8), Some(9)]);
    }

    #[test]
    fn a_wrong_hint_loses_to_place() {
        check(&[(0, 3), (1, 4)], &[(0, 3), (1, 9)], &[Some(3), Some(4)]);
        check(&[(0, 3)], &[(0, 77)], &[None]);
    }
}
