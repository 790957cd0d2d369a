//! `huge`: a mapping of explicit huge pages (hugetlbfs), where the machine has any set aside.

use std::io;

use crate::content;
use crate::control::{Control, number, unknown};
use crate::region::Region;

/// One huge page of the usual size.
const HUGE_BYTES: usize = 2 << 20;

/// Fills one huge page; `checksum` and `mutate SEED` as `memory` has them.
pub(crate) fn run(mut control: Control) -> io::Result<()> {
    let mut region = match Region::anonymous("hugetlb", HUGE_BYTES, libc::MAP_PRIVATE | libc::MAP_HUGETLB) {
        Ok(region) => region,
        Err(why) => return control.unavailable(&why),
    };
    content::fill(region.bytes_mut(), 1);
    control.serve("huge", |verb, rest| match verb {
        "checksum" => Ok(format!("all={:016x}", region.sum()?)),
        "mutate" => region.mutate(number(rest, 0)?).map(|()| "mutated".to_owned()),
        verb => Err(unknown(verb)),
    })
}
