//! From decoded fields to a request, and what makes one malformed (RFC 9113 section 8).

use std::mem;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version, uri};

use super::hpack::Field;
use super::{LARGEST_LIST, is_of_the_connection};
use crate::field_maps;
use crate::request_body::{RequestBody, content_length};

/// Fields that there is room for before more memory is taken: what browsers send.
const USUAL: usize = 12;

/// The fields of a request, as they come.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    fields: HeaderMap,
    /// All cookies, which may come in pieces (RFC 9113 section 8.2.3).
    cookies: Vec<u8>,
    /// A field came that is none of the above.
    has_fields: bool,
    content_length: Option<u64>,
    size: usize,
    is_malformed: bool,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unfit {
    /// It is none.
    Malformed,
    /// It has more fields than there is room for.
    TooLarge,
}

/// Puts a value where there is none; whether there was.
fn is_second<T>(place: &mut Option<T>, value: &T) -> bool
where
    T: Clone,
{
    place.replace(value.clone()).is_some()
}

impl RequestHead {
    /// Takes the next field, which counts for `size` bytes.
    pub(crate) fn add(&mut self, field: &Field, size: usize) {
        self.size += size;
        if self.size > LARGEST_LIST as usize {
            // It is refused, so nothing of it is kept any more.
            return;
        }
        self.is_malformed |= match field {
            // Pseudo-header fields come first, each once (RFC 9113 section 8.3).
            Field::Method(_) | Field::Scheme(_) | Field::Authority(_) | Field::Path(_) if self.has_fields => true,
            Field::Method(method) => is_second(&mut self.method, method),
            Field::Scheme(scheme) => is_second(&mut self.scheme, scheme),
            Field::Authority(authority) => is_second(&mut self.authority, authority),
            Field::Path(path) => is_second(&mut self.path, path),
            Field::Header(name, value) => !self.add_header(name, value),
            Field::Malformed => true,
        };
    }

    /// Takes a header field; says whether a request may have it.
    fn add_header(&mut self, name: &HeaderName, value: &HeaderValue) -> bool {
        if !mem::replace(&mut self.has_fields, true) {
            self.fields = field_maps::take();
            self.fields.reserve(USUAL);
        }
        let is_fit = if *name == header::CONTENT_LENGTH {
            let length = content_length(value.as_bytes());
            let is_same = self.content_length.is_none_or(|known| length == Some(known));
            self.content_length = length;
            length.is_some() && is_same
        } else {
            !is_of_the_connection(name) && (*name != header::TE || value == "trailers")
        };
        if *name == header::COOKIE {
            if !self.cookies.is_empty() {
                self.cookies.extend_from_slice(b"; ");
            }
            self.cookies.extend_from_slice(value.as_bytes());
        } else {
            self.fields.append(name, value.clone());
        }
        is_fit
    }

    /// Whether these may come behind a body (RFC 9113 section 8.1): none of them is about the request as a whole.
    pub(crate) fn may_trail(&self) -> bool {
        let is_of_a_head =
            self.method.is_some() || self.scheme.is_some() || self.authority.is_some() || self.path.is_some();
        !self.is_malformed && !is_of_a_head && self.size <= LARGEST_LIST as usize
    }

    /// The request, whose body is the client's to send unless it `ends` here, and how many bytes that has where it is known.
    ///
    /// # Errors
    ///
    /// Where it is none, or too large.
    pub(crate) fn into_request(self, ends: bool) -> Result<(Request<RequestBody>, Option<u64>), Unfit> {
        if self.size > LARGEST_LIST as usize {
            return Err(Unfit::TooLarge);
        }
        let lacks_body = ends && self.content_length.is_some_and(|length| length > 0);
        let Some(method) = self.method.filter(|_| !self.is_malformed && !lacks_body) else {
            return Err(Unfit::Malformed);
        };
        let mut parts = uri::Parts::default();
        if method == Method::CONNECT {
            // It has an authority and nothing else (RFC 9113 section 8.5).
            if self.authority.is_none() || self.path.is_some() || self.scheme.is_some() {
                return Err(Unfit::Malformed);
            }
            parts.authority = self.authority;
        } else {
            let (Some(scheme), Some(path)) = (self.scheme, self.path) else { return Err(Unfit::Malformed) };
            // Without an authority there is a field that says the host, or none does.
            parts.scheme = self.authority.is_some().then_some(scheme);
            parts.authority = self.authority;
            parts.path_and_query = Some(path);
        }
        let uri = Uri::from_parts(parts).map_err(|_| Unfit::Malformed)?;
        let mut fields = self.fields;
        if !self.cookies.is_empty() {
            // Whoever reads them expects one field.
            let cookies = HeaderValue::from_maybe_shared(Bytes::from(self.cookies));
            fields.insert(header::COOKIE, cookies.map_err(|_| Unfit::Malformed)?);
        }
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = fields;
        Ok((request, self.content_length))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hpack::decoder::Entry;
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> RequestHead {
        let mut head = RequestHead::default();
        for (name, value) in fields {
            let entry = Entry::new(name.as_bytes(), value.as_bytes().into());
            head.add(entry.field(), name.len() + value.len() + 32);
        }
        head
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), (":authority", "a.test")];

