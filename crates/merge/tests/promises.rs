//! What the crate promises, whatever comes in.

#![allow(clippy::unwrap_used)] // The lint lets tests unwrap, but not what tests call.

use std::collections::{BTreeMap, BTreeSet};

use merge::{Choice, Index, PageHash};
use pages::{PageAddr, PageRange};
use proptest::collection::vec;
use proptest::prelude::*;

/// Few processes, pages and contents, so that they meet.
const PROCESSES: i32 = 4;
const PAGES: u64 = 40;
const CONTENTS: u8 = 6;

#[derive(Clone, Debug)]
enum Act {
    Insert(i32, u64, u8),
    Remove(i32, u64, u64),
    KeepOnly(i32, u64, u64),
    Forget(i32),
    AskNews,
}

fn act() -> impl Strategy<Value = Act> {
    let process = 0..PROCESSES;
    prop_oneof![
        12 => (process.clone(), 0..PAGES, 0..CONTENTS).prop_map(|(p, at, c)| Act::Insert(p, at, c)),
        2 => (process.clone(), 0..PAGES, 0..8u64).prop_map(|(p, at, len)| Act::Remove(p, at, len)),
        1 => (process.clone(), 0..PAGES, 0..PAGES).prop_map(|(p, at, len)| Act::KeepOnly(p, at, len)),
        1 => process.prop_map(Act::Forget),
        2 => Just(Act::AskNews),
    ]
}

fn page(number: u64) -> PageAddr {
    PageAddr::default() + number
}

fn run(start: u64, pages: u64) -> PageRange {
    PageRange::new(page(start), pages)
}

fn addrs(runs: &[PageRange]) -> Vec<PageAddr> {
    runs.iter().flat_map(|run| run.addrs()).collect()
}

/// The same, kept so plainly that it is right.
#[derive(Default)]
struct Plain(BTreeMap<(i32, PageAddr), u8>);

impl Plain {
    fn candidates(&self, process: i32) -> Vec<PageAddr> {
        let places = |content| self.0.values().filter(|other| **other == content).count();
        let own = self.0.iter().filter(|((owner, _), content)| *owner == process && places(**content) > 1);
        own.map(|((_, page), _)| *page).collect()
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Insert(process, at, content) => drop(self.0.insert((process, page(at)), content)),
            Act::Remove(process, at, len) => {
                self.0.retain(|(owner, page), _| *owner != process || !run(at, len).contains(*page));
            }
            Act::KeepOnly(process, at, len) => {
                self.0.retain(|(owner, page), _| *owner != process || run(at, len).contains(*page));
            }
            Act::Forget(process) => self.0.retain(|(owner, _), _| *owner != process),
            Act::AskNews => {}
        }
    }
}

fn act_on(index: &mut Index, act: &Act) {
    match *act {
        Act::Insert(process, at, content) => {
            assert!(index.insert(process, page(at), PageHash::of(&[content; 4096])));
        }
        Act::Remove(process, at, len) => index.remove(process, run(at, len)),
        Act::KeepOnly(process, at, len) => index.keep_only(process, &[run(at, len)]),
        Act::Forget(process) => index.forget(process),
        Act::AskNews => {}
    }
}

proptest! {
    #[test]
    fn candidates_are_the_pages_whose_content_is_in_two_places(acts in vec(act(), 0..120)) {
        let (mut index, mut plain) = (Index::new(1000), Plain::default());
        let mut asked: BTreeMap<i32, BTreeSet<PageAddr>> = BTreeMap::new();
        for act in &acts {
            act_on(&mut index, act);
            plain.act(act);
            prop_assert_eq!(index.pages(), plain.0.len());
            let news = if matches!(act, Act::AskNews) { Some(index.take_news()) } else { None };
            for process in 0..PROCESSES {
                let candidates = plain.candidates(process);
                let runs = index.candidates(process);
                prop_assert_eq!(&addrs(&runs), &candidates);
                prop_assert!(runs.windows(2).all(|two| two[0].end() < two[1].start()), "{:?}", runs);
                let Some(news) = &news else { continue };
                let before = asked.insert(process, candidates.iter().copied().collect()).unwrap_or_default();
                let is_new = candidates.iter().any(|page| !before.contains(page));
                prop_assert!(!is_new || news.contains(&process), "{} was not told", process);
            }
        }
        (0..PROCESSES).for_each(|process| index.forget(process));
        prop_assert_eq!(index.pages(), 0);
    }

    #[test]
    fn ranges_hold_what_is_worth_it_and_reach_into_no_other_mapping(
        gaps in vec((1..20u64, 1..30u64), 0..60),
        cuts in vec(1..200u64, 1..20),
        gap_pages in 0..10u64,
        candidates_min in 1..20u64,
        ranges_max in 0..10usize,
    ) {
        let runs = |lens: &mut dyn Iterator<Item = (u64, u64)>| {
            let place = |at: &mut u64, (gap, pages): (u64, u64)| {
                let range = run(*at + gap, pages);
                *at += gap + pages;
                Some(range)
            };
            lens.scan(0, place).collect::<Vec<_>>()
        };
        let candidates = runs(&mut gaps.into_iter());
        let mappings = runs(&mut cuts.into_iter().map(|pages| (pages % 3, pages)));
        let choice = Choice { gap_pages, candidates_min, ranges_max };
        let ranges = choice.ranges(&candidates, &mappings);
        prop_assert!(ranges.len() <= ranges_max);
        prop_assert!(ranges.windows(2).all(|two| two[0].end() <= two[1].start()));
        let wanted: BTreeSet<PageAddr> = addrs(&candidates).into_iter().collect();
        for range in &ranges {
            prop_assert!(mappings.iter().any(|mapping| range.intersect(*mapping) == Some(*range)));
            let inside: Vec<PageAddr> = range.addrs().filter(|page| wanted.contains(page)).collect();
            prop_assert!(inside.len() as u64 >= candidates_min);
            prop_assert_eq!((inside.first(), inside.last().map(|page| *page + 1)), (Some(&range.start()), Some(range.end())));
            prop_assert!(inside.windows(2).all(|two| two[1].pages_since(two[0]) <= gap_pages + 1));
        }
        // Nothing that is worth it is left out, where there is room.
        let all = Choice { ranges_max: usize::MAX, ..choice }.ranges(&candidates, &mappings);
        for run in candidates.iter().flat_map(|run| mappings.iter().filter_map(|mapping| run.intersect(*mapping))) {
            prop_assert!(run.pages() < candidates_min || all.iter().any(|range| range.intersect(run) == Some(run)));
        }
    }
}
