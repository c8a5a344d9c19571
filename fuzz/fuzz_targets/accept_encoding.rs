//! What is chosen is stored and was asked for, lines are one list, and a refusal is obeyed.
//!
//! The first byte says which variants there are; the rest are the lines of the field.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinstone_edge::encoding::Accepted;
use pinstone_engine::coding::{Coding, Variant, Variants};
use pinstone_engine::hash::BlobHash;

fuzz_target!(|input: &[u8]| {
    let Some((stored, field)) = input.split_first() else { return };
    let variant = Variant { blob: BlobHash::from_bytes([1; 32]), size: 1 };
    let variants = Coding::ALL
        .into_iter()
        .filter(|coding| stored & (1 << *coding as u8) != 0)
        .fold(Variants::default(), |variants, coding| variants.with(coding, variant));
    let lines: Vec<&[u8]> = field.split(|byte| *byte == b'\n').collect();
    let chosen = Accepted::parse(lines.iter().copied()).choose(&variants);
    let joined = lines.join(&b","[..]);
    assert_eq!(Accepted::parse([&joined[..]]).choose(&variants), chosen, "several lines are one list");
    let Some(coding) = chosen else { return };
    assert!(variants.get(coding).is_some(), "{coding} is not stored");
    let text = String::from_utf8_lossy(&joined).to_ascii_lowercase();
    assert!(text.contains(coding.token()) || text.contains('*'), "nobody asked for {coding}: {text:?}");
    let refusal = format!("{coding};q=0");
    for lines in [[refusal.as_bytes(), &joined[..]], [&joined[..], refusal.as_bytes()]] {
        assert_ne!(Accepted::parse(lines).choose(&variants), chosen, "{coding} was refused: {text:?}");
    }
});
