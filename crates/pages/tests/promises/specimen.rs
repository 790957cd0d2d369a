//! Pages with a known kind of content, and sandboxes made of them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use pages::{
    Arena, Content, Domain, Encoding, FillError, Heat, Like, Manifest, ManifestBuilder, PAGE_SIZE,
    PAGES_PER_PUT, PackedRelocation, Page, PageAddr, PageRange, Scratch, Store,
};
use proptest::prelude::*;

/// What a page holds. Equal specimens are equal pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Specimen {
    Zero,
    /// Words: compresses to a third or so.
    Text(u16),
    /// Does not compress.
    Random(u16),
    /// A page of text with one byte changed somewhere.
    Near(u16, u16),
    /// All bytes are equally frequent, so it looks random, but it compresses well.
    Counting(u8),
    /// Zero but for the last byte.
    AlmostZero(u8),
}

pub(crate) fn specimens(count: Range<usize>) -> impl Strategy<Value = Vec<Specimen>> {
    let one = prop_oneof![
        2 => Just(Specimen::Zero),
        4 => (0..40u16).prop_map(Specimen::Text),
        2 => (0..20u16).prop_map(Specimen::Random),
        3 => (0..4u16, any::<u16>()).prop_map(|(text, at)| Specimen::Near(text, at)),
        1 => any::<u8>().prop_map(Specimen::Counting),
        1 => (1..4u8).prop_map(Specimen::AlmostZero),
    ];
    prop::collection::vec(one, count)
}

impl Specimen {
    pub(crate) fn page(self) -> Vec<u8> {
        match self {
            Self::Zero => vec![0; PAGE_SIZE],
            Self::Text(seed) => {
                let words = ["freeze ", "thaw ", "fill ", "empty ", "page ", "slot ", "1729 ", "\n"];
                let numbers = (0..).map(|n| random(u64::from(seed), n));
                numbers
                    .flat_map(|n| words[n as usize % 8].bytes().chain([n as u8 >> 3]))
                    .take(PAGE_SIZE)
                    .collect()
            }
            Self::Random(seed) => (0..PAGE_SIZE as u64).map(|n| random(!u64::from(seed), n) as u8).collect(),
            Self::Near(text, at) => {
                let mut page = Self::Text(text).page();
                page[usize::from(at) % PAGE_SIZE] ^= 1;
                page
            }
            Self::Counting(first) => (0..PAGE_SIZE).map(|n| (n as u8).wrapping_add(first)).collect(),
            Self::AlmostZero(last) => [vec![0; PAGE_SIZE - 1], vec![last]].concat(),
        }
    }
}

/// SplitMix64: the same numbers on every machine.
fn random(seed: u64, nth: u64) -> u64 {
    let mut z = (seed << 32 ^ nth).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

pub(crate) fn content(pages: &[Specimen]) -> Vec<u8> {
    pages.iter().flat_map(|specimen| specimen.page()).collect()
}

pub(crate) fn addr(page: u64) -> PageAddr {
    PageAddr::containing(0x7f00_0000_0000) + page
}

#[track_caller]
pub(crate) fn manifest(puts: &[(PageAddr, &[Encoding])]) -> Manifest {
    let mut builder = ManifestBuilder::new();
    puts.iter().for_each(|(start, encodings)| builder.extend(*start, encodings));
    builder.build().unwrap()
}

/// A process that sleeps in a store.
pub(crate) struct Sandbox {
    pub(crate) manifest: Manifest,
    pub(crate) memory: BTreeMap<PageAddr, Vec<u8>>,
}

/// Puts `pages` in pieces, with gaps between them.
#[track_caller]
pub(crate) fn sandbox<A: Arena>(
    store: &Store<A>,
    domain: &Domain,
    heat: Heat,
    pages: &[Specimen],
) -> Sandbox {
    sandbox_like(store, domain, heat, pages, Hint::Nothing)
}

/// What is known of a sandbox before it sleeps.
#[derive(Clone, Copy)]
pub(crate) enum Hint<'a> {
    Nothing,
    BasePages,
    /// Its pages are like those of this one at the same addresses.
    Sandbox(&'a Sandbox, &'a Arc<PackedRelocation>),
}

