//! The manifest as bytes: what a run says that the one before it did not, in varints, under a checksum.
//!
//! ```text
//! "dorm" | version: u8 | runs: varint | run ... | XXH3-64 of all before: u64, little endian
//! run: pages from the end of the last run: varint | pages * 2 + has content: varint
//!      | first slot minus the slot after the last one named, zigzag: varint, if it has content
//! ```

use xxhash_rust::xxh3::xxh3_64;

use crate::manifest::{Content, Manifest, Run};
use crate::varint::{self, unzigzag, zigzag};
use crate::{PageAddr, SlotId};

const MAGIC: &[u8; 4] = b"dorm";
const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 8;

/// No run takes less, so no more are expected than the bytes could hold.
const RUN_LEN_MIN: usize = 2;

/// The bytes are not a manifest that this version can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// They do not begin like one.
    #[error("not a manifest")]
    NotAManifest,
    /// Another version wrote them.
    #[error("manifest of version {found}, this program reads {VERSION}")]
    Version {
        /// The version they name.
        found: u8,
    },
    /// They are not what was written.
    #[error("the checksum of the manifest does not match")]
    Damaged,
    /// The checksum is right, but they make no sense: whoever wrote them was wrong.
    #[error("malformed manifest at byte {offset}")]
    Malformed {
        /// Where reading stopped.
        offset: usize,
    },
}

impl Manifest {
    /// The manifest as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        varint::push(&mut bytes, self.as_runs().len() as u64);
        let (mut end, mut slot_end) = (PageAddr::default(), 0i64);
        for run in self.as_runs() {
            varint::push(&mut bytes, run.start.pages_since(end));
            end = run.start + u64::from(run.pages);
            let pages = u64::from(run.pages) << 1;
            match run.content {
                Content::Zero => varint::push(&mut bytes, pages),
                Content::Slots(first) => {
                    varint::push(&mut bytes, pages | 1);
                    let first = i64::from(first.get());
                    varint::push(&mut bytes, zigzag(first - slot_end));
                    slot_end = first + i64::from(run.pages);
                }
            }
        }
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads what [`Manifest::to_bytes`] wrote. Takes no more memory than eight times the bytes, whatever they say.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(ManifestError::NotAManifest)?;
        match body.strip_prefix(MAGIC) {
            Some([VERSION, ..]) => {}
            Some(&[found, ..]) => return Err(ManifestError::Version { found }),
            _ => return Err(ManifestError::NotAManifest),
        }
        if xxh3_64(body) != u64::from_le_bytes(*checksum) {
            return Err(ManifestError::Damaged);
        }
        let mut reader = Reader { body, offset: MAGIC.len() + 1 };
        match reader.runs() {
            Some(runs) if reader.offset == body.len() => Ok(Self::from_runs(runs)),
            _ => Err(ManifestError::Malformed { offset: reader.offset }),
        }
    }
}

struct Reader<'a> {
    body: &'a [u8],
    offset: usize,
}

impl Reader<'_> {
    fn runs(&mut self) -> Option<Vec<Run>> {
        let count = usize::try_from(self.varint()?).ok()?;
        if count > (self.body.len() - self.offset) / RUN_LEN_MIN {
            return None;
        }
        let mut runs = Vec::with_capacity(count);
        let (mut end, mut slot_end) = (0u64, 0i64);
        for _ in 0..count {
            let start = end.checked_add(self.varint()?)?;
            let pages_and_kind = self.varint()?;
            let pages = u32::try_from(pages_and_kind >> 1).ok().filter(|&pages| pages > 0)?;
            let content = if pages_and_kind & 1 == 0 {
                Content::Zero
            } else {
                let first = slot_end.checked_add(unzigzag(self.varint()?))?;
                slot_end = first.checked_add(i64::from(pages))?;
                let first = SlotId::new(u32::try_from(first).ok()?)?;
                first.plus(pages - 1)?; // The last slot must be one, too.
                Content::Slots(first)
            };
            end = start
                .checked_add(u64::from(pages))
                .filter(|&end| end <= u64::MAX / crate::PAGE_SIZE as u64)?;
            runs.push(Run { start: PageAddr::default() + start, pages, content });
        }
        Some(runs)
    }

    fn varint(&mut self) -> Option<u64> {
        varint::read(self.body, &mut self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoding, ManifestBuilder};
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        let slot = |number| Encoding::Packed(SlotId::new(number).unwrap());
        let mut builder = ManifestBuilder::new();
        builder
            .extend(PageAddr::containing(0x7fff_1234_5000), &[slot(5), slot(6), Encoding::Zero, slot(1000)]);
        builder.extend(PageAddr::containing(0x4000), &[slot(7), slot(u32::MAX - 1)]);
        builder.build().unwrap()
    }

    /// `body` under a right checksum.
    #[track_caller]
    fn check(body: &[u8], expected: Result<u64, ManifestError>) {
        let bytes = [body, &xxh3_64(body).to_le_bytes()].concat();
        assert_eq!(Manifest::from_bytes(&bytes).map(|manifest| manifest.page_count()), expected);
    }

    #[test]
    fn a_damaged_byte_is_noticed_wherever_it_is() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest()));
        for at in 0..bytes.len() {
            assert!(Manifest::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(Manifest::from_bytes(&bytes).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn nonsense_under_a_right_checksum_is_malformed() {
        check(b"dorm\x01\x00", Ok(0));
        check(b"dorm\x01\x01\x00\x06", Ok(3));
        check(b"dorm\x01\x01\x00\x00", Err(ManifestError::Malformed { offset: 8 })); // A run without pages.
        check(b"dorm\x01\x01\x00\x03\x01", Err(ManifestError::Malformed { offset: 9 })); // Slot -1.
        check(b"dorm\x01\x05\x00\x06", Err(ManifestError::Malformed { offset: 6 })); // Five runs announced.
        check(b"dorm\x01\x00\x00", Err(ManifestError::Malformed { offset: 6 })); // Bytes behind the end.
        check(b"dorm\x02\x00", Err(ManifestError::Version { found: 2 }));
        check(b"norm\x01\x00", Err(ManifestError::NotAManifest));
        let beyond = [&b"dorm\x01\x01"[..], &[0xff; 9], b"\x01\x02"].concat();
        check(&beyond, Err(ManifestError::Malformed { offset: 17 })); // Addresses end before that.
    }

    proptest! {
        #[test]
        fn any_body_gives_a_manifest_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzzing::manifest(&body);
        }

        #[test]
        fn zigzag_turns_back(value in any::<i64>()) { prop_assert_eq!(unzigzag(zigzag(value)), value); }
    }
}
