//! Preconditions, in the order of RFC 9110 section 13.2.2. Pure.
//!
//! `If-Match` before `If-Unmodified-Since`, then `If-None-Match` before `If-Modified-Since`; whether a range is wanted
//! at all (`If-Range`) is asked last, by whoever answers 200.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinstone_engine::hash::BlobHash;

/// A strong entity tag: the first 128 bits of the digest of the bytes that are sent.
///
/// The same bytes have the same tag in every release and on every node. Text form: 32 hex digits in quotes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct ETag([u8; 34]);

impl ETag {
    /// The tag of a blob that is sent as it is.
    #[must_use]
    pub fn of(blob: &BlobHash) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'"'; 34];
        for (pair, byte) in text[1..33].chunks_exact_mut(2).zip(blob.as_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(text)
    }

    /// The value of the `ETag` field, quotes included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits and quotes are ASCII")
    }

    /// The digits between the quotes.
    #[must_use]
    pub fn opaque(&self) -> &str {
        &self.as_str()[1..33]
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag({})", self.as_str())
    }
}

/// What the file's validators are now.
#[derive(Clone, Copy, Debug)]
pub struct Validators {
    /// Its entity tag.
    pub etag: ETag,
    /// When it became what it is, in seconds since the epoch. Two states never share a second, but this may lie in the
    /// future, where states followed each other within one.
    pub last_modified: u64,
}

/// The conditional fields of a request, as they came.
///
/// List fields have one item per field line. A date that came several times counts as absent, as a malformed one does;
/// an `If-Range` that came several times must be given as one that matches nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Preconditions<'r> {
    /// The lines of `If-Match`.
    pub if_match: Vec<&'r [u8]>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<&'r [u8]>,
    /// The lines of `If-None-Match`.
    pub if_none_match: Vec<&'r [u8]>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'r [u8]>,
    /// `If-Range`.
    pub if_range: Option<&'r [u8]>,
}

/// No preconditions.
pub(crate) static NONE: Preconditions<'static> = Preconditions {
    if_match: Vec::new(),
    if_unmodified_since: None,
    if_none_match: Vec::new(),
    if_modified_since: None,
    if_range: None,
};

impl Preconditions<'_> {
    /// Whether there is none that [`evaluate`] looks at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { if_match, if_unmodified_since, if_none_match, if_modified_since, if_range: _ } = self;
        if_match.is_empty() && if_none_match.is_empty() && if_unmodified_since.is_none() && if_modified_since.is_none()
    }
}

/// What the preconditions of a GET or HEAD come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The request is answered as if it had none.
    Proceed,
    /// 304: the client has these bytes.
    NotModified,
    /// 412: the client wanted other bytes.
    PreconditionFailed,
}

/// Evaluates the preconditions of a GET or HEAD request for a file that exists.
#[must_use]
pub fn evaluate(asked: &Preconditions<'_>, now: &Validators) -> Verdict {
    if !asked.if_match.is_empty() {
        if !any_tag(&asked.if_match, |tag| !tag.weak && tag.opaque == now.etag.as_str().as_bytes()) {
            return Verdict::PreconditionFailed;
        }
    } else if let Some((date, modified)) = dates(asked.if_unmodified_since, now)
        && modified > date
    {
        return Verdict::PreconditionFailed;
    }
    if !asked.if_none_match.is_empty() {
        // Weak comparison (section 13.1.2).
        if any_tag(&asked.if_none_match, |tag| tag.opaque == now.etag.as_str().as_bytes()) {
            return Verdict::NotModified;
        }
    } else if let Some((date, modified)) = dates(asked.if_modified_since, now)
        && modified <= date
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a range may be sent as far as `If-Range` goes: strong comparison, or exactly the date (section 13.1.5).
#[must_use]
pub fn range_applies(asked: &Preconditions<'_>, now: &Validators) -> bool {
    let Some(value) = asked.if_range else { return true };
    if value == now.etag.as_str().as_bytes() {
        return true;
    }
    dates(Some(value), now).is_some_and(|(date, modified)| date == modified)
}

fn dates(field: Option<&[u8]>, now: &Validators) -> Option<(SystemTime, SystemTime)> {
    let date = httpdate::parse_http_date(std::str::from_utf8(field?).ok()?).ok()?;
    Some((date, UNIX_EPOCH + Duration::from_secs(now.last_modified)))
}

/// A tag of a list, its quotes included.
struct Tag<'r> {
    weak: bool,
    opaque: &'r [u8],
}

