//! Memory that comes with the executable: `.data`, `.bss` and relocated constants; and code written at run time.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::content;
use crate::region::Region;

/// Words in each of the two areas: 16 pages.
const WORDS: usize = 8192;

/// One word in so many is written in `.data`; pages between stay as they are in the file.
const DATA_STRIDE: usize = 2048;

/// Not zero at the start, so it lies in `.data`.
static DATA: [AtomicU64; WORDS] = [const { AtomicU64::new(0x0d0a_7a0d) }; WORDS];

/// Zero at the start, so it lies in `.bss`.
static BSS: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

/// Holds addresses, so the loader writes to it and then protects it: `.data.rel.ro`.
static RELOCATED: [&[u8; 4]; 1024] = [b"relo"; 1024];

/// The static areas of this executable.
pub(super) struct Image {}

impl Image {
    /// Writes to both areas.
    pub(super) fn filled(seed: u64) -> Image {
        for (word, draw) in BSS.iter().zip(seed..) {
            word.store(content::mix(draw), Relaxed);
        }
        for (word, draw) in DATA.iter().zip(seed..).step_by(DATA_STRIDE) {
            word.store(content::mix(draw ^ 0xda7a), Relaxed);
        }
        Image {}
    }

    /// One hash an area.
    pub(super) fn sums(&self) -> [(&'static str, u64); 3] {
        let words = |area: &'static [AtomicU64]| content::combine(area.iter().map(|word| word.load(Relaxed)));
        let relocated = std::hint::black_box(&RELOCATED);
        let letters = relocated.iter().map(|letters| content::sum(&letters[..]));
        [("data", words(&DATA)), ("bss", words(&BSS)), ("relro", content::combine(letters))]
    }

    /// Changes some words of both.
    pub(super) fn mutate(&self, seed: u64) {
        for area in [&DATA, &BSS] {
            for (word, draw) in area.iter().zip(seed..).step_by(DATA_STRIDE / 2) {
                word.fetch_xor(content::mix(draw), Relaxed);
            }
        }
    }
}

/// A function written at run time, in memory that is both writable and executable.
pub(super) struct Jit {
    code: Region,
}

/// `mov eax, IMM32; ret`, with the number still missing.
#[cfg(target_arch = "x86_64")]
const RETURN_NUMBER: [u8; 6] = [0xb8, 0, 0, 0, 0, 0xc3];

impl Jit {
    /// Writes a function that returns a number from `seed`.
    pub(super) fn written(seed: u64) -> io::Result<Jit> {
        let mut code = Region::private("jit", content::PAGE_BYTES)?;
        code.protect(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?;
        let mut jit = Jit { code };
        jit.rewrite(seed)?;
        Ok(jit)
    }

    /// Writes another one in its place.
    pub(super) fn rewrite(&mut self, seed: u64) -> io::Result<()> {
        let mut code = RETURN_NUMBER;
        code[1..5].copy_from_slice(&(content::mix(seed) as u32).to_le_bytes());
        self.code.bytes_mut()[..code.len()].copy_from_slice(&code);
        Ok(())
    }

    /// Calls it; what it returns stands for its hash.
    pub(super) fn call(&self) -> io::Result<u64> {
        let start = self.code.base().cast_const();
        // SAFETY: the code is ours, executable, and written by `rewrite` to this signature.
        let function = unsafe { std::mem::transmute::<*const u8, extern "C" fn() -> u32>(start) };
        Ok(function().into())
    }
}
