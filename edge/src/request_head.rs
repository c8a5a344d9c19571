//! The head of a request as it came, the same over either protocol: texts, and where in them each thing is.
//!
//! What a site answers depends on few of a request's fields, so none is made more of than its bytes; the control plane gets a
//! [`Request`] made of them. Each request of a thread takes the memory of the last one.

use std::cell::Cell;
use std::ops::Range;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, uri};

use crate::request::Protocol;
use crate::request_body::RequestBody;

thread_local! {
    /// The head that was last done with.
    static SPARE: Cell<Option<Box<RequestHead>>> = const { Cell::new(None) };
}

/// The most bytes of texts in one that is kept.
const LARGEST: usize = 4 << 10;

/// The most fields that there is room for in one that is kept.
const MOST: usize = 64;

/// Each byte, letters as small ones. `make_ascii_lowercase`, which is for longer texts, takes some hundred instructions more for the
/// names of five fields.
const SMALL: [u8; 256] = {
    let mut small = [0; 256];
    let mut byte = 0_u8;
    loop {
        small[byte as usize] = byte.to_ascii_lowercase();
        let Some(next) = byte.checked_add(1) else { break small };
        byte = next;
    }
};

/// The head of a request.
///
/// Whoever puts it together says what a request may have. Each part is what the type of `http` for it takes, so that
/// [`RequestHead::to_http`] finds nothing wrong with it.
#[derive(Debug)]
pub(crate) struct RequestHead {
    protocol: Protocol,
    scheme: Option<Scheme>,
    method: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    target: Option<Range<usize>>,
    /// Where those three are.
    line: String,
    fields: Vec<Line>,
    /// Where those are: over HTTP/1 the whole head as it came, but for the letters of names.
    text: Vec<u8>,
}

/// Where the name of a field is, and its value.
#[derive(Clone, Debug)]
struct Line {
    name: Range<usize>,
    value: Range<usize>,
}

impl RequestHead {
    /// A head of which nothing is known yet.
    pub(crate) fn new(protocol: Protocol) -> Box<Self> {
        match SPARE.try_with(Cell::take) {
            Ok(Some(mut spare)) => {
                spare.protocol = protocol;
                spare
            }
            _ => Box::new(Self::empty(protocol)),
        }
    }

    fn empty(protocol: Protocol) -> Self {
        Self {
            protocol,
            scheme: None,
            method: None,
            authority: None,
            target: None,
            line: String::new(),
            fields: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Gives it back, for the next request of this thread.
    pub(crate) fn give_back(mut self: Box<Self>) {
        if self.line.capacity() + self.text.capacity() > LARGEST || self.fields.capacity() > MOST {
            return;
        }
        (self.scheme, self.method, self.authority, self.target) = (None, None, None, None);
        self.line.clear();
        self.fields.clear();
        self.text.clear();
        // Nothing is kept by a thread that ends.
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }

    /// Gives up what it takes; there is nothing in it any more.
    pub(crate) fn forget(&mut self) {
        *self = Self::empty(self.protocol);
    }

    /// Sets the method; says whether there was one.
    pub(crate) fn set_method(&mut self, method: &str) -> bool {
        let place = self.put(method);
        self.method.replace(place).is_some()
    }

    /// Sets the scheme of the target; says whether there was one.
    pub(crate) fn set_scheme(&mut self, scheme: Scheme) -> bool {
        self.scheme.replace(scheme).is_some()
    }

    /// Sets the authority of the target; says whether there was one.
    pub(crate) fn set_authority(&mut self, authority: &str) -> bool {
        let place = self.put(authority);
        self.authority.replace(place).is_some()
    }

    /// Sets the path and the query of the target; says whether there were any.
    pub(crate) fn set_path_and_query(&mut self, path_and_query: &str) -> bool {
        let place = self.put(path_and_query);
        self.target.replace(place).is_some()
    }

    /// A scheme says nothing where there is no authority that it belongs to.
    pub(crate) fn forget_scheme(&mut self) {
        self.scheme = None;
    }

    /// Adds a field, in whatever case its name is; answers the name in small letters.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> &[u8] {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let colon = self.text.len();
        self.text.extend_from_slice(value);
        self.add_line(start..colon, colon..self.text.len())
    }

    /// Sets the text that lines are in which are [added](Self::add_line) next.
    pub(crate) fn set_text(&mut self, text: &[u8]) {
        debug_assert!(self.text.is_empty(), "lines would be in what comes before");
        self.text.extend_from_slice(text);
    }

    /// Adds the field whose name and value are there in the text; answers the name in small letters.
    pub(crate) fn add_line(&mut self, name: Range<usize>, value: Range<usize>) -> &[u8] {
        for byte in &mut self.text[name.clone()] {
            *byte = SMALL[usize::from(*byte)];
        }
        self.fields.push(Line { name: name.clone(), value });
        &self.text[name]
    }

    fn put(&mut self, part: &str) -> Range<usize> {
        let start = self.line.len();
        self.line.push_str(part);
        start..self.line.len()
    }

    fn part(&self, place: Option<&Range<usize>>) -> Option<&str> {
        place.map(|place| &self.line[place.clone()])
    }

    /// The version of HTTP that it came in.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The method, which has a case; nothing where it has none yet.
    pub(crate) fn method(&self) -> &str {
        self.part(self.method.as_ref()).unwrap_or_default()
    }

    /// The scheme of the target.
    pub(crate) fn scheme(&self) -> Option<&Scheme> {
        self.scheme.as_ref()
    }

    /// The authority of the target.
    pub(crate) fn authority(&self) -> Option<&str> {
        self.part(self.authority.as_ref())
    }

    /// The path and the query of the target.
    pub(crate) fn path_and_query(&self) -> Option<&str> {
        self.part(self.target.as_ref())
    }

    /// The path of the target, empty where it has none, and its query.
    pub(crate) fn path_then_query(&self) -> (&str, Option<&str>) {
        let target = self.path_and_query().unwrap_or_default();
        match memchr::memchr(b'?', target.as_bytes()) {
            Some(end) => (&target[..end], Some(&target[end + 1..])),
            None => (target, None),
        }
    }

    /// How many fields there are.
    pub(crate) fn count(&self) -> usize {
        self.fields.len()
    }

    /// The fields in their order, their names in small letters.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|line| (&self.text[line.name.clone()], &self.text[line.value.clone()]))
    }

