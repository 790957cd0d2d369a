//! Words of a page that are, or may be, pointers. With address randomisation two processes of one program hold the
//! same structures at other places, so whoever compares their pages must not mind where a pointer points to.

use crate::PAGE_SIZE;
use crate::page_id::Page;

/// Words in a page.
pub(crate) const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// User space of x86-64 ends here; libraries and stacks lie just below.
const USER_END: u64 = 1 << 47;

/// Numbers below are mostly counts and sizes, though a program that is not position-independent lies there.
const MAPPED_MIN: u64 = 1 << 32;

/// Objects are aligned to this, so the bits below it do not change with the place.
const ALIGN_MASK: u64 = 15;

pub(crate) fn words(page: &Page) -> &[[u8; 8]] {
    page.as_chunks().0
}

/// The word with what address randomisation changes taken out.
pub(crate) fn canonical(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    match (MAPPED_MIN..USER_END).contains(&word) {
        true => word & ALIGN_MASK | 1 << 63,
        false => word,
    }
}

/// Whether `to` could be the pointer `from` in another process.
pub(crate) fn may_correspond(from: u64, to: u64) -> bool {
    (from ^ to) & ALIGN_MASK == 0 && (PAGE_SIZE as u64..USER_END).contains(&to)
}
