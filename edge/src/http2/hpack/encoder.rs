//! From the fields of an answer to a block (RFC 7541 section 6).
//!
//! What answers have in common enters the table of the connection, packed, and is a byte or two from then on. What each answer
//! has of its own (`etag`, `content-length`) would only push that out, so it is sent as it is.

use std::collections::VecDeque;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::super::is_of_the_connection;
use super::static_table::{self, LENGTH};
use super::{OVERHEAD, TABLE, huffman};
use crate::reply::ReplyFields;

/// The most entries of the table: all of them are looked through for a field.
const MOST: usize = 32;

/// A field that was sent.
#[derive(Debug)]
struct Entry {
    key: u64,
    name: HeaderName,
    value: HeaderValue,
    size: usize,
}

/// What fields are told apart by at once; those that differ have nearly always other ones.
fn key(name: &HeaderName, value: &HeaderValue) -> u64 {
    let value = value.as_bytes();
    let end = value.last_chunk().map_or(0, |end| u32::from_le_bytes(*end));
    (name.as_str().len() as u64) << 48 ^ (value.len() as u64) << 32 ^ u64::from(end)
}

/// What a connection's client was sent, as far as it can be named again.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The last one is the oldest, and leaves first.
    entries: VecDeque<Entry>,
    size: usize,
    /// What the entries may take; at most [`TABLE`].
    limit: usize,
    /// The least that the client allowed since the last block, and what it allows now, where it said so.
    resized: Option<(usize, usize)>,
}

/// What an answer says where its fields do not.
#[derive(Debug)]
pub(crate) struct Implied {
    pub(crate) date: HeaderValue,
    /// Bytes of the body, where there is one and that is known.
    pub(crate) length: Option<u64>,
}

/// How a field is sent that is in no table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// Into the table.
    Kept,
    /// As it is.
    Passing,
    /// As it is, by whoever passes it on too (RFC 7541 section 7.1.3).
    Secret,
}

fn form(name: &HeaderName, value: &HeaderValue) -> Form {
    match name.as_str() {
        "etag" | "content-length" | "last-modified" | "location" | "content-range" | "content-location" => {
            Form::Passing
        }
        "x-request-id" | "repr-digest" | "unencoded-digest" => Form::Passing,
        "set-cookie" => Form::Secret,
        _ if value.is_sensitive() => Form::Secret,
        _ => Form::Kept,
    }
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: TABLE, resized: None }
    }

    /// The client says what its table may take.
    pub(crate) fn resize(&mut self, limit: usize) {
        let limit = limit.min(TABLE);
        let least = self.resized.map_or(limit, |(least, _)| least.min(limit));
        self.resized = Some((least, limit));
    }

    /// Appends the block of a status and fields.
    pub(crate) fn encode(&mut self, status: StatusCode, fields: &ReplyFields, implied: &Implied, out: &mut Vec<u8>) {
        self.begin(out);
        match static_table::status(status.as_u16()) {
            Some(number) => put_number(0x80, 7, number, out),
            None => {
                put_number(0, 4, static_table::STATUS, out);
                put_string(status.as_str().as_bytes(), out);
            }
        }
        let (mut has_date, mut has_length) = (false, false);
        for (name, value) in fields.iter() {
            has_date |= *name == header::DATE;
            has_length |= *name == header::CONTENT_LENGTH;
            self.encode_field(name, value, out);
        }
        if !has_date {
            // RFC 9110 section 6.6.1.
            self.encode_field(&header::DATE, &implied.date, out);
        }
        if let Some(length) = implied.length.filter(|_| !has_length) {
            self.encode_field(&header::CONTENT_LENGTH, &length.into(), out);
        }
    }

    /// Appends the block of fields that come behind a body.
    pub(crate) fn encode_trailers(&mut self, fields: &HeaderMap, out: &mut Vec<u8>) {
        self.begin(out);
        fields.iter().for_each(|(name, value)| self.encode_field(name, value, out));
    }

    /// Says how large the table is, where that has changed (RFC 7541 section 4.2).
    fn begin(&mut self, out: &mut Vec<u8>) {
        let Some((least, limit)) = self.resized.take() else { return };
        for size in [least, limit] {
            if size != self.limit {
                self.limit = size;
                self.evict();
                put_number(0x20, 5, size, out);
            }
        }
    }

    fn encode_field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
        let key = key(name, value);
        let known = |entry: &Entry| entry.key == key && entry.name == *name && entry.value == *value;
        if let Some(known) = self.entries.iter().position(known) {
            return put_number(0x80, 7, LENGTH + 1 + known, out);
        }
        if is_of_the_connection(name) {
            return;
        }
        let number = static_table::name(name.as_str());
        let form = form(name, value);
        if form != Form::Kept {
            put_number(if form == Form::Secret { 0x10 } else { 0 }, 4, number, out);
            if number == 0 {
                put_string(name.as_str().as_bytes(), out);
            }
            return put_string(value.as_bytes(), out);
        }
        put_number(0x40, 6, number, out);
        if number == 0 {
            put_packed(name.as_str().as_bytes(), out);
        }
        put_packed(value.as_bytes(), out);
        let size = name.as_str().len() + value.len() + OVERHEAD;
        self.entries.push_front(Entry { key, name: name.clone(), value: value.clone(), size });
        self.size += size;
        self.evict();
    }

    fn evict(&mut self) {
        // The client's table has more entries then, all of them older than those here: their numbers are not used.
        while self.size > self.limit || self.entries.len() > MOST {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size;
        }
    }
}

