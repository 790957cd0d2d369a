//! The mappings of a process, as `/proc/PID/smaps` tells them.

use std::fmt;
use std::io::{self, Read};

use pages::{PageAddr, PageRange};

/// No real process comes near: `vm.max_map_count` is 65,530 by default.
const MAPPINGS_MAX: usize = 1 << 20;

/// So much of the text is read before a caller may give up.
const READ_BYTES: u64 = 16 << 10;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
    /// Writes reach others (`MAP_SHARED`).
    pub shared: bool,
    /// Inode of the file; 0 for anonymous memory.
    pub inode: u64,
    /// Path, or a bracketed name such as `[heap]`; empty for most anonymous memory.
    pub name: String,
    /// The kernel's flags.
    pub flags: Flags,
}

/// The `VmFlags` that matter here.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u32);

/// Two-letter codes of `VmFlags` (kernel, `Documentation/filesystems/proc.rst`), one bit each in this order.
const FLAG_NAMES: [&str; 13] = ["io", "pf", "ht", "um", "uw", "lo", "dc", "wf", "sl", "ss", "ui", "mm", "mg"];

impl Flags {
    /// Memory-mapped device.
    pub const DEVICE: Flags = Flags(1 << 0);
    /// Raw page frames, without page structures.
    pub const PFN: Flags = Flags(1 << 1);
    /// Huge pages from the reserved pool.
    pub const HUGETLB: Flags = Flags(1 << 2);
    /// Watched by a userfaultfd for missing pages.
    pub const USERFAULT_MISSING: Flags = Flags(1 << 3);
    /// Watched by a userfaultfd for writes.
    pub const USERFAULT_WRITE: Flags = Flags(1 << 4);
    /// Locked in memory.
    pub const LOCKED: Flags = Flags(1 << 5);
    /// Not inherited by children.
    pub const DONT_FORK: Flags = Flags(1 << 6);
    /// Zeroed in children.
    pub const WIPE_ON_FORK: Flags = Flags(1 << 7);
    /// Sealed: may not be unmapped or emptied.
    pub const SEALED: Flags = Flags(1 << 8);
    /// Shadow stack.
    pub const SHADOW_STACK: Flags = Flags(1 << 9);
    /// Watched by a userfaultfd for minor faults.
    pub const USERFAULT_MINOR: Flags = Flags(1 << 10);
    /// May hold device pages next to ordinary ones.
    pub const MIXED: Flags = Flags(1 << 11);
    /// Marked: KSM may merge its pages.
    pub const MERGEABLE: Flags = Flags(1 << 12);

    /// Whether any of `others` is set.
    pub fn any(self, others: &[Flags]) -> bool {
        others.iter().any(|other| self.0 & other.0 != 0)
    }

    /// All but `others`.
    pub fn without(self, others: Flags) -> Flags {
        Flags(self.0 & !others.0)
    }

    fn parse(text: &str) -> Flags {
        let bit = |code| FLAG_NAMES.iter().position(|name| *name == code);
        Flags(text.split_ascii_whitespace().filter_map(bit).fold(0, |bits, at| bits | 1 << at))
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = FLAG_NAMES.iter().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0);
        f.debug_list().entries(set.map(|(_, name)| name)).finish()
    }
}

/// The text is not what the kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of smaps is not understood: {text:?}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// The line, at most 80 bytes of it.
    pub text: String,
}

impl Mapping {
    /// Anonymous memory that is this process' own.
    pub fn is_private_anonymous(&self) -> bool {
        !self.shared && self.inode == 0 && !self.is_kernels()
    }

    /// A file of which this process may hold private copies of pages.
    pub fn is_private_file(&self) -> bool {
        !self.shared && self.inode != 0
    }

    /// Provided by the kernel itself, the same for every process.
    pub fn is_kernels(&self) -> bool {
        matches!(self.name.as_str(), "[vdso]" | "[vvar]" | "[vvar_vclock]" | "[vsyscall]" | "[uprobes]")
            || self.name.starts_with("anon_inode:")
    }

    /// `PROT_*` bits.
    pub fn prot(&self) -> u64 {
        u64::from(self.read) | u64::from(self.write) << 1 | u64::from(self.execute) << 2
    }

    /// Its pages.
    pub fn range(&self) -> PageRange {
        PageRange::from_bounds(PageAddr::containing(self.start), PageAddr::containing(self.end))
    }

