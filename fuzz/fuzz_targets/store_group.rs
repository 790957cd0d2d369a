//! Decodes any bytes as a group of the store.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pages::fuzzing::store_group(data));
