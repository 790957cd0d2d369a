//! Decodes any bytes as a patch, and encodes and decodes pages made of them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pages::fuzzing::patch(data));
