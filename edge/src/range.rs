//! Byte ranges of a file (RFC 9110 section 14). Pure.

use std::ops::Range;

/// The most parts that one answer has. Beyond, the whole file costs everybody less.
pub const MOST_PARTS: usize = 16;

/// The most ranges that are read of one field, so that sorting them stays a matter of microseconds; whoever sends more
/// gets the whole file, as for too many parts.
const MOST_ASKED: usize = 256;

/// What a `Range` field asks for, given the length of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RangeVerdict {
    /// The whole: the field is not understood, names another unit, or asks for too many ranges.
    Whole,
    /// These bytes, of which there is at least one.
    Part(Range<u64>),
    /// These, at least two, in the order to send them in. No two overlap or touch, and each has at least one byte.
    Parts(Vec<Range<u64>>),
    /// Only bytes that the file does not have: 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` field against a file of `length` bytes.
///
/// What is syntactically wrong is ignored, as section 14.2 allows. Of several ranges, those that the file does not have
/// are left out, and those that overlap or touch become one, in the place of the first of them (section 15.3.7.2). So a
/// file's bytes are sent once at most, whatever is asked.
#[must_use]
pub fn parse(value: &[u8], length: u64) -> RangeVerdict {
    parse_set(value, length).unwrap_or(RangeVerdict::Whole)
}

/// What one member of the set comes to.
enum Spec {
    Part(Range<u64>),
    Unsatisfiable,
    /// A suffix of a file without bytes: all of it, and no Content-Range can say so.
    Nothing,
}

fn parse_set(value: &[u8], length: u64) -> Option<RangeVerdict> {
    let value = std::str::from_utf8(value).ok()?;
    let (unit, set) = value.split_once('=')?;
    // The name of a unit has no case (section 14.1).
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // A list may have empty members (section 5.6.1).
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let first = parse_spec(specs.next()?, length)?;
    let Some(second) = specs.next() else {
        return Some(match first {
            Spec::Part(part) => RangeVerdict::Part(part),
            Spec::Unsatisfiable => RangeVerdict::Unsatisfiable,
            Spec::Nothing => RangeVerdict::Whole,
        });
    };
    let mut parts = Vec::new();
    let mut take = |spec| match spec {
        Spec::Part(part) => {
            parts.push(part);
            Some(())
        }
        Spec::Unsatisfiable => Some(()),
        Spec::Nothing => None,
    };
    take(first)?;
    take(parse_spec(second, length)?)?;
    for (asked, spec) in specs.enumerate() {
        if asked + 2 == MOST_ASKED {
            return None;
        }
        take(parse_spec(spec, length)?)?;
    }
    Some(merge(parts))
}

fn parse_spec(spec: &str, length: u64) -> Option<Spec> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(match (suffix, length) {
            (0, _) => Spec::Unsatisfiable,
            (_, 0) => Spec::Nothing,
            _ => Spec::Part(length.saturating_sub(suffix)..length),
        });
    }
    let first = number(first)?;
    let end = if last.is_empty() {
        length
    } else {
        let last = number(last)?;
        if last < first {
            return None;
        }
        last.saturating_add(1).min(length)
    };
    Some(if first < length { Spec::Part(first..end) } else { Spec::Unsatisfiable })
}

