//! Whatever `/proc` says, it is understood or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| linux::fuzzing::proc_text(text));