    /// The values of a field, whose name is in small letters.
    pub(crate) fn all<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r [u8]> {
        self.fields().filter(move |(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }

    /// The first of them.
    pub(crate) fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }

    /// The request with this body, for who knows it by the types of `http`; nothing where they do not take it.
    pub(crate) fn to_http(&self, body: RequestBody) -> Option<Request<RequestBody>> {
        let mut parts = uri::Parts::default();
        parts.scheme.clone_from(&self.scheme);
        parts.authority = self.authority().map(Authority::try_from).transpose().ok()?;
        parts.path_and_query = self.path_and_query().map(PathAndQuery::try_from).transpose().ok()?;
        let mut fields = HeaderMap::with_capacity(self.count());
        for (name, value) in self.fields() {
            fields.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(self.method().as_bytes()).ok()?;
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        *request.version_mut() = match self.protocol {
            Protocol::Http10 => Version::HTTP_10,
            Protocol::Http11 => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
        };
        *request.headers_mut() = fields;
        Some(request)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A head that has these fields.
    pub(crate) fn head(fields: &[(&str, &str)]) -> Box<RequestHead> {
        let mut head = RequestHead::new(Protocol::Http11);
        for (name, value) in fields {
            head.add(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn a_head_is_what_was_put_into_it() {
        let mut head = head(&[("Accept", "a"), ("x-b", ""), ("ACCEPT", "b")]);
        assert_eq!((head.method(), head.path_then_query(), head.path_and_query()), ("", ("", None), None));
        assert!(!head.set_method("GET") && !head.set_path_and_query("/a?b?c"));
        assert!(!head.set_authority("a.test") && !head.set_scheme(Scheme::HTTPS));
        assert_eq!((head.method(), head.path_then_query()), ("GET", ("/a", Some("b?c"))));
        assert_eq!((head.authority(), head.count()), (Some("a.test"), 3));
        assert_eq!(head.all("accept").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!((head.first("accept"), head.first("x-b"), head.first("x")), (Some(&b"a"[..]), Some(&b""[..]), None));
        assert!(head.set_method("HEAD") && head.set_path_and_query("/") && head.set_authority("b"));
        assert_eq!((head.method(), head.path_then_query(), head.authority()), ("HEAD", ("/", None), Some("b")));
    }

    #[test]
    fn the_types_of_http_have_all_of_it() {
        let mut head = head(&[("Accept", "a"), ("x-b", "c"), ("accept", "b")]);
        head.set_method("PROPFIND");
        head.set_path_and_query("/a?b");
        let request = head.to_http(RequestBody::empty()).unwrap();
        assert_eq!((request.method().as_str(), request.version()), ("PROPFIND", Version::HTTP_11));
        assert_eq!((request.uri().to_string(), request.headers().len()), ("/a?b".to_owned(), 3));
        assert_eq!(request.headers().get_all("accept").iter().collect::<Vec<_>>(), ["a", "b"]);
        head.set_authority("a.test:80");
        head.set_scheme(Scheme::HTTP);
        let request = head.to_http(RequestBody::empty()).unwrap();
        assert_eq!(request.uri().to_string(), "http://a.test:80/a?b");
        head.add(b"a b", b"c");
        assert!(head.to_http(RequestBody::empty()).is_none());
    }

    #[test]
    fn its_memory_is_used_again_and_has_a_bound() {
        let mut first = head(&[("host", "a")]);
        first.set_method("GET");
        first.set_authority("a");
        first.set_path_and_query("/");
        first.set_scheme(Scheme::HTTP);
        let place = &raw const *first;
        first.give_back();
        let again = RequestHead::new(Protocol::Http2);
        assert_eq!((&raw const *again, again.protocol(), again.count()), (place, Protocol::Http2, 0));
        assert_eq!((again.method(), again.authority(), again.path_and_query()), ("", None, None));
        assert!(again.scheme().is_none() && again.fields.capacity() > 0);
        again.give_back();
        let mut forgotten = head(&[("a", "b")]);
        forgotten.set_method("GET");
        forgotten.forget();
        assert_eq!((forgotten.method(), forgotten.first("a"), forgotten.text.capacity()), ("", None, 0));
        forgotten.give_back();
        let mut large = RequestHead::new(Protocol::Http2);
        large.add(b"x", &[b'x'; LARGEST]);
        large.give_back();
        assert_eq!(RequestHead::new(Protocol::Http2).text.capacity(), 0, "it is not kept for ever");
    }
}
