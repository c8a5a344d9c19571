//! From decoded fields to a request, and what makes one malformed (RFC 9113 section 8).

use http::header::{self, HeaderName, HeaderValue};

use super::hpack::Field;
use super::{LARGEST_LIST, is_of_the_connection};
use crate::request::Protocol;
use crate::request_body::content_length;
use crate::request_head::RequestHead;

/// The fields of a request, as they come.
#[derive(Debug)]
pub(crate) struct Gathered {
    request: Box<RequestHead>,
    /// All cookies, which may come in pieces (RFC 9113 section 8.2.3).
    cookies: Vec<u8>,
    /// A pseudo-header field came.
    has_pseudo: bool,
    /// A field came that is none.
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

impl Gathered {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            request: RequestHead::new(Protocol::Http2),
            cookies: Vec::new(),
            has_pseudo: false,
            has_fields: false,
            content_length: None,
            size: 0,
            is_malformed: false,
        }
    }

    /// Takes the next field, which counts for `size` bytes.
    pub(crate) fn add(&mut self, field: &Field, size: usize) {
        self.size += size;
        if self.size > LARGEST_LIST as usize {
            // It is refused, so nothing of it is kept any more.
            return;
        }
        self.is_malformed |= match field {
            Field::Header(name, value) => !self.add_header(name, value),
            Field::Malformed => true,
            pseudo => self.has_fields || !self.set_pseudo(pseudo),
        };
    }

    /// Takes a pseudo-header field; says whether it is the first of its name. They come before all others (RFC 9113 section 8.3).
    fn set_pseudo(&mut self, field: &Field) -> bool {
        self.has_pseudo = true;
        let is_second = match field {
            Field::Method(method) => self.request.set_method(method.as_str()),
            Field::Scheme(scheme) => self.request.set_scheme(scheme.clone()),
            Field::Authority(authority) => self.request.set_authority(authority.as_str()),
            Field::Path(path) => self.request.set_path_and_query(path.as_str()),
            Field::Header(..) | Field::Malformed => false,
        };
        !is_second
    }

    /// Takes a header field; says whether a request may have it.
    fn add_header(&mut self, name: &HeaderName, value: &HeaderValue) -> bool {
        self.has_fields = true;
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
            self.request.add(name.as_str().as_bytes(), value.as_bytes());
        }
        is_fit
    }

    /// Whether these may come behind a body (RFC 9113 section 8.1): none of them is about the request as a whole.
    pub(crate) fn may_trail(&self) -> bool {
        !self.is_malformed && !self.has_pseudo && self.size <= LARGEST_LIST as usize
    }

    /// The request, whose body is the client's to send unless it `ends` here, and how many bytes that has where it is known.
    ///
    /// # Errors
    ///
    /// Where it is none, or too large.
    pub(crate) fn into_request(mut self, ends: bool) -> Result<(Box<RequestHead>, Option<u64>), Unfit> {
        if self.size > LARGEST_LIST as usize {
            return Err(Unfit::TooLarge);
        }
        let lacks_body = ends && self.content_length.is_some_and(|length| length > 0);
        if self.is_malformed || lacks_body || !self.is_whole() {
            return Err(Unfit::Malformed);
        }
        if self.request.authority().is_none() {
            // There is a field that says the host, or none does.
            self.request.forget_scheme();
        }
        if !self.cookies.is_empty() {
            // Whoever reads them expects one field.
            self.request.add(header::COOKIE.as_str().as_bytes(), &self.cookies);
        }
        Ok((self.request, self.content_length))
    }

    /// Whether it has what a request has.
    fn is_whole(&self) -> bool {
        let request = &self.request;
        let (has_scheme, has_path) = (request.scheme().is_some(), request.path_and_query().is_some());
        match request.method() {
            "" => false,
            // It has an authority and nothing else (RFC 9113 section 8.5).
            "CONNECT" => request.authority().is_some() && !has_scheme && !has_path,
            _ => has_scheme && has_path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hpack::decoder::Entry;
    use super::*;
    use crate::request_body::RequestBody;
    use http::uri::Scheme;

    fn head(fields: &[(&'static str, &'static str)]) -> Gathered {
        let mut head = Gathered::new();
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
        assert_eq!((request.method(), request.protocol(), length), ("GET", Protocol::Http2, None));
        assert_eq!((request.scheme(), request.authority()), (Some(&Scheme::HTTPS), Some("a.test")));
        assert_eq!(request.path_then_query(), ("/a", Some("b")));
        assert_eq!((request.first("cookie"), request.count()), (Some(&b"a=1; b=2"[..]), 3));
        let (request, _) = head(&[GET[0], GET[1], GET[2], ("host", "b.test")]).into_request(true).unwrap();
        assert_eq!((request.path_and_query(), request.authority(), request.scheme()), (Some("/a?b"), None, None));
        let (request, length) = head(&[&GET[..], &[("content-length", "7")]].concat()).into_request(false).unwrap();
        assert_eq!((request.first("content-length"), length), (Some(&b"7"[..]), Some(7)));
        let (request, _) = head(&[(":method", "OPTIONS"), GET[1], (":path", "*"), GET[3]]).into_request(true).unwrap();
        assert_eq!(request.path_then_query(), ("*", None));
        let (request, _) = head(&[(":method", "CONNECT"), (":authority", "a.test:443")]).into_request(false).unwrap();
        assert_eq!((request.authority(), request.path_and_query()), (Some("a.test:443"), None));
        for fields in [&GET[..], &[(":method", "CONNECT"), (":authority", "a.test:443")]] {
            let (request, _) = head(fields).into_request(true).unwrap();
            assert!(request.to_http(RequestBody::empty()).is_some(), "{fields:?}");
        }
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