/// The same for a sandbox of which something is known.
#[track_caller]
pub(crate) fn sandbox_like<A: Arena>(
    store: &Store<A>,
    domain: &Domain,
    heat: Heat,
    pages: &[Specimen],
    hint: Hint<'_>,
) -> Sandbox {
    let mut builder = ManifestBuilder::new();
    let mut memory = BTreeMap::new();
    for (nth, piece) in pages.chunks(PAGES_PER_PUT).enumerate() {
        let start = addr(nth as u64 * 1000);
        let slot = |other: &Sandbox, nth: u64| match other.manifest.get(start + nth) {
            Some(Content::Slots(slot)) => Some(slot),
            _ => None,
        };
        let slots: Vec<_> = (0..piece.len() as u64)
            .map(|nth| if let Hint::Sandbox(other, _) = hint { slot(other, nth) } else { None })
            .collect();
        let like = match hint {
            Hint::Nothing => Like::Nothing,
            Hint::BasePages => Like::BasePages,
            Hint::Sandbox(_, relocation) => Like::Slots(&slots, relocation),
        };
        builder.extend(start, &store.put_like(domain, &content(piece), heat, like).unwrap());
        memory.extend(piece.iter().zip(0..).map(|(specimen, nth)| (start + nth, specimen.page())));
    }
    Sandbox { manifest: builder.build().unwrap(), memory }
}

impl Sandbox {
    /// Fills a copy of the memory from two plans, of the ranges in `first` and of the rest, and reads each page alone:
    /// both must be what was put.
    #[track_caller]
    pub(crate) fn assert_reads_back<A: Arena>(&self, store: &Store<A>, first: &[PageRange]) {
        let mut scratch = Scratch::new();
        let mut filled = BTreeMap::new();
        let content = self.manifest.content_ranges().flat_map(|range| range.addrs());
        let rest = content.filter(|addr| !first.iter().any(|range| range.contains(*addr)));
        let rest: Vec<_> = rest.map(|addr| PageRange::new(addr, 1)).collect();
        let plans = [first, &rest].map(|ranges| store.plan(&self.manifest, ranges).unwrap());
        for job in plans.iter().flat_map(|plan| plan.jobs()) {
            let mut fill = |start: PageAddr, bytes: &[u8]| {
                for (nth, page) in bytes.chunks(PAGE_SIZE).enumerate() {
                    let twice = filled.insert(start + nth as u64, page.to_vec());
                    assert!(twice.is_none(), "{start} was filled twice");
                }
                Ok::<_, std::fmt::Error>(())
            };
            job.decode(&mut scratch, &mut fill).unwrap();
        }
        assert_eq!(plans.iter().map(|plan| plan.pages()).sum::<u64>(), filled.len() as u64);
        for (range, content) in self.manifest.runs() {
            if content == Content::Zero {
                filled.extend(range.addrs().map(|addr| (addr, vec![0; PAGE_SIZE])));
            }
        }
        assert!(filled == self.memory);
        for (&addr, page) in &self.memory {
            let alone = read_page(store, &self.manifest, addr, &mut scratch).unwrap();
            assert!(alone[..] == page[..], "{addr}");
        }
    }
}

/// One page, as for a fault.
pub(crate) fn read_page<A: Arena>(
    store: &Store<A>,
    manifest: &Manifest,
    addr: PageAddr,
    scratch: &mut Scratch,
) -> Result<Page, FillError<Infallible>> {
    let plan = store.plan(manifest, &[PageRange::new(addr, 1)]).unwrap();
    let mut page = [0; PAGE_SIZE]; // Zero pages are in no job.
    for job in plan.jobs() {
        job.decode(scratch, &mut |_, bytes| {
            page.copy_from_slice(bytes);
            Ok(())
        })?;
    }
    Ok(page)
}
