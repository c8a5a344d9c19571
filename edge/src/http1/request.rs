//! From the bytes of a head to a request, and what frames its body (RFC 9112 sections 3 to 6).
//!
//! `httparse` says what is a line, a name and a value. What may not be taken in two ways is refused here: a length that is
//! none, or that differs from another, and a transfer coding beside a length.

use std::mem::MaybeUninit;
use std::ops::Range;

use http::Uri;
use http::uri::PathAndQuery;
use httparse::Status;

use crate::pages::Page;
use crate::request::Protocol;
use crate::request_body::content_length;
use crate::request_head::RequestHead;

/// Fields for which there is room without asking for memory.
const USUAL_FIELDS: usize = 100;

/// What frames the body of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// A request whose head came whole.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Box<RequestHead>,
    pub(super) framing: Framing,
    /// Whether the client means to ask for more on this connection.
    pub(super) persists: bool,
    /// Whether it sends the body only when it is told to.
    pub(super) expects_continue: bool,
}

/// Why something is no request. Each is answered with its page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// It breaks a rule.
    Malformed,
    /// Its head has more bytes or fields than there is room for.
    TooLarge,
    /// The same of its target.
    TargetTooLong,
}

impl Refusal {
    pub(super) fn page(self) -> Page {
        match self {
            Self::Malformed => Page::BadRequest,
            Self::TooLarge => Page::TooManyFields,
            Self::TargetTooLong => Page::TargetTooLong,
        }
    }
}

/// What of a head decides how the connection goes on.
#[derive(Debug, Default)]
struct Facts {
    length: Option<u64>,
    codings: usize,
    is_chunked: bool,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
}

/// Reads the head that `input` begins with, of at most so many fields; answers how many bytes it has. Nothing where it is not
/// there whole.
///
/// # Errors
///
/// Where it can be no request, whatever else comes.
pub(super) fn parse(input: &[u8], most_fields: usize) -> Result<Option<(Head, usize)>, Refusal> {
    let mut usual = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; USUAL_FIELDS];
    let mut more = Vec::new();
    let room = if most_fields <= USUAL_FIELDS {
        &mut usual[..most_fields]
    } else {
        more.resize_with(most_fields, MaybeUninit::uninit);
        &mut more[..]
    };
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(input, room) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        Err(_) => return Err(Refusal::Malformed),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::Malformed);
    };
    let protocol = if version == 0 { Protocol::Http10 } else { Protocol::Http11 };
    let (mut request, mut facts) = (RequestHead::new(protocol), Facts::default());
    request.set_method(method);
    put_target(&mut request, target)?;
    // Copied as a whole: one after the other would take as much again as all of this.
    request.set_text(&input[..length]);
    for field in parsed.headers {
        let name = request.add_line(place(input, field.name.as_bytes()), place(input, field.value));
        facts.note(name, field.value)?;
    }
    let framing = facts.framing(protocol)?;
    let is_1_1 = protocol == Protocol::Http11;
    let head = Head {
        request,
        framing,
        persists: !facts.says_close && (is_1_1 || facts.says_keep_alive),
        expects_continue: facts.expects_continue && is_1_1,
    };
    Ok(Some((head, length)))
}

/// Where `part` is in `whole`, of which it is a slice.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// The most bytes of a target, as many as the type for them takes.
const LARGEST_TARGET: usize = u16::MAX as usize - 1;

/// Sets what is asked for (RFC 9112 section 3.2).
fn put_target(request: &mut RequestHead, target: &str) -> Result<(), Refusal> {
    if target.len() > LARGEST_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    if target.starts_with('/') {
        request.set_path_and_query(path_and_query(target).ok_or(Refusal::Malformed)?);
        return Ok(());
    }
    // An address, an authority, or the server as a whole: all of them are rare.
    let uri = Uri::try_from(target).map_err(|_| Refusal::Malformed)?;
    match uri.path_and_query().map(PathAndQuery::as_str) {
        Some(query) if query.starts_with('?') => _ = request.set_path_and_query(&format!("/{query}")),
        Some(path_and_query) => _ = request.set_path_and_query(path_and_query),
        None => {}
    }
    if let Some(authority) = uri.authority() {
        request.set_authority(authority.as_str());
    }
    if let Some(scheme) = uri.scheme() {
        request.set_scheme(scheme.clone());
    }
    Ok(())
}

/// What a byte of a target is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// One that may be anywhere.
    Any,
    /// One that may be in a path alone.
    OfPath,
    /// One that may be in a query alone.
    OfQuery,
    /// What begins a query, and may be in one.
    Query,
    /// What begins a fragment.
    Fragment,
    /// One that no target has.
    Never,
}