/// Digits only; what does not fit is beyond every file.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Joins what overlaps or touches, and keeps the order that was asked for.
fn merge(parts: Vec<Range<u64>>) -> RangeVerdict {
    let mut placed: Vec<(usize, Range<u64>)> = parts.into_iter().enumerate().collect();
    placed.sort_unstable_by_key(|(_, part)| part.start);
    placed.dedup_by(|(place, part), (kept_place, kept)| {
        let joins = part.start <= kept.end;
        if joins {
            kept.end = kept.end.max(part.end);
            *kept_place = (*kept_place).min(*place);
        }
        joins
    });
    if placed.len() > MOST_PARTS {
        return RangeVerdict::Whole;
    }
    placed.sort_unstable_by_key(|(place, _)| *place);
    let mut parts: Vec<Range<u64>> = placed.into_iter().map(|(_, part)| part).collect();
    match parts.len() {
        0 => RangeVerdict::Unsatisfiable,
        1 => RangeVerdict::Part(parts.remove(0)),
        _ => RangeVerdict::Parts(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::RangeVerdict::{Part, Parts, Unsatisfiable, Whole};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_of_ten_bytes() {
        for (value, want) in [
            ("bytes=0-3", Part(0..4)),
            ("bytes=0-0", Part(0..1)),
            ("bytes=9-9", Part(9..10)),
            ("bytes=4-", Part(4..10)),
            ("bytes=0-", Part(0..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-10", Part(0..10)),
            ("bytes=-11", Part(0..10)),
            ("bytes=5-99", Part(5..10)),
            ("bytes=5-99999999999999999999999", Part(5..10)),
            ("bytes=0-18446744073709551615", Part(0..10)),
            ("Bytes=0-3", Part(0..4)),
            ("bytes= 0-3", Part(0..4)),
            ("bytes=0-3 ,", Part(0..4)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=3-2", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes=,", Whole),
            ("bytes", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1--2", Whole),
            ("bytes=1-2-3", Whole),
            ("bytes=0x1-2", Whole),
            ("bytes =0-3", Whole),
            ("bytes=0 - 3", Whole),
            ("items=0-3", Whole),
            ("", Whole),
        ] {
            assert_eq!(parse(value.as_bytes(), 10), want, "{value:?}");
        }
        assert_eq!(parse(b"bytes=0-\xff", 10), Whole);
    }

    #[test]
    fn several_ranges_of_ten_bytes() {
        let several = |parts: &[Range<u64>]| Parts(parts.to_vec());
        for (value, want) in [
            ("bytes=0-1,3-4", several(&[0..2, 3..5])),
            ("bytes=0-1 ,\t3-4", several(&[0..2, 3..5])),
            ("bytes=,0-1,,3-4,", several(&[0..2, 3..5])),
            ("bytes=3-4,0-1", several(&[3..5, 0..2])),
            ("bytes=-1,0-0", several(&[9..10, 0..1])),
            ("bytes=0-0,-1", several(&[0..1, 9..10])),
            ("bytes=0-0,5-99", several(&[0..1, 5..10])),
            // What overlaps or touches becomes one, in the place of the first.
            ("bytes=0-1,2-3", Part(0..4)),
            ("bytes=2-3,0-1", Part(0..4)),
            ("bytes=0-5,2-3", Part(0..6)),
            ("bytes=2-3,0-5", Part(0..6)),
            ("bytes=1-1,1-1,1-1", Part(1..2)),
            ("bytes=0-,0-,0-,0-,0-", Part(0..10)),
            ("bytes=0-4,5-", Part(0..10)),
            ("bytes=8-9,0-1,7-7,3-3", several(&[7..10, 0..2, 3..4])),
            ("bytes=0-1,8-9,3-3,2-2", several(&[0..4, 8..10])),
            ("bytes=3-4,0-0,2-2", several(&[2..5, 0..1])),
            // What the file does not have is left out of several.
            ("bytes=0-1,10-", Part(0..2)),
            ("bytes=99-,-0,0-1,3-4", several(&[0..2, 3..5])),
            ("bytes=10-,11-12", Unsatisfiable),
            ("bytes=-0,-0", Unsatisfiable),
            // One that is wrong makes the field wrong.
            ("bytes=0-1,3-2", Whole),
            ("bytes=0-1,x", Whole),
            ("bytes=0-1;3-4", Whole),
            ("bytes=0-1,3-4,-", Whole),
            ("bytes=0-1,bytes=3-4", Whole),
        ] {
            assert_eq!(parse(value.as_bytes(), 10), want, "{value:?}");
        }
    }

    #[test]
    fn parts_have_a_bound() {
        let list = |count: usize, step: usize| {
            let specs: Vec<String> = (0..count).map(|n| format!("{0}-{0}", n * step)).collect();
            format!("bytes={}", specs.join(","))
        };
        let parse = |value: &str| parse(value.as_bytes(), 1 << 20);
        assert!(matches!(parse(&list(MOST_PARTS, 2)), Parts(parts) if parts.len() == MOST_PARTS));
        assert_eq!(parse(&list(MOST_PARTS + 1, 2)), Whole);
        assert_eq!(parse(&list(MOST_ASKED, 1)), Part(0..MOST_ASKED as u64), "the bound holds after joining");
        assert_eq!(parse(&list(MOST_ASKED + 1, 1)), Whole, "up to a number that nobody needs");
    }

    #[test]
    fn ranges_of_an_empty_file() {
        for (value, want) in [
            ("bytes=0-", Unsatisfiable),
            ("bytes=0-0", Unsatisfiable),
            ("bytes=-1", Whole),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-,-0", Unsatisfiable),
            ("bytes=0-,-1", Whole),
        ] {
            assert_eq!(parse(value.as_bytes(), 0), want, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_inside_and_is_not_empty(first in any::<Option<u64>>(), last in any::<Option<u64>>(), length: u64) {
            let text = |end: Option<u64>| end.map_or(String::new(), |end| end.to_string());
            let value = format!("bytes={}-{}", text(first), text(last));
            if let Part(part) = parse(value.as_bytes(), length) {
                prop_assert!(part.start < part.end && part.end <= length, "{value}: {part:?} of {length}");
                if let Some(first) = first {
                    prop_assert_eq!(part.start, first);
                }
            }
        }

        #[test]
        fn parts_are_what_was_asked_for_once_and_in_order(
            specs in proptest::collection::vec((0..60_u64, 0..6_u64), 1..24), length in 1..50_u64,
        ) {
            let text: Vec<String> = specs.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let value = format!("bytes={}", text.join(","));
            let inside = |at: &u64| specs.iter().any(|(first, more)| (*first..=first + more).contains(at));
            let asked: Vec<u64> = (0..length).filter(inside).collect();
            let parts = match parse(value.as_bytes(), length) {
                Part(part) => vec![part],
                Parts(parts) => {
                    prop_assert!((2..=MOST_PARTS).contains(&parts.len()), "{value}");
                    parts
                }
                Unsatisfiable => vec![],
                Whole => {
                    let starts = asked.iter().filter(|at| **at == 0 || !asked.contains(&(*at - 1))).count();
                    prop_assert!(starts > MOST_PARTS, "{value} of {length} has {starts} parts");
                    return Ok(());
                }
            };
            let mut sent: Vec<u64> = parts.iter().cloned().flatten().collect();
            sent.sort_unstable();
            prop_assert_eq!(sent, asked, "{} of {}: each byte once", value, length);
            let place = |part: &Range<u64>| specs.iter().position(|(first, _)| part.contains(first));
            prop_assert!(parts.iter().map(place).is_sorted(), "{value} of {length}: {parts:?}");
            let apart = |a: &Range<u64>, b: &Range<u64>| a.end < b.start || b.end < a.start;
            prop_assert!(parts.iter().enumerate().all(|(n, a)| parts[n + 1..].iter().all(|b| apart(a, b))), "{parts:?}");
        }

        #[test]
        fn no_value_panics(value in proptest::collection::vec(any::<u8>(), 0..40), length: u64) {
            let _ = parse(&value, length);
            let _ = parse(&[b"bytes=", value.as_slice()].concat(), length);
        }
    }
}
