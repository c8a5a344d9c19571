//! Ranges lie in their file, have at least one byte each and do not touch, whatever was asked for; and an answer with
//! several is as long as it says.

#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use pinstone_edge::multipart::Multipart;
use pinstone_edge::range::{MOST_PARTS, RangeVerdict, parse};

fuzz_target!(|input: (&[u8], u64)| {
    let (value, length) = input;
    check(value, length);
    check(&[b"bytes=", value].concat(), length);
});

fn check(value: &[u8], length: u64) {
    let parts = match parse(value, length) {
        RangeVerdict::Part(part) => vec![part],
        RangeVerdict::Parts(parts) => {
            assert!((2..=MOST_PARTS).contains(&parts.len()), "{parts:?}");
            parts
        }
        RangeVerdict::Whole | RangeVerdict::Unsatisfiable => return,
    };
    let text = std::str::from_utf8(value).expect("a range is text");
    assert!(text.to_ascii_lowercase().starts_with("bytes="), "{text:?}");
    for (number, part) in parts.iter().enumerate() {
        assert!(part.start < part.end && part.end <= length, "{part:?} of {length}");
        let apart = |other: &Range<u64>| part.end < other.start || other.end < part.start;
        assert!(parts[number + 1..].iter().all(apart), "{parts:?}");
    }
    let bytes: u64 = parts.iter().map(|part| part.end - part.start).sum();
    assert!(bytes <= length);
    if bytes < 1 << 40 {
        let body = Multipart::new("boundary", "text/plain", length, parts);
        let between: usize = body.parts.iter().map(|part| part.opening.len()).sum::<usize>() + body.closing.len();
        assert_eq!(body.content_length(), bytes + between as u64);
    }
}