/// What each byte is: as `http` has it, which knows what browsers send beyond RFC 3986.
const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Any; 256];
    let mut byte = 0_u8;
    // All beyond ASCII may be anywhere.
    while byte < 0x80 {
        kinds[byte as usize] = match byte {
            b'?' => Kind::Query,
            b'#' => Kind::Fragment,
            b'!' | b'$'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'~' => Kind::Any,
            b'"' => Kind::OfPath,
            b'`' => Kind::OfQuery,
            _ => Kind::Never,
        };
        byte += 1;
    }
    kinds
};

/// A path with perhaps a query, without the fragment that may be behind it, which is nobody's but the client's. Nothing where it
/// has bytes that neither may have.
fn path_and_query(target: &str) -> Option<&str> {
    let (mut is_query, mut at) = (false, 0);
    // Each byte of each request is looked at here, so there is one look-up for most.
    while let Some(next) = target.as_bytes()[at..].iter().position(|byte| KINDS[usize::from(*byte)] != Kind::Any) {
        at += next;
        match KINDS[usize::from(target.as_bytes()[at])] {
            Kind::Query => is_query = true,
            Kind::Fragment => return Some(&target[..at]),
            Kind::OfPath if !is_query => {}
            Kind::OfQuery if is_query => {}
            Kind::Any => {}
            Kind::OfPath | Kind::OfQuery | Kind::Never => return None,
        }
        at += 1;
    }
    Some(target)
}

