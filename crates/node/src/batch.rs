//! Pages of a stopped process that are read together.

use std::io;

use linux::memory::Memory;
use pages::{PAGE_SIZE, Page, PageRange};

/// Ranges in lists of `most` pages each.
pub(crate) fn gather(ranges: impl Iterator<Item = PageRange>, most: u64) -> Vec<Vec<PageRange>> {
    let mut lists: Vec<Vec<PageRange>> = Vec::new();
    let mut room = 0;
    for range in ranges {
        let mut at = range.start();
        while at < range.end() {
            if room == 0 {
                lists.push(Vec::new());
                room = most;
            }
            let piece = PageRange::from_bounds(at, range.end().min(at + room));
            room -= piece.pages();
            at = piece.end();
            if let Some(list) = lists.last_mut() {
                list.push(piece);
            }
        }
    }
    lists
}

/// Reads one batch after the other. Each thread has its own.
pub(crate) struct BatchReader {
    memory: Memory,
    buffer: Vec<Page>,
}

impl BatchReader {
    /// For batches of at most so many pages.
    pub(crate) fn open(pid: i32, most: u64) -> io::Result<BatchReader> {
        Ok(BatchReader { memory: Memory::open(pid)?, buffer: vec![[0; PAGE_SIZE]; most as usize] })
    }

    /// The pages of `ranges`, one behind the other.
    pub(crate) fn read(&mut self, ranges: &[PageRange]) -> io::Result<&[Page]> {
        let mut done = 0;
        for range in ranges {
            let pages = &mut self.buffer[done..done + range.pages() as usize];
            self.memory.read(range.start().get(), pages.as_flattened_mut())?;
            done += pages.len();
        }
        Ok(&self.buffer[..done])
    }
}

#[cfg(test)]
mod tests {
    use pages::PageAddr;

    use super::*;

    #[test]
    fn long_ranges_are_cut_and_short_ones_go_together() {
        let range = |start: u64, pages| PageRange::new(PageAddr::default() + start, pages);
        let lists = gather([range(0, 3), range(5, 9), range(20, 1)].into_iter(), 5);
        assert_eq!(
            lists,
            [vec![range(0, 3), range(5, 2)], vec![range(7, 5)], vec![range(12, 2), range(20, 1)]]
        );
    }
}
