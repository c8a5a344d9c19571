//! A field of a request, as it was parsed when it came first.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method};

/// The name of a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Name {
    Authority,
    Method,
    Path,
    Scheme,
    Header(HeaderName),
    /// None that a request may have.
    Malformed,
}

/// A field, parsed; so one that comes again costs no more than its number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Field {
    Authority(Authority),
    Method(Method),
    Path(PathAndQuery),
    Scheme(Scheme),
    Header(HeaderName, HeaderValue),
    /// One that makes its request malformed (RFC 9113 section 8.1.1). It may be in a table all the same.
    Malformed,
}

impl Name {
    pub(crate) fn parse(name: &[u8]) -> Self {
        match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":scheme" => Self::Scheme,
            // Takes no capitals, and neither colons nor spaces (RFC 9113 section 8.2.1).
            name => HeaderName::from_lowercase(name).map_or(Self::Malformed, Self::Header),
        }
    }

    /// The field of this name with a value.
    pub(crate) fn with(&self, value: Bytes) -> Field {
        let field = match self {
            Self::Authority => Authority::from_maybe_shared(value).ok().map(Field::Authority),
            Self::Method => Method::from_bytes(&value).ok().map(Field::Method),
            Self::Path => path(value).map(Field::Path),
            Self::Scheme => Scheme::try_from(&*value).ok().map(Field::Scheme),
            Self::Header(name) => header(value).map(|value| Field::Header(name.clone(), value)),
            Self::Malformed => None,
        };
        field.unwrap_or(Field::Malformed)
    }
}

/// The path of a request: from its root, or the server as a whole (RFC 9113 section 8.3.1).
fn path(value: Bytes) -> Option<PathAndQuery> {
    if value.first() == Some(&b'/') || *value == *b"*" { PathAndQuery::from_maybe_shared(value).ok() } else { None }
}

/// The value of a field, which neither begins nor ends with white space (RFC 9113 section 8.2.1).
fn header(value: Bytes) -> Option<HeaderValue> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(value.first()) || is_space(value.last()) { None } else { HeaderValue::from_maybe_shared(value).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_request_may_have_is_told() {
        let parse = |name: &'static str, value: &'static str| {
            Name::parse(name.as_bytes()).with(Bytes::from_static(value.as_bytes()))
        };
        let header =
            |name: &'static str, value| Field::Header(HeaderName::from_static(name), HeaderValue::from_static(value));
        for (name, value, want) in [
            (":method", "GET", Field::Method(Method::GET)),
            (":path", "/a?b", Field::Path(PathAndQuery::from_static("/a?b"))),
            (":path", "*", Field::Path(PathAndQuery::from_static("*"))),
            (":scheme", "https", Field::Scheme(Scheme::HTTPS)),
            (":authority", "a.test:80", Field::Authority(Authority::from_static("a.test:80"))),
            ("accept", "*/*", header("accept", "*/*")),
            ("x-empty", "", header("x-empty", "")),
            (":method", "G T", Field::Malformed),
            (":path", "", Field::Malformed),
            (":path", "a", Field::Malformed),
            (":path", "/ ", Field::Malformed),
            (":authority", "a b", Field::Malformed),
            (":status", "200", Field::Malformed),
            (":protocol", "websocket", Field::Malformed),
            ("Accept", "*/*", Field::Malformed),
            ("", "x", Field::Malformed),
            ("a b", "x", Field::Malformed),
            ("x", " x", Field::Malformed),
            ("x", "x\t", Field::Malformed),
            ("x", "a\nb", Field::Malformed),
        ] {
            assert_eq!(parse(name, value), want, "{name}: {value:?}");
        }
    }
}