impl Facts {
    /// Notes what a field says, whose name is in small letters.
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match name {
            b"content-length" => {
                let length = content_length(value).ok_or(Refusal::Malformed)?;
                if self.length.is_some_and(|known| known != length) {
                    return Err(Refusal::Malformed);
                }
                self.length = Some(length);
            }
            b"transfer-encoding" => {
                self.codings += 1;
                self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            b"connection" => {
                for option in value.split(|byte| *byte == b',') {
                    let option = option.trim_ascii();
                    self.says_close |= option.eq_ignore_ascii_case(b"close");
                    self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            b"expect" => self.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        Ok(())
    }

    /// What frames the body. A coding beside a length, or of a version that has none, may be meant to be read in another way by
    /// somebody else (RFC 9112 section 6.1); one that is not `chunked` alone is not known here.
    fn framing(&self, protocol: Protocol) -> Result<Framing, Refusal> {
        match (self.codings, self.length) {
            (0, None | Some(0)) => Ok(Framing::Nothing),
            (0, Some(length)) => Ok(Framing::Length(length)),
            (1, None) if self.is_chunked && protocol == Protocol::Http11 => Ok(Framing::Chunked),
            _ => Err(Refusal::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::Scheme;

    fn head(fields: &str) -> Result<Head, Refusal> {
        head_of("1.1", fields)
    }

    fn head_of(version: &str, fields: &str) -> Result<Head, Refusal> {
        let text = format!("POST /a?b HTTP/{version}\r\nHost: a.test\r\n{fields}\r\n");
        let (head, length) = parse(text.as_bytes(), 10)?.unwrap();
        assert_eq!(length, text.len());
        Ok(head)
    }

    #[test]
    fn a_request_has_what_its_head_says() {
        let text = b"GET http://a.test/b?c HTTP/1.1\r\nHost: \t x \t\r\nACCEPT:a\r\naccept: b\xff\r\nEmpty:\r\n\r\nGET";
        let (head, length) = parse(text, 10).unwrap().unwrap();
        assert_eq!(&text[length..], b"GET");
        let Head { request, framing, persists, expects_continue } = head;
        assert_eq!((request.method(), request.protocol()), ("GET", Protocol::Http11));
        assert_eq!((request.scheme(), request.authority()), (Some(&Scheme::HTTP), Some("a.test")));
        assert_eq!(request.path_then_query(), ("/b", Some("c")));
        let want: [(&[u8], &[u8]); 4] = [(b"host", b"x"), (b"accept", b"a"), (b"accept", b"b\xff"), (b"empty", b"")];
        assert!(request.fields().eq(want), "{request:?}");
        assert_eq!((framing, persists, expects_continue), (Framing::Nothing, true, false));
        for end in 0..length {
            assert!(parse(&text[..end], 10).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn a_body_is_framed_in_one_way() {
        for (fields, want) in [
            ("", Ok(Framing::Nothing)),
            ("Content-Length: 0\r\n", Ok(Framing::Nothing)),
            ("Content-Length: 007\r\n", Ok(Framing::Length(7))),
            ("Content-Length: 7\r\nContent-Length: 7\r\n", Ok(Framing::Length(7))),
            ("Content-Length: 18446744073709551615\r\n", Ok(Framing::Length(u64::MAX))),
            ("Content-Length: 18446744073709551616\r\n", Err(Refusal::Malformed)),
            ("Content-Length: 7\r\nContent-Length: 8\r\n", Err(Refusal::Malformed)),
            ("Content-Length: 7, 7\r\n", Err(Refusal::Malformed)),
            ("Content-Length: +7\r\n", Err(Refusal::Malformed)),
            ("Content-Length: 7 7\r\n", Err(Refusal::Malformed)),
            ("Content-Length:\r\n", Err(Refusal::Malformed)),
            ("Content-Length: \u{ff17}\r\n", Err(Refusal::Malformed)),
            ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(Refusal::Malformed)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Refusal::Malformed)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(Refusal::Malformed)),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(Refusal::Malformed)),
            ("Transfer-Encoding: identity\r\n", Err(Refusal::Malformed)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(Refusal::Malformed)),
            ("Transfer-Encoding:\r\n", Err(Refusal::Malformed)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", Err(Refusal::Malformed)),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(Refusal::Malformed)),
        ] {
            assert_eq!(head(fields).map(|head| head.framing), want, "{fields:?}");
        }
        assert_eq!(head_of("1.0", "Transfer-Encoding: chunked\r\n").unwrap_err(), Refusal::Malformed);
    }

    #[test]
    fn a_connection_persists_by_its_version_and_as_it_is_asked_to() {
        for (version, fields, want) in [
            ("1.1", "", true),
            ("1.0", "", false),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: keep-alive, Close\r\n", false),
            ("1.1", "Connection: x\r\nConnection: y,close\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            assert_eq!(head_of(version, fields).unwrap().persists, want, "{version} {fields:?}");
        }
        for (version, fields, want) in [
            ("1.1", "Expect: 100-Continue\r\n", true),
            ("1.0", "Expect: 100-continue\r\n", false),
            ("1.1", "Expect: something\r\n", false),
        ] {
            assert_eq!(head_of(version, fields).unwrap().expects_continue, want, "{version} {fields:?}");
        }
    }

    #[test]
    fn a_target_has_one_of_four_forms() {
        for (target, want) in [
            ("/", Some((None, ("/", None)))),
            ("/a?b?c", Some((None, ("/a", Some("b?c"))))),
            ("/a#b?c", Some((None, ("/a", None)))),
            ("/a?b#c", Some((None, ("/a", Some("b"))))),
            ("//a.test/b", Some((None, ("//a.test/b", None)))),
            ("*", Some((None, ("*", None)))),
            ("a.test:443", Some((Some("a.test:443"), ("", None)))),
            ("https://a.test", Some((Some("a.test"), ("/", None)))),
            ("https://a.test:1?b", Some((Some("a.test:1"), ("/", Some("b"))))),
            ("a/b", None),
            ("?a", None),
            ("https://", None),
            ("/a<b", None),
            ("/a?\"", None),
        ] {
            let mut request = RequestHead::new(Protocol::Http11);
            let got = put_target(&mut request, target);
            let got = got.map(|()| (request.authority(), request.path_then_query()));
            assert_eq!(got.ok(), want, "{target}");
        }
    }

    proptest::proptest! {
        /// What a site is asked for is what the control plane would be.
        #[test]
        fn a_path_is_one_where_http_takes_it(
            text in proptest::prelude::prop_oneof!["/[!-~\u{80}-\u{ff}]{0,8}", "/[a?#`\"{}|^<>\u{7f}]{0,12}", "[/*?#a]{1,5}"],
        ) {
            let mut request = RequestHead::new(Protocol::Http11);
            let taken = put_target(&mut request, &text).is_ok();
            let known = Uri::try_from(&*text).ok();
            assert_eq!(taken, known.is_some(), "{text:?}");
            if let Some(uri) = known {
                assert_eq!(request.path_then_query(), (uri.path(), uri.query()), "{text:?}");
                request.set_method("GET");
                let request = request.to_http(crate::request_body::RequestBody::empty()).unwrap();
                assert_eq!(*request.uri(), uri, "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_too_large_is_told_apart() {
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        for most in [0, 5, USUAL_FIELDS, USUAL_FIELDS + 1, 300] {
            assert!(parse(fields(most).as_bytes(), most).unwrap().is_some());
            assert_eq!(parse(fields(most + 1).as_bytes(), most).unwrap_err(), Refusal::TooLarge);
        }
        let target = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(length));
        assert!(parse(target(60_000).as_bytes(), 10).unwrap().is_some());
        assert_eq!(parse(target(70_000).as_bytes(), 10).unwrap_err(), Refusal::TargetTooLong);
        assert_eq!(parse(b"GET http:// HTTP/1.1\r\n\r\n", 10).unwrap_err(), Refusal::Malformed);
    }
}