    /// Length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// Reads the mappings of a process, with flags. Walks its page tables: some milliseconds for a large process.
pub fn read(pid: i32) -> io::Result<Vec<Mapping>> {
    read_unless(pid, &|| false)
}

/// The same, unless `give_up` says meanwhile that it is no longer wanted; then an error.
pub fn read_unless(pid: i32, give_up: &dyn Fn() -> bool) -> io::Result<Vec<Mapping>> {
    read_file(&format!("/proc/{pid}/smaps"), give_up)
}

/// The same without flags, and without the walk.
pub fn read_without_flags(pid: i32) -> io::Result<Vec<Mapping>> {
    read_without_flags_unless(pid, &|| false)
}

/// The same, unless `give_up` says meanwhile that it is no longer wanted; then an error.
pub fn read_without_flags_unless(pid: i32, give_up: &dyn Fn() -> bool) -> io::Result<Vec<Mapping>> {
    read_file(&format!("/proc/{pid}/maps"), give_up)
}

fn read_file(path: &str, give_up: &dyn Fn() -> bool) -> io::Result<Vec<Mapping>> {
    let mut file = std::fs::File::open(path)?;
    let mut text = Vec::new();
    // The kernel hands out what fits into a page, so each of these takes some ten microseconds.
    while Read::by_ref(&mut file).take(READ_BYTES).read_to_end(&mut text)? > 0 {
        if give_up() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Understands the text of `smaps` (or of `maps`, which has no flags). Any input gives mappings or an error.
pub fn parse(text: &[u8]) -> Result<Vec<Mapping>, ParseError> {
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut is_told = false; // The mapping that the text is about was told of before.
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        // Of the two dozen lines about each mapping two matter: its header, and `VmFlags`.
        if !line.first().is_some_and(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b) || *b == b'V') {
            continue;
        }
        let line = String::from_utf8_lossy(line); // A file name need not be UTF-8; we never open it.
        let refuse = || ParseError { line: at + 1, text: line.chars().take(80).collect() };
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let last = mappings.last_mut().ok_or_else(refuse)?;
            if !is_told {
                last.flags = Flags::parse(flags);
            }
        } else if line.as_bytes().first().is_some_and(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)) {
            let mut mapping = parse_header(&line).ok_or_else(refuse)?;
            if mappings.len() >= MAPPINGS_MAX {
                return Err(refuse());
            }
            // The kernel writes a page of text at a time. Of a process that runs, what was told of already may have become
            // one with what follows: only the rest of it is new.
            mapping.start = mapping.start.max(mappings.last().map_or(0, |last| last.end));
            if mapping.start < mapping.end {
                mappings.push(mapping);
                is_told = false;
            } else {
                is_told = true;
            }
        }
    }
    Ok(mappings)
}

/// `start-end perms offset dev inode   name`.
fn parse_header(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after.trim_start();
        word
    };
    let (start, end) = word().split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let perms = word().as_bytes();
    let _offset = u64::from_str_radix(word(), 16).ok()?;
    let _device = word();
    let inode = word().parse().ok()?;
    let page_aligned = start.is_multiple_of(4096) && end.is_multiple_of(4096);
    if perms.len() != 4 || start >= end || !page_aligned {
        return None;
    }
    Some(Mapping {
        start,
        end,
        read: perms[0] == b'r',
        write: perms[1] == b'w',
        execute: perms[2] == b'x',
        shared: perms[3] == b's',
        inode,
        name: rest.to_owned(),
        flags: Flags::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
00400000-0040b000 r-xp 00000000 fe:00 1234    /usr/bin/with space (deleted)
Size:                 44 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0000021000 rw-p 00000000 00:00 0 
VmFlags: rd wr mr mw me lo um
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]
VmFlags: rd ex
";

    #[test]
    fn smaps_is_understood() {
        let mappings = parse(TEXT.as_bytes()).unwrap();
        assert_eq!(mappings.len(), 3);
        assert_eq!(mappings[0].name, "/usr/bin/with space (deleted)");
        assert!(mappings[0].is_private_file() && mappings[0].prot() == 5);
        assert!(mappings[1].is_private_anonymous() && mappings[1].prot() == 3);
        assert!(
            mappings[1].flags.any(&[Flags::LOCKED]) && mappings[1].flags.any(&[Flags::USERFAULT_MISSING])
        );
        assert!(!mappings[1].flags.any(&[Flags::HUGETLB]));
        assert!(mappings[2].is_kernels() && !mappings[2].is_private_anonymous());
    }

    #[test]
    fn text_that_the_kernel_does_not_write_is_refused() {
        for text in ["VmFlags: rd", "00400000-0040b000", "2000-1000 r-xp 0 0:0 0", "1001-2000 r-xp 0 0:0 0"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn mappings_that_grow_while_they_are_read_do_not_overlap() {
        let text = "1000-3000 rw-p 0 0:0 0\nVmFlags: um\n2000-4000 rw-p 0 0:0 0\nVmFlags: lo\n\
                    1000-4000 rw-p 0 0:0 0\nVmFlags: sl\n5000-6000 rw-p 0 0:0 0\n";
        let found: Vec<_> =
            parse(text.as_bytes()).unwrap().iter().map(|m| (m.start, m.end, m.flags)).collect();
        let none = Flags::default();
        let expected = [
            (0x1000, 0x3000, Flags::USERFAULT_MISSING),
            (0x3000, 0x4000, Flags::LOCKED),
            (0x5000, 0x6000, none),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn our_own_mappings_are_understood() {
        let mappings = read(std::process::id() as i32).unwrap();
        assert!(mappings.iter().any(|m| m.name == "[stack]" && m.is_private_anonymous()));
        assert!(mappings.iter().any(|m| m.name == "[vdso]"));
    }
}
