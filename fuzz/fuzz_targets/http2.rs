//! Whatever a client of HTTP/2 sends behind its preface, what it is sent is whole frames, of streams that it opened, each of
//! which ends once; and no more bytes of bodies than windows allow.
//!
//! The first byte is how many bytes come at once, where it is not 0.

#![no_main]

use std::collections::{HashMap, HashSet};

use libfuzzer_sys::fuzz_target;
use pinstone_edge::fuzzing::http2;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const FIRST_WINDOW: u64 = 65_535;
const LARGEST: u32 = (1 << 31) - 1;

fuzz_target!(|input: &[u8]| {
    let Some((at_once, input)) = input.split_first() else { return };
    let input = [PREFACE, input].concat();
    let at_once = if *at_once == 0 { input.len() } else { usize::from(*at_once) };
    let sent = http2(input.chunks(at_once));

    let wider: u64 = frames(&input[PREFACE.len()..])
        .filter(|frame| (frame.kind, frame.stream, frame.payload.len()) == (WINDOW_UPDATE, 0, 4))
        .map(|frame| u64::from(u32::from_be_bytes(frame.payload.try_into().expect("it has four bytes")) & LARGEST))
        .sum();
    let named: HashSet<u32> = frames(&input[PREFACE.len()..]).map(|frame| frame.stream).collect();
    let mut of_bodies = 0;
    let mut ended: HashMap<u32, bool> = HashMap::new();
    let mut length = 0;
    for frame in frames(&sent) {
        length += 9 + frame.payload.len();
        if frame.kind == DATA {
            of_bodies += frame.payload.len() as u64;
        }
        if frame.stream == 0 {
            continue;
        }
        assert!(named.contains(&frame.stream), "nobody spoke of stream {}", frame.stream);
        if frame.kind == WINDOW_UPDATE {
            continue;
        }
        // One that is not opened may be reset, as by a PRIORITY that is too short.
        assert!(frame.stream % 2 == 1 || frame.kind == RST_STREAM, "clients open streams with odd numbers");
        let is_over = ended.entry(frame.stream).or_default();
        assert!(!*is_over || frame.kind == RST_STREAM, "stream {} was over", frame.stream);
        *is_over |= matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
    }
    assert_eq!(length, sent.len(), "frames are sent whole");
    assert!(of_bodies <= FIRST_WINDOW + wider);
});

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

/// The whole frames that these bytes begin with.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_at_checked(9)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let (payload, rest) = rest.split_at_checked(number(&head[..3]) as usize)?;
        bytes = rest;
        Some(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) & LARGEST, payload })
    })
}
