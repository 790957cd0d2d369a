//! Sets of pages as sorted, disjoint ranges.

use pages::PageRange;

/// What lies in both.
pub(crate) fn common(a: &[PageRange], b: &[PageRange]) -> Vec<PageRange> {
    let mut both = Vec::new();
    for range in a {
        let first = b.partition_point(|other| other.end() <= range.start());
        both.extend(b[first..].iter().map_while(|other| range.intersect(*other)));
    }
    both
}

/// What lies in `all`, but not in `taken`.
pub(crate) fn without(all: &[PageRange], taken: &[PageRange]) -> Vec<PageRange> {
    let mut left = Vec::new();
    for range in all {
        let mut start = range.start();
        let first = taken.partition_point(|other| other.end() <= start);
        for hole in taken[first..].iter().map_while(|other| range.intersect(*other)) {
            left.push(PageRange::from_bounds(start, hole.start()));
            start = hole.end();
        }
        left.push(PageRange::from_bounds(start, range.end()));
    }
    left.retain(|range| !range.is_empty());
    left
}

/// Sorted ranges, those that touch or overlap joined.
pub(crate) fn joined(sorted: impl IntoIterator<Item = PageRange>) -> Vec<PageRange> {
    let mut joined: Vec<PageRange> = Vec::new();
    for range in sorted {
        match joined.last_mut().filter(|last| range.start() <= last.end()) {
            Some(last) => *last = PageRange::from_bounds(last.start(), last.end().max(range.end())),
            None => joined.push(range),
        }
    }
    joined
}

/// How many pages.
pub(crate) fn pages(ranges: &[PageRange]) -> u64 {
    ranges.iter().map(|range| range.pages()).sum()
}

#[cfg(test)]
mod tests {
    use pages::PageAddr;
    use proptest::prelude::*;

    use super::*;

    fn set() -> impl Strategy<Value = Vec<PageRange>> {
        proptest::collection::vec((0..4u64, 1..5u64), 0..12).prop_map(|steps| {
            let mut at = PageAddr::containing(0);
            steps
                .into_iter()
                .map(|(gap, pages)| {
                    let range = PageRange::new(at + gap, pages);
                    at = range.end();
                    range
                })
                .collect()
        })
    }

    fn addrs(ranges: &[PageRange]) -> Vec<PageAddr> {
        ranges.iter().flat_map(|range| range.addrs()).collect()
    }

    proptest! {
        #[test]
        fn each_page_is_in_both_or_in_one(a in set(), b in set()) {
            let (inside, outside) = (addrs(&common(&a, &b)), addrs(&without(&a, &b)));
            let of_b = addrs(&b);
            let (in_b, not_in_b): (Vec<_>, Vec<_>) = addrs(&a).into_iter().partition(|addr| of_b.contains(addr));
            prop_assert_eq!(pages(&common(&a, &b)), in_b.len() as u64);
            prop_assert_eq!(inside, in_b);
            prop_assert_eq!(outside, not_in_b);
        }
    }
}