/// Whether `matches` holds for a tag in these lines, or one of them is `*`. What is no entity tag is passed over up to
/// the next comma; a comma inside quotes belongs to the tag (section 8.8.3).
fn any_tag(lines: &[&[u8]], matches: impl Fn(&Tag<'_>) -> bool) -> bool {
    lines.iter().any(|line| {
        let mut rest = line.trim_ascii();
        if rest == b"*" {
            return true;
        }
        while !rest.is_empty() {
            if let Some((tag, after)) = take_tag(rest) {
                if matches(&tag) {
                    return true;
                }
                rest = after;
            } else {
                let comma = rest.iter().position(|byte| *byte == b',');
                rest = comma.map_or(&[][..], |comma| &rest[comma..]);
            }
            rest = rest.trim_ascii_start();
            while let [b',', after @ ..] = rest {
                rest = after.trim_ascii_start();
            }
        }
        false
    })
}

/// Takes an entity tag that is followed by a comma or the end.
fn take_tag(text: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let inside = quoted.strip_prefix(b"\"")?;
    let end = inside.iter().position(|byte| *byte == b'"')? + 2;
    let (opaque, after) = quoted.split_at(end);
    let after_space = after.trim_ascii_start();
    (after_space.is_empty() || after_space.starts_with(b",")).then_some((Tag { weak, opaque }, after))
}

#[cfg(test)]
mod tests {
    use super::Verdict::{NotModified, PreconditionFailed, Proceed};
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn now() -> Validators {
        Validators { etag: ETag::of(&BlobHash::from_bytes([0x1f; 32])), last_modified: 784_111_777 }
    }

    /// Puts the file's tag where the table says `TAG`.
    fn with_tag(text: &str) -> String {
        text.replace("TAG", now().etag.as_str())
    }

    #[test]
    fn the_tag_is_half_the_digest_in_quotes() {
        let hash = BlobHash::of(b"");
        assert_eq!(ETag::of(&hash).as_str(), "\"af1349b9f5f9a1a6a0404dea36dcc949\"");
        assert!(hash.to_string().starts_with(ETag::of(&hash).as_str().trim_matches('"')));
    }

    #[test]
    fn if_none_match() {
        for (lines, want) in [
            (&["TAG"][..], NotModified),
            (&["W/TAG"], NotModified), // weak comparison, RFC 9110 section 13.1.2
            (&["\"beef\", TAG"], NotModified),
            (&["\"beef\",TAG ,"], NotModified),
            (&["\"a,b\" , W/TAG"], NotModified),
            (&["\"beef\"", "TAG"], NotModified),
            (&["beef, TAG"], NotModified),
            (&["*"], NotModified),
            (&[" * "], NotModified),
            (&["\"beef\""], Proceed),
            (&["1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f"], Proceed), // unquoted, so not an entity tag
            (&["w/TAG"], Proceed),                            // the mark of weakness has a case
            (&["TAGx"], Proceed),
            (&["\"beef, TAG"], NotModified), // what is no tag is passed over
            (&["\"*\""], Proceed),
            (&["\""], Proceed),
            (&[""], Proceed),
            (&[",,,"], Proceed),
        ] {
            let lines: Vec<String> = lines.iter().map(|line| with_tag(line)).collect();
            let if_none_match = lines.iter().map(|line| line.as_bytes()).collect();
            let asked = Preconditions { if_none_match, ..Preconditions::default() };
            assert_eq!(evaluate(&asked, &now()), want, "If-None-Match: {lines:?}");
        }
    }

    #[test]
    fn if_match() {
        for (line, want) in [
            ("TAG", Proceed),
            ("\"beef\", TAG", Proceed),
            ("*", Proceed),
            ("W/TAG", PreconditionFailed), // strong comparison, RFC 9110 section 13.1.1
            ("\"beef\"", PreconditionFailed),
            ("nonsense", PreconditionFailed),
            ("", PreconditionFailed),
        ] {
            let line = with_tag(line);
            let asked = Preconditions { if_match: vec![line.as_bytes()], ..Preconditions::default() };
            assert_eq!(evaluate(&asked, &now()), want, "If-Match: {line:?}");
        }
    }

    #[test]
    fn dates_in_every_form() {
        for (since, unmodified, modified) in [
            (BEFORE, PreconditionFailed, Proceed),
            (SAME, Proceed, NotModified),
            (AFTER, Proceed, NotModified),
            ("Sunday, 06-Nov-94 08:49:36 GMT", PreconditionFailed, Proceed),
            ("Sun Nov  6 08:49:37 1994", Proceed, NotModified),
            ("yesterday", Proceed, Proceed),
            ("", Proceed, Proceed),
        ] {
            let asked = Preconditions { if_unmodified_since: Some(since.as_bytes()), ..Preconditions::default() };
            assert_eq!(evaluate(&asked, &now()), unmodified, "If-Unmodified-Since: {since}");
            let asked = Preconditions { if_modified_since: Some(since.as_bytes()), ..Preconditions::default() };
            assert_eq!(evaluate(&asked, &now()), modified, "If-Modified-Since: {since}");
        }
    }

    #[test]
    fn the_order_of_the_rfc() {
        let tag = now().etag;
        let (same, other) = (tag.as_str().as_bytes(), &b"\"beef\""[..]);
        let (before, after) = (Some(BEFORE.as_bytes()), Some(AFTER.as_bytes()));
        let none = Preconditions::default;
        for (asked, want, why) in [
            (
                Preconditions { if_match: vec![same], if_unmodified_since: before, ..none() },
                Proceed,
                "a tag decides before If-Unmodified-Since",
            ),
            (
                Preconditions { if_none_match: vec![other], if_modified_since: after, ..none() },
                Proceed,
                "a tag decides before If-Modified-Since",
            ),
            (
                Preconditions { if_match: vec![other], if_none_match: vec![same], ..none() },
                PreconditionFailed,
                "412 comes before 304",
            ),
            (Preconditions { if_match: vec![same], if_none_match: vec![same], ..none() }, NotModified, "both hold"),
            (
                Preconditions { if_unmodified_since: before, if_none_match: vec![same], ..none() },
                PreconditionFailed,
                "412 by date comes before 304",
            ),
        ] {
            assert_eq!(evaluate(&asked, &now()), want, "{why}");
        }
    }

    #[test]
    fn if_range() {
        for (value, want) in [
            (None, true),
            (Some("TAG"), true),
            (Some("W/TAG"), false),
            (Some("\"beef\""), false),
            (Some("TAG, TAG"), false),
            (Some("*"), false),
            (Some(SAME), true),
            (Some(BEFORE), false),
            (Some(AFTER), false), // exactly, not at the latest
            (Some("soon"), false),
            (Some(""), false),
        ] {
            let value = value.map(with_tag);
            let asked = Preconditions { if_range: value.as_deref().map(str::as_bytes), ..Preconditions::default() };
            assert_eq!(range_applies(&asked, &now()), want, "If-Range: {value:?}");
        }
    }
}
