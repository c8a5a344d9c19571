//! The head of an answer as it is sent, and what frames its body (RFC 9112 sections 4 to 6).

use http::StatusCode;
use http::header;

use crate::date;
use crate::reply::ReplyFields;
use crate::request::Protocol;
use crate::request_body::content_length;

/// What an answer's request has to do with its framing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) protocol: Protocol,
    /// The answer has no body, whatever its fields say.
    pub(super) is_head: bool,
    /// Whether the connection may go on.
    pub(super) persists: bool,
}

/// What frames the body of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

/// Appends the head of an answer whose body has `length` bytes, where that is known; answers what frames its body, and whether
/// the connection goes on behind it.
pub(super) fn put(
    out: &mut Vec<u8>,
    asked: Asked,
    status: StatusCode,
    fields: &ReplyFields,
    length: Option<u64>,
) -> (Framing, bool) {
    put_status(out, status);
    // A 304 may say how long the answer would be; what has no body by its nature has no length either (RFC 9110 section 8.6).
    let has_no_length = status.is_informational() || status == StatusCode::NO_CONTENT;
    let has_no_body = has_no_length || asked.is_head || status == StatusCode::NOT_MODIFIED;
    let (mut said_length, mut said_date, mut persists) = (None, false, asked.persists);
    let (kept, own) = fields.parts();
    if let Some(kept) = kept {
        debug_assert!(!has_no_length, "no head is kept of what has no length");
        out.extend_from_slice(kept.lines());
        said_length = kept.length();
    }
    for (name, value) in own.into_iter().flatten() {
        if *name == header::CONTENT_LENGTH {
            if has_no_length || said_length.is_some() {
                continue;
            }
            let parsed = content_length(value.as_bytes());
            if parsed.is_none() {
                continue;
            }
            said_length = parsed;
        } else if *name == header::DATE {
            said_date = true;
        } else if *name == header::CONNECTION {
            // What is said of the connection is said here.
            persists &= !value.as_bytes().eq_ignore_ascii_case(b"close");
            continue;
        } else if *name == header::TRANSFER_ENCODING {
            continue;
        }
        put_field(out, name.as_str(), value.as_bytes());
    }
    let framing = match said_length.or(length) {
        _ if has_no_body => Framing::Nothing,
        Some(length) => Framing::Length(length),
        None if asked.protocol == Protocol::Http11 => Framing::Chunked,
        None => Framing::UntilClose,
    };
    match framing {
        Framing::Length(length) if said_length.is_none() => {
            put_field(out, "content-length", length.to_string().as_bytes());
        }
        Framing::Chunked => put_field(out, "transfer-encoding", b"chunked"),
        Framing::UntilClose => persists = false,
        Framing::Nothing | Framing::Length(_) => {}
    }
    match (persists, asked.protocol) {
        (false, _) => put_field(out, "connection", b"close"),
        (true, Protocol::Http10) => put_field(out, "connection", b"keep-alive"),
        (true, _) => {}
    }
    if !said_date {
        date::put(out);
    }
    out.extend_from_slice(b"\r\n");
    (framing, persists)
}

fn put_status(out: &mut Vec<u8>, status: StatusCode) {
    // Those that are most of all, as one piece.
    match status {
        StatusCode::OK => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        StatusCode::NOT_MODIFIED => out.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n"),
        _ => {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(status.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const GET: Asked = Asked { protocol: Protocol::Http11, is_head: false, persists: true };

    fn put_all(
        asked: Asked,
        status: u16,
        fields: &[(&'static str, &'static str)],
        length: Option<u64>,
    ) -> (String, Framing, bool) {
        let mut map = ReplyFields::default();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        let (framing, persists) = put(&mut out, asked, StatusCode::from_u16(status).unwrap(), &map, length);
        (String::from_utf8(out).unwrap(), framing, persists)
    }

    #[test]
    fn an_answer_says_what_frames_it() {
        let old = Asked { protocol: Protocol::Http10, ..GET };
        let last = Asked { persists: false, ..GET };
        let head = Asked { is_head: true, ..GET };
        const DATE: (&str, &str) = ("date", "now");
        const LENGTH: (&str, &str) = ("content-length", "7");
        for (asked, status, fields, length, want, framing, persists) in [
            (GET, 200, &[LENGTH][..], Some(7), "200 OK|content-length: 7", Framing::Length(7), true),
            (GET, 200, &[], Some(7), "200 OK|content-length: 7", Framing::Length(7), true),
            (GET, 200, &[], Some(0), "200 OK|content-length: 0", Framing::Length(0), true),
            (GET, 404, &[LENGTH, LENGTH], None, "404 Not Found|content-length: 7", Framing::Length(7), true),
            (GET, 200, &[("content-length", "+7")], Some(7), "200 OK|content-length: 7", Framing::Length(7), true),
            (GET, 200, &[], None, "200 OK|transfer-encoding: chunked", Framing::Chunked, true),
            (GET, 200, &[("transfer-encoding", "x")], Some(7), "200 OK|content-length: 7", Framing::Length(7), true),
            (old, 200, &[], None, "200 OK|connection: close", Framing::UntilClose, false),
            (old, 200, &[LENGTH], None, "200 OK|content-length: 7|connection: keep-alive", Framing::Length(7), true),
            (last, 200, &[LENGTH], None, "200 OK|content-length: 7|connection: close", Framing::Length(7), false),
            (
                GET,
                200,
                &[("connection", "Close"), LENGTH],
                None,
                "200 OK|content-length: 7|connection: close",
                Framing::Length(7),
                false,
            ),
            (GET, 304, &[LENGTH], Some(0), "304 Not Modified|content-length: 7", Framing::Nothing, true),
            (GET, 304, &[], Some(0), "304 Not Modified", Framing::Nothing, true),
            (GET, 204, &[LENGTH], Some(0), "204 No Content", Framing::Nothing, true),
            (head, 200, &[LENGTH], Some(0), "200 OK|content-length: 7", Framing::Nothing, true),
            (head, 200, &[], Some(0), "200 OK", Framing::Nothing, true),
            (GET, 599, &[LENGTH], None, "599 |content-length: 7", Framing::Length(7), true),
        ] {
            let fields = [&[DATE], fields].concat();
            let want = want.replacen('|', "\r\ndate: now\r\n", 1).replace('|', "\r\n");
            let want = if want.contains("date") { want } else { want + "\r\ndate: now" };
            let want = (format!("HTTP/1.1 {want}\r\n\r\n"), framing, persists);
            assert_eq!(put_all(asked, status, &fields, length), want, "{status} {fields:?}");
        }
    }

    #[test]
    fn an_answer_has_a_date_and_its_fields_as_they_are() {
        let (text, ..) = put_all(GET, 200, &[("etag", "\"a\""), ("x-own", "b"), ("etag", "c")], Some(1));
        let lines: Vec<_> = text.split("\r\n").collect();
        let [status, etag, second, own, length, date, "", ""] = lines[..] else { panic!("{text:?}") };
        assert_eq!([status, etag, second, own], ["HTTP/1.1 200 OK", "etag: \"a\"", "etag: c", "x-own: b"]);
        assert_eq!(length, "content-length: 1");
        assert!(httpdate::parse_http_date(date.strip_prefix("date: ").unwrap()).is_ok(), "{date}");
    }
}
