//! Decoding the path of a request, once, and refusing what no site contains.

use std::borrow::Cow;

/// Why a path is refused with 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// A `%` without two hex digits.
    #[error("the path has a `%` that is not followed by two hex digits")]
    Escape,
    /// A NUL, which no file name has.
    #[error("the path has a NUL")]
    Nul,
    /// The decoded bytes are no UTF-8.
    #[error("the decoded path is not UTF-8")]
    NotUtf8,
    /// A segment is `.` or `..`.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// A backslash, which some clients take for a slash.
    #[error("the path has a backslash")]
    Backslash,
    /// `%2F`: a slash inside a segment.
    #[error("the path has an encoded slash")]
    EncodedSlash,
}

/// Decodes the path of a request once and refuses what no site contains. The result has no leading slash.
///
/// # Errors
///
/// Says what is refused.
pub fn decode(raw_path: &str) -> Result<Cow<'_, str>, PathError> {
    let raw = raw_path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
    let path = if raw.contains('%') { Cow::Owned(unescape(raw)?) } else { Cow::Borrowed(raw) };
    for byte in path.bytes() {
        match byte {
            0 => return Err(PathError::Nul),
            b'\\' => return Err(PathError::Backslash),
            _ => {}
        }
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(PathError::DotSegment);
    }
    Ok(path)
}

fn unescape(raw: &str) -> Result<String, PathError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(PathError::Escape) };
        match u8::try_from(high * 16 + low).expect("two hex digits fit a byte") {
            b'/' => return Err(PathError::EncodedSlash),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| PathError::NotUtf8)
}

/// The path without its empty segments, where it has any. A trailing slash is none.
pub(super) fn collapse(path: &str) -> Option<String> {
    if !path.starts_with('/') && !path.contains("//") {
        return None;
    }
    let mut collapsed = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        if !collapsed.is_empty() {
            collapsed.push('/');
        }
        collapsed.push_str(segment);
    }
    if path.ends_with('/') && !collapsed.is_empty() {
        collapsed.push('/');
    }
    Some(collapsed)
}

/// Whether a path, whose escapes are well-formed, escapes a character that never needs it (RFC 3986 section 2.3).
///
/// Other escapes are left alone: which characters a client escapes beside these differs from client to client, and one
/// that is sent to the path without an escape may escape it again.
pub(super) fn has_needless_escape(raw_path: &str) -> bool {
    raw_path.split('%').skip(1).any(|escape| {
        let byte = escape.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        for (path, want) in [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("/%", PathError::Escape),
            ("/%4", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%+1", PathError::Escape),
            ("/a%00b", PathError::Nul),
            ("/%ff", PathError::NotUtf8),
            ("/%c3", PathError::NotUtf8),
            ("/%c0%ae", PathError::NotUtf8), // an overlong `.`
            ("/.", PathError::DotSegment),
            ("/..", PathError::DotSegment),
            ("/a/../b", PathError::DotSegment),
            ("/%2e%2E/x", PathError::DotSegment),
            ("/a/%2e", PathError::DotSegment),
            ("/a\\b", PathError::Backslash),
            ("/a%5Cb", PathError::Backslash),
            ("/a%2fb", PathError::EncodedSlash),
            ("/a%2Fb", PathError::EncodedSlash),
        ] {
            assert_eq!(decode(path), Err(want), "{path:?}");
        }
        for (path, want) in [
            ("/", ""),
            ("/a/b", "a/b"),
            ("/...", "..."),
            ("/a%2520", "a%20"), // decoded once
            ("/%E2%82%AC", "€"),
            ("/%0d%0a", "\r\n"),
            ("/a+b", "a+b"),
        ] {
            assert_eq!(decode(path).as_deref(), Ok(want), "{path:?}");
        }
    }

    #[test]
    fn empty_segments_collapse() {
        for (path, want) in [
            ("", None),
            ("a", None),
            ("a/", None),
            ("a/b/", None),
            ("/", Some("")),
            ("//", Some("")),
            ("/a", Some("a")),
            ("/a/", Some("a/")),
            ("a//", Some("a/")),
            ("a///b//c", Some("a/b/c")),
        ] {
            assert_eq!(collapse(path).as_deref(), want, "{path:?}");
        }
    }

    #[test]
    fn needless_escapes() {
        for (path, want) in [
            ("/file", false),
            ("/a%20b", false),
            ("/%C3%A9", false),
            ("/%5Bid%5D", false),
            ("/a%25b%2520", false),
            ("/fi%6ce", true),
            ("/fi%6Ce", true),
            ("/%7Euser/a%20b", true),
            ("/a%20b%2ehtml", true),
            ("/%41%20", true),
        ] {
            assert_eq!(has_needless_escape(path), want, "{path}");
        }
    }
}
