//! What each process has of KSM, and who has anything.

use std::fs;
use std::io;

use crate::maps::{self, Flags};
use crate::process;

/// What one process has of KSM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Pages that are merged with others, those of zeros included.
    pub pages: u64,
    /// Pages that KSM remembers, which costs it 64 bytes each.
    pub known_pages: u64,
    /// Saved bytes less what KSM keeps of the process for it.
    pub profit_bytes: i64,
    /// Whether any of its memory is marked; `None`: this kernel does not tell.
    pub is_marked: Option<bool>,
}

/// What a process has of KSM; nothing where the kernel does not tell (before 6.1).
pub fn merged(pid: i32) -> io::Result<Merged> {
    match fs::read_to_string(format!("/proc/{pid}/ksm_stat")) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && process::status(pid).is_ok() => {
            let rollup = process::rollup(pid)?;
            Ok(Merged { pages: rollup.ksm_bytes / 4096, ..Merged::default() })
        }
        Err(error) => Err(error),
    }
}

/// Understands `ksm_stat`; what is not there stays 0.
fn parse(text: &str) -> Merged {
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim_matches([':', ' ']))
    };
    let number = |key| value(key).and_then(|number| number.parse::<i64>().ok()).unwrap_or(0);
    let count = |key| number(key).try_into().unwrap_or(0);
    Merged {
        pages: count("ksm_merging_pages") + count("ksm_zero_pages"),
        known_pages: count("ksm_rmap_items"),
        profit_bytes: number("ksm_process_profit"),
        is_marked: value("ksm_mergeable").map(|word| word == "yes"),
    }
}

/// All processes that we see and that have memory marked, or merged, but those that `is_ours`.
pub fn marked(is_ours: &dyn Fn(i32) -> bool) -> Vec<i32> {
    process::all().into_iter().filter(|pid| has_marked(*pid) && !is_ours(*pid)).collect()
}

/// A process that dies meanwhile has nothing.
fn has_marked(pid: i32) -> bool {
    let Ok(merged) = merged(pid) else { return false };
    merged.pages > 0
        || merged.is_marked.unwrap_or_else(|| {
            let is_marked =
                |mappings: Vec<maps::Mapping>| mappings.iter().any(|m| m.flags.any(&[Flags::MERGEABLE]));
            merged.known_pages > 0 || maps::read(pid).is_ok_and(is_marked)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_is_understood() {
        let text = "ksm_rmap_items 10\nksm_zero_pages 2\nksm_merging_pages 5\nksm_process_profit -20\nksm_merge_any: no\nksm_mergeable: yes\n";
        let expected = Merged { pages: 7, known_pages: 10, profit_bytes: -20, is_marked: Some(true) };
        assert_eq!(parse(text), expected);
        assert_eq!(parse("ksm_rmap_items 0\n"), Merged::default());
        assert_eq!(parse("x"), Merged::default());
    }

    #[test]
    fn we_ourselves_have_nothing_merged() {
        let us = std::process::id() as i32;
        assert!(!has_marked(us));
        assert_eq!(merged(us).unwrap().pages, 0);
        assert!(merged(i32::MAX).is_err());
    }
}
