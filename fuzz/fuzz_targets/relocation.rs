//! Reads any bytes as a relocation.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pages::fuzzing::relocation(data));