    #[test]
    fn a_request_has_what_its_fields_say() {
        let fields =
            [&GET[..], &[("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"), ("te", "trailers")]].concat();
        let (request, length) = head(&fields).into_request(true).unwrap();
        assert_eq!((request.method(), request.version(), length), (&Method::GET, Version::HTTP_2, None));
        assert_eq!(*request.uri(), "https://a.test/a?b");
        assert_eq!((&request.headers()["cookie"], request.headers().len()), (&"a=1; b=2".parse().unwrap(), 3));
        let (request, _) = head(&[GET[0], GET[1], GET[2], ("host", "b.test")]).into_request(true).unwrap();
        assert_eq!((request.uri().to_string(), request.uri().authority()), ("/a?b".to_owned(), None));
        let (request, length) = head(&[&GET[..], &[("content-length", "7")]].concat()).into_request(false).unwrap();
        assert_eq!((&request.headers()["content-length"], length), (&"7".parse().unwrap(), Some(7)));
        let (request, _) = head(&[(":method", "OPTIONS"), GET[1], (":path", "*"), GET[3]]).into_request(true).unwrap();
        assert_eq!(request.uri().path(), "*");
        let (request, _) = head(&[(":method", "CONNECT"), (":authority", "a.test:443")]).into_request(false).unwrap();
        assert_eq!(*request.uri(), "a.test:443");
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        let with = |field| [&GET[..], &[field]].concat();
        let without = |left: usize| {
            let mut fields = GET.to_vec();
            fields.remove(left);
            fields
        };
        for (fields, why) in [
            (without(0), "no method"),
            (without(1), "no scheme"),
            (without(2), "no path"),
            (with(GET[2]), "a second path"),
            (with((":status", "200")), "an answer's"),
            (with((":protocol", "websocket")), "nobody offered it"),
            (vec![GET[0], GET[1], ("accept", "*/*"), GET[2], GET[3]], "a pseudo-header field behind others"),
            (with(("connection", "close")), "of HTTP/1"),
            (with(("keep-alive", "1")), "of HTTP/1"),
            (with(("proxy-connection", "1")), "of HTTP/1"),
            (with(("upgrade", "x")), "of HTTP/1"),
            (with(("te", "gzip")), "of HTTP/1"),
            (with(("Accept", "*/*")), "capitals"),
            (with(("content-length", "1")), "nothing of it came"),
            (with(("content-length", "+0")), "no number"),
            (
                [&GET[..], &[("content-length", "0"), ("content-length", "00"), ("content-length", "1")]].concat(),
                "which?",
            ),
            (vec![(":method", "CONNECT"), GET[2], GET[3]], "a path of CONNECT"),
            (vec![(":method", "CONNECT")], "CONNECT to nowhere"),
        ] {
            assert_eq!(head(&fields).into_request(true).unwrap_err(), Unfit::Malformed, "{why}: {fields:?}");
        }
    }

    #[test]
    fn a_list_has_a_bound_and_a_request_may_end_with_fields() {
        let field = ("x-long", &*"x".repeat(1000).leak());
        let all = |count: usize| [&GET[..], &vec![field; count]].concat();
        assert!(head(&all(15)).into_request(true).is_ok());
        let too_large = head(&all(16));
        assert!(!too_large.may_trail());
        assert_eq!(too_large.into_request(true).unwrap_err(), Unfit::TooLarge);
        assert!(head(&[field, field]).may_trail() && !head(&GET[..1]).may_trail());
        assert!(!head(&[("Capital", "x")]).may_trail());
    }
}
