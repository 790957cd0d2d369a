//! What the programs of one sandbox have advised, as it stands now. Whoever merges looks here when there is time: it may be
//! long after the program said so, and of memory that is no more. Nothing of it is to be relied on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::advice::{Message, Wish};
use pages::{PageAddr, PageRange};

use crate::family::is_alive;
use crate::ranges::{joined, without};

/// Ranges of one sandbox that are remembered, those that touch taken as one: 64 KiB. A large model has some hundred
/// parameters.
const RANGES_MAX: usize = 4096;

/// A process of the sandbox has advised that this is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Which process, as we number them. Its number may mean another one by now.
    pub pid: i32,
    /// Which pages. They may be mapped no more, or hold something else.
    pub range: PageRange,
}

/// There is no room for more ranges of this sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What is advised in one sandbox: of each process sorted ranges that do not touch.
#[derive(Default)]
pub(crate) struct Board(Mutex<BTreeMap<i32, Vec<PageRange>>>);

impl Board {
    /// All of it, process by process.
    pub(crate) fn advised(&self) -> Vec<Advice> {
        let of = |(pid, ranges): (&i32, &Vec<PageRange>)| {
            let pid = *pid;
            ranges.iter().map(move |range| Advice { pid, range: *range }).collect::<Vec<_>>()
        };
        self.lock().iter().flat_map(of).collect()
    }

    /// Follows what a process said. When it is full nothing changes.
    pub(crate) fn hear(&self, pid: i32, message: &Message<'_>) -> Result<(), Full> {
        let mut said: Vec<_> = message.ranges().map(pages_of).collect();
        said.sort_unstable();
        let said = joined(said);
        let mut board = self.lock();
        let before = board.remove(&pid).unwrap_or_default();
        let now = match message.wish() {
            Wish::Leave => without(&before, &said),
            Wish::Merge => {
                let mut all = [before.as_slice(), &said].concat();
                all.sort_unstable();
                joined(all)
            }
        };
        let of_others = |board: &BTreeMap<_, Vec<_>>| board.values().map(Vec::len).sum::<usize>();
        if of_others(&board) + now.len() > RANGES_MAX {
            board.retain(|other, _| is_alive(*other)); // The dead are looked for when it matters.
        }
        let fits = of_others(&board) + now.len() <= RANGES_MAX;
        let kept = if fits { now } else { before };
        if !kept.is_empty() {
            board.insert(pid, kept);
        }
        fits.then_some(()).ok_or(Full)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Vec<PageRange>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pages_of(range: ::advice::Range) -> PageRange {
    PageRange::from_bounds(PageAddr::containing(range.start()), PageAddr::containing(range.end()))
}

#[cfg(test)]
mod tests {
    use ::advice::{BYTES_MAX, PAGE_BYTES, Range, encode};

    use super::*;

    fn hear(board: &Board, pid: i32, wish: Wish, pages: &[(u64, u64)]) -> Result<(), Full> {
        let range =
            |(first, end): &(u64, u64)| Range::new(first * PAGE_BYTES, (end - first) * PAGE_BYTES).unwrap();
        let ranges: Vec<_> = pages.iter().map(range).collect();
        board.hear(pid, &Message::decode(encode(wish, &ranges, &mut [0; BYTES_MAX])).unwrap())
    }

    fn advised(board: &Board) -> Vec<(i32, u64, u64)> {
        let bounds = |advice: Advice| {
            (advice.pid, advice.range.start().get() / PAGE_BYTES, advice.range.end().get() / PAGE_BYTES)
        };
        board.advised().into_iter().map(bounds).collect()
    }

    #[test]
    fn the_last_word_on_a_page_counts() {
        let board = Board::default();
        hear(&board, 7, Wish::Merge, &[(20, 30), (10, 12), (12, 15), (14, 20)]).unwrap();
        assert_eq!(advised(&board), [(7, 10, 30)]);
        hear(&board, 7, Wish::Leave, &[(12, 13), (1, 5)]).unwrap();
        hear(&board, 8, Wish::Leave, &[(10, 30)]).unwrap();
        hear(&board, 8, Wish::Merge, &[(10, 11)]).unwrap();
        assert_eq!(advised(&board), [(7, 10, 12), (7, 13, 30), (8, 10, 11)]);
        hear(&board, 7, Wish::Leave, &[(0, 100)]).unwrap();
        assert_eq!(advised(&board), [(8, 10, 11)]);
    }

    #[test]
    fn a_full_board_stays_as_it_is_until_somebody_is_dead() {
        let board = Board::default();
        let us = std::process::id() as i32;
        let nobody = i32::MAX;
        let fill = |pid, first: usize, end: usize| {
            let pages: Vec<_> = (first..end).map(|n| (2 * n as u64, 2 * n as u64 + 1)).collect();
            pages.chunks(::advice::RANGES_MAX).try_for_each(|some| hear(&board, pid, Wish::Merge, some))
        };
        fill(nobody, 0, 64).unwrap();
        fill(us, 0, RANGES_MAX - 64).unwrap();
        fill(us, RANGES_MAX - 64, RANGES_MAX).unwrap();
        let full = advised(&board);
        assert_eq!(full.len(), RANGES_MAX, "whose process is dead is forgotten");
        assert_eq!(fill(us, RANGES_MAX, RANGES_MAX + 1), Err(Full));
        assert_eq!(advised(&board), full);
        hear(&board, us, Wish::Leave, &[(0, 100)]).unwrap();
        fill(us, RANGES_MAX, RANGES_MAX + 1).unwrap();
    }
}
