//! From the bytes of a head to a request, and what frames its body (RFC 9112 sections 3 to 6).
//!
//! `httparse` says what is a line, a name and a value. What may not be taken in two ways is refused here: a length that is
//! none, or that differs from another, and a transfer coding beside a length.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};
use httparse::Status;

use crate::field_maps;
use crate::pages::Page;
use crate::request_body::{RequestBody, content_length};

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
    pub(super) request: Request<RequestBody>,
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
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let bytes = Bytes::copy_from_slice(&input[..length]);
    let part = |part: &[u8]| bytes.slice(place(part, input));
    let uri = Uri::from_maybe_shared(part(target.as_bytes())).map_err(|_| refused_target(target))?;
    let (mut fields, mut facts) = (field_maps::take(), Facts::default());
    fields.reserve(parsed.headers.len());
    for field in parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::Malformed)?;
        let value = HeaderValue::from_maybe_shared(part(field.value)).map_err(|_| Refusal::Malformed)?;
        facts.note(&name, &value)?;
        fields.append(name, value);
    }
    let framing = facts.framing(version)?;
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Malformed)?;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = fields;
    let is_1_1 = version == Version::HTTP_11;
    let head = Head {
        request,
        framing,
        persists: !facts.says_close && (is_1_1 || facts.says_keep_alive),
        expects_continue: facts.expects_continue && is_1_1,
    };
    Ok(Some((head, length)))
}

/// Where `part` is in `whole`, which it was cut out of.
fn place(part: &[u8], whole: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

fn refused_target(target: &str) -> Refusal {
    // The largest that the type for them takes.
    if target.len() >= usize::from(u16::MAX) { Refusal::TargetTooLong } else { Refusal::Malformed }
}

impl Facts {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
        if *name == header::CONTENT_LENGTH {
            let length = content_length(value.as_bytes()).ok_or(Refusal::Malformed)?;
            if self.length.is_some_and(|known| known != length) {
                return Err(Refusal::Malformed);
            }
            self.length = Some(length);
        } else if *name == header::TRANSFER_ENCODING {
            self.codings += 1;
            self.is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
        } else if *name == header::CONNECTION {
            for option in value.as_bytes().split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                self.says_close |= option.eq_ignore_ascii_case(b"close");
                self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == header::EXPECT {
            self.expects_continue = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    /// What frames the body. A coding beside a length, or of a version that has none, may be meant to be read in another way by
    /// somebody else (RFC 9112 section 6.1); one that is not `chunked` alone is not known here.
    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.codings, self.length) {
            (0, None | Some(0)) => Ok(Framing::Nothing),
            (0, Some(length)) => Ok(Framing::Length(length)),
            (1, None) if self.is_chunked && version == Version::HTTP_11 => Ok(Framing::Chunked),
            _ => Err(Refusal::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
        assert_eq!(*request.uri(), "http://a.test/b?c");
        let fields: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let want: [(&str, &[u8]); 4] = [("host", b"x"), ("accept", b"a"), ("accept", b"b\xff"), ("empty", b"")];
        assert_eq!(fields, want);
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
