//! One byte range of a file (RFC 9110 section 14). Pure.

use std::ops::Range;

/// What a `Range` field asks for, given the length of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RangeVerdict {
    /// The whole: the field is not understood, names another unit, or asks for several ranges.
    Whole,
    /// These bytes, of which there is at least one.
    Part(Range<u64>),
    /// Bytes that the file does not have: 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` field against a file of `length` bytes.
///
/// What is syntactically wrong is ignored, as section 14.2 allows, and so are several ranges.
#[must_use]
pub fn parse(value: &[u8], length: u64) -> RangeVerdict {
    parse_one(value, length).unwrap_or(RangeVerdict::Whole)
}

fn parse_one(value: &[u8], length: u64) -> Option<RangeVerdict> {
    let value = std::str::from_utf8(value).ok()?;
    let (unit, set) = value.split_once('=')?;
    // The name of a unit has no case (section 14.1).
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // A list may have empty members (section 5.6.1).
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return None };
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(match (suffix, length) {
            (0, _) => RangeVerdict::Unsatisfiable,
            // A suffix of nothing is all of it, and no Content-Range can say so.
            (_, 0) => RangeVerdict::Whole,
            _ => RangeVerdict::Part(length.saturating_sub(suffix)..length),
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
    Some(if first < length { RangeVerdict::Part(first..end) } else { RangeVerdict::Unsatisfiable })
}

/// Digits only; what does not fit is beyond every file.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::RangeVerdict::{Part, Unsatisfiable, Whole};
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
            ("bytes=0-1,3-4", Whole),
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
    fn ranges_of_an_empty_file() {
        for (value, want) in [
            ("bytes=0-", Unsatisfiable),
            ("bytes=0-0", Unsatisfiable),
            ("bytes=-1", Whole),
            ("bytes=-0", Unsatisfiable),
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
        fn no_value_panics(value in proptest::collection::vec(any::<u8>(), 0..40), length: u64) {
            let _ = parse(&value, length);
            let _ = parse(&[b"bytes=", value.as_slice()].concat(), length);
        }
    }
}
