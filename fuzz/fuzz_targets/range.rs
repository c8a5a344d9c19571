//! A range lies in its file and has at least one byte, whatever was asked for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinstone_edge::range::{RangeVerdict, parse};

fuzz_target!(|input: (&[u8], u64)| {
    let (value, length) = input;
    match parse(value, length) {
        RangeVerdict::Part(range) => {
            assert!(range.start < range.end && range.end <= length, "{range:?} of {length}");
            let text = std::str::from_utf8(value).expect("a range is text");
            assert!(text.to_ascii_lowercase().trim_start().starts_with("bytes"), "{text:?}");
        }
        RangeVerdict::Whole | RangeVerdict::Unsatisfiable => {}
    }
});
