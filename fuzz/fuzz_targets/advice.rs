//! Reads any bytes as what a program advises.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(message) = advice::Message::decode(data) {
        let ranges: Vec<_> = message.ranges().collect();
        assert_eq!(advice::encode(message.wish(), &ranges, &mut [0; advice::BYTES_MAX]), data);
    }
});
