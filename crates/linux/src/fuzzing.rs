//! Bodies of the fuzz targets, so that ordinary tests can run them, too.

use crate::{carry, maps, process};

/// Any text is understood or refused: mappings are sorted and do not overlap.
pub fn proc_text(text: &[u8]) {
    if let Ok(mappings) = maps::parse(text) {
        assert!(mappings.iter().all(|mapping| mapping.start < mapping.end));
        assert!(mappings.windows(2).all(|two| two[0].end <= two[1].start));
    }
    let _ = process::parse_status(text);
    let _ = carry::parse_ring(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Lines as the kernel writes them, with a mistake here and there.
    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9a-f]{1,17}-[0-9a-f]{1,17} [rwxps-]{3,5} [0-9a-f]{1,9} [0-9a-f:]{1,6} [0-9]{1,22}( .{0,9})?",
            "[0-9a-f]{1,5}000-[0-9a-f]{1,6}000 rw-p 00000000 00:00 0",
            "VmFlags:( [a-z]{2}){0,9}",
            "(RssAnon|VmPTE|State|TracerPid|UserBufs|CachedSqHead|CqTail):.{0,30}",
            ".{0,40}",
        ]
    }

    proptest! {
        #[test]
        fn no_text_breaks_us(lines in prop::collection::vec(line(), 0..20), bytes: Vec<u8>) {
            super::proc_text(lines.join("\n").as_bytes());
            super::proc_text(&bytes);
        }
    }
}
