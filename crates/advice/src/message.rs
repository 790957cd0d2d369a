//! One datagram.

use crate::range::{NoRange, Range};

/// Ranges in one datagram: few datagrams wait at a socket (`net.unix.max_dgram_qlen`, often 10), so each holds many.
pub const RANGES_MAX: usize = 64;

/// The longest datagram.
pub const BYTES_MAX: usize = HEAD_BYTES + RANGES_MAX * RANGE_BYTES;

const MAGIC: [u8; 4] = *b"dmad";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 8;
const RANGE_BYTES: usize = 16;

/// What is to become of ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Pages in them that others have, too, may become one.
    Merge,
    /// They are to be left alone from now on.
    Leave,
}

/// A datagram that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    wish: Wish,
    ranges: &'a [[u8; RANGE_BYTES]],
}

/// This is no advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin like one.
    #[error("no advice")]
    Foreign,
    /// Another version of the library wrote it.
    #[error("advice of version {0}, and we read version 1")]
    Version(u8),
    /// There is no such wish.
    #[error("unknown wish {0}")]
    Wish(u8),
    /// It has not as many ranges as it says, none, or too many.
    #[error("advice of a wrong length")]
    Length,
    /// One of its ranges cannot be.
    #[error(transparent)]
    Range(#[from] NoRange),
}

impl<'a> Message<'a> {
    /// Understands a whole datagram.
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let Some((&[m0, m1, m2, m3, version, wish, c0, c1], body)) = bytes.split_first_chunk::<HEAD_BYTES>()
        else {
            return Err(Malformed::Foreign);
        };
        if [m0, m1, m2, m3] != MAGIC {
            return Err(Malformed::Foreign);
        }
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let wish = match wish {
            1 => Wish::Merge,
            2 => Wish::Leave,
            other => return Err(Malformed::Wish(other)),
        };
        let count = usize::from(u16::from_le_bytes([c0, c1]));
        let (ranges, rest) = body.as_chunks::<RANGE_BYTES>();
        if !(1..=RANGES_MAX).contains(&count) || ranges.len() != count || !rest.is_empty() {
            return Err(Malformed::Length);
        }
        ranges.iter().try_for_each(|bytes| read(bytes).map(drop))?;
        Ok(Message { wish, ranges })
    }

    /// What is to become of its ranges.
    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// Its ranges, at least one, in the order in which they were sent. They may overlap.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + 'a {
        self.ranges.iter().filter_map(|bytes| read(bytes).ok()) // All are, says `decode`.
    }
}

fn read(bytes: &[u8; RANGE_BYTES]) -> Result<Range, NoRange> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
    Range::new(u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p]))
}

/// Writes a datagram with the first `RANGES_MAX` of these ranges, and returns it. Of no ranges it is none that
/// is understood.
pub fn encode<'a>(wish: Wish, ranges: &[Range], into: &'a mut [u8; BYTES_MAX]) -> &'a [u8] {
    let count = ranges.len().min(RANGES_MAX);
    let wish = match wish {
        Wish::Merge => 1,
        Wish::Leave => 2,
    };
    let [c0, c1] = (count as u16).to_le_bytes();
    let [m0, m1, m2, m3] = MAGIC;
    let (head, body) = into.split_at_mut(HEAD_BYTES);
    head.copy_from_slice(&[m0, m1, m2, m3, VERSION, wish, c0, c1]);
    for (place, range) in body.as_chunks_mut::<RANGE_BYTES>().0.iter_mut().zip(ranges) {
        let (start, bytes) = place.split_at_mut(RANGE_BYTES / 2);
        start.copy_from_slice(&range.start().to_le_bytes());
        bytes.copy_from_slice(&range.bytes().to_le_bytes());
    }
    into.get(..HEAD_BYTES + count * RANGE_BYTES).unwrap_or_default() // Fits: there are `RANGES_MAX` at most.
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::PAGE_BYTES;

    fn ranges() -> impl Strategy<Value = Vec<Range>> {
        let range = (0..1u64 << 30, 1..1u64 << 20)
            .prop_map(|(page, pages)| Range::new(page * PAGE_BYTES, pages * PAGE_BYTES).unwrap());
        prop::collection::vec(range, 1..=RANGES_MAX)
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut Vec<u8>), why: Malformed) {
        let range = Range::new(PAGE_BYTES, PAGE_BYTES).unwrap();
        let mut bytes = encode(Wish::Leave, &[range], &mut [0; BYTES_MAX]).to_vec();
        change(&mut bytes);
        assert_eq!(Message::decode(&bytes), Err(why));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        check_refused(Vec::clear, Malformed::Foreign);
        check_refused(|bytes| bytes[0] = b'x', Malformed::Foreign);
        check_refused(|bytes| bytes[4] = 2, Malformed::Version(2));
        check_refused(|bytes| bytes[5] = 0, Malformed::Wish(0));
        check_refused(|bytes| bytes[6] = 2, Malformed::Length);
        check_refused(|bytes| bytes.truncate(HEAD_BYTES), Malformed::Length);
        check_refused(|bytes| bytes.push(0), Malformed::Length);
        check_refused(|bytes| (bytes[6], bytes[7]) = (0xff, 0xff), Malformed::Length);
        check_refused(|bytes| bytes[8] = 1, Malformed::Range(NoRange::Unaligned));
        check_refused(|bytes| bytes[16..].fill(0), Malformed::Range(NoRange::Empty));
        check_refused(|bytes| bytes[23] = 0xff, Malformed::Range(NoRange::Outside));
        let none = encode(Wish::Merge, &[], &mut [0; BYTES_MAX]).to_vec();
        assert_eq!(Message::decode(&none), Err(Malformed::Length));
    }

    proptest! {
        #[test]
        fn ranges_arrive_as_they_were_sent(ranges in ranges(), leave: bool) {
            let wish = if leave { Wish::Leave } else { Wish::Merge };
            let mut room = [0; BYTES_MAX];
            let message = Message::decode(encode(wish, &ranges, &mut room)).unwrap();
            prop_assert_eq!(message.wish(), wish);
            prop_assert_eq!(message.ranges().collect::<Vec<_>>(), ranges);
        }

        #[test]
        fn nothing_breaks_us(bytes: Vec<u8>, ranges in ranges(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let _ = Message::decode(&bytes);
            let mut room = [0; BYTES_MAX];
            let mut bytes = encode(Wish::Merge, &ranges, &mut room).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert!(message.ranges().all(|range| Range::new(range.start(), range.bytes()).is_ok()));
                let ranges: Vec<_> = message.ranges().collect();
                let mut again = [0; BYTES_MAX];
                prop_assert_eq!(encode(message.wish(), &ranges, &mut again), &bytes);
            }
        }
    }
}