/// A number in the last `prefix` bits of a byte, and more bytes where it is larger (RFC 7541 section 5.1).
fn put_number(kind: u8, prefix: u32, number: usize, out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    let low = |number: usize| number.to_le_bytes()[0];
    if number < most {
        return out.push(kind | low(number));
    }
    out.push(kind | low(most));
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(low(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

fn put_string(string: &[u8], out: &mut Vec<u8>) {
    put_number(0, 7, string.len(), out);
    out.extend_from_slice(string);
}

/// The same in the code for strings, where that is shorter.
fn put_packed(string: &[u8], out: &mut Vec<u8>) {
    let length = huffman::encoded_length(string);
    if length >= string.len() {
        return put_string(string, out);
    }
    put_number(0x80, 7, length, out);
    huffman::encode(string, out);
}

#[cfg(test)]
mod tests {
    use super::super::Field;
    use super::super::decoder::Decoder;
    use super::*;

    /// Encodes an answer, and what a decoder has of it; the status is malformed for that one, which takes requests.
    fn round(encoder: &mut Encoder, decoder: &mut Decoder, fields: &HeaderMap) -> (usize, HeaderMap) {
        let (mut block, mut seen) = (Vec::new(), HeaderMap::new());
        encoder.encode(StatusCode::OK, &fields.clone().into(), &implied(), &mut block);
        let take = |field: &Field, _| {
            if let Field::Header(name, value) = field {
                seen.append(name.clone(), value.clone());
            }
        };
        decoder.decode(&block, take).unwrap();
        (block.len(), seen)
    }

    fn implied() -> Implied {
        Implied { date: HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"), length: Some(7) }
    }

    fn with_date(mut fields: HeaderMap) -> HeaderMap {
        fields.insert("date", implied().date);
        fields
    }

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn what_answers_have_in_common_is_sent_once() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let answer = |tag: &str| {
            fields(&[
                ("content-type", "text/html; charset=utf-8"),
                ("content-length", "1024"),
                ("etag", tag),
                ("cache-control", "public, max-age=0, must-revalidate"),
                ("vary", "Accept-Encoding"),
                ("x-content-type-options", "nosniff"),
            ])
        };
        let (first, seen) = round(&mut encoder, &mut decoder, &answer("\"one\""));
        assert_eq!(seen, with_date(answer("\"one\"")));
        let (second, seen) = round(&mut encoder, &mut decoder, &answer("\"two\""));
        assert_eq!(seen, with_date(answer("\"two\"")));
        // The status, five of a byte, and two that are sent as they are.
        assert_eq!(second, 1 + 5 + (2 + 1 + 4) + (2 + 1 + 5));
        assert!(first > 4 * second, "{first}");
    }

    #[test]
    fn the_table_is_as_large_as_the_client_says() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for number in 0..200 {
            let fields = fields(&[("x-a", &format!("{number:0>60}")), ("x-b", "always the same"), ("x-c", "")]);
            match number {
                50 => encoder.resize(0),
                60 => encoder.resize(300),
                70 => {
                    encoder.resize(100);
                    encoder.resize(1 << 20);
                }
                _ => {}
            }
            let (_, seen) = round(&mut encoder, &mut decoder, &fields);
            let mut want = with_date(fields);
            want.insert("content-length", HeaderValue::from_static("7"));
            assert_eq!(seen, want, "answer {number}");
            assert!(encoder.size <= encoder.limit && encoder.entries.len() <= MOST);
        }
        assert_eq!(encoder.limit, TABLE);
    }

    #[test]
    fn secrets_and_connections_are_told_apart() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        let answer = fields(&[
            ("date", "a"),
            ("content-length", "9"),
            ("set-cookie", "a=b"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("upgrade", "x"),
        ]);
        encoder.encode(StatusCode::from_u16(299).unwrap(), &answer.into(), &implied(), &mut out);
        let date = [&[0x40 | 33, 1][..], b"a"].concat();
        let length = [&[0x0f, 28 - 15, 1][..], b"9"].concat();
        assert_eq!(out, [&[0x08, 3][..], b"299", &date, &length, &[0x1f, 55 - 15, 3], b"a=b"].concat());
        assert_eq!(encoder.entries.len(), 1);
    }
}
