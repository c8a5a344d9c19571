//! The value of `Location` for a path of the site.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Prefix;

/// All that a segment may not carry as it is (RFC 3986 section 3.3, `pchar`), but for the slash between segments.
pub(super) const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// What a query may not carry as it is; its escapes are left alone.
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A path-absolute reference (RFC 3986 section 4.2) to `path` under `prefix`; `path` has no leading slash and no empty
/// segment.
pub(super) fn location(prefix: Option<Prefix<'_>>, path: &str, query: Option<&str>) -> String {
    debug_assert!(!path.starts_with('/'), "a location never starts with two slashes");
    let prefix = prefix.map(|prefix| prefix.as_str());
    let length = prefix.map_or(0, |prefix| prefix.len() + 1) + path.len() + query.map_or(0, |query| query.len() + 1);
    let mut location = String::with_capacity(length + 1);
    location.push('/');
    if let Some(prefix) = prefix {
        location.extend(utf8_percent_encode(prefix, PATH));
        location.push('/');
    }
    location.extend(utf8_percent_encode(path, PATH));
    if let Some(query) = query {
        location.push('?');
        location.extend(utf8_percent_encode(query, QUERY));
    }
    location
}
