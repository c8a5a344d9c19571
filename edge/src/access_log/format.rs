//! From a record to a line. Pure.
//!
//! A line is a line whatever a client sends: what could end it, leave its quotes or move a terminal's cursor is escaped.

use std::io::Write;

use pinstone_engine::clock::UnixMillis;

use super::AccessLogFormat;
use super::record::{Found, Part, Record};
use crate::request::Protocol;

/// The last moment that RFC 3339 can write.
const LAST: UnixMillis = UnixMillis(253_402_300_799_999);

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Appends `record` to `out`, with a line feed.
pub(super) fn write(format: AccessLogFormat, record: &Record, out: &mut Vec<u8>) {
    match format {
        AccessLogFormat::Json => json(record, out),
        AccessLogFormat::Combined => combined(record, out),
    }
    out.push(b'\n');
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes what is written to it");
}

fn time(at: UnixMillis) -> String {
    humantime::format_rfc3339_millis(at.min(LAST).as_system_time()).to_string()
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http10 => "HTTP/1.0",
        Protocol::Http11 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2.0",
    }
}

fn json(record: &Record, out: &mut Vec<u8>) {
    put(out, format_args!(r#"{{"time":"{}","client":"{}""#, time(record.at), record.client));
    let texts = |out: &mut Vec<u8>, parts: &[(&str, Part)]| {
        for (name, part) in parts {
            put(out, format_args!(r#","{name}":"#));
            json_text(record.get(*part), out);
        }
    };
    texts(out, &[("method", Part::Method), ("host", Part::Host), ("target", Part::Target)]);
    put(
        out,
        format_args!(
            r#","protocol":"{}","status":{},"bytes":{},"complete":{},"first_byte_us":{},"last_byte_us":{}"#,
            protocol(record.protocol),
            record.shown_status(),
            record.sent,
            record.complete,
            record.first_byte_micros,
            record.last_byte_micros
        ),
    );
    texts(
        out,
        &[
            ("referer", Part::Referer),
            ("user_agent", Part::UserAgent),
            ("project", Part::Project),
            ("environment", Part::Environment),
            ("image", Part::Image),
        ],
    );
    let cache = record.cache.map(|found| match found {
        Found::Hit => "hit",
        Found::Miss(_) => "miss",
    });
    for (name, word) in [("variant", record.variant), ("cache", cache), ("tls", record.tls)] {
        put(out, format_args!(r#","{name}":"#));
        json_text(word.map(str::as_bytes), out);
    }
    texts(out, &[("request_id", Part::RequestId)]);
    out.push(b'}');
}

/// A JSON string; `null` where there is none. What is UTF-8 stays as it is but for controls, what is not becomes U+FFFD.
fn json_text(value: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(value) = value else {
        out.extend_from_slice(b"null");
        return;
    };
    out.push(b'"');
    if value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(value);
    } else {
        for chunk in value.utf8_chunks() {
            chunk.valid().chars().for_each(|character| json_character(character, out));
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

fn json_character(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(br#"\""#),
        '\\' => out.extend_from_slice(br"\\"),
        // Some programs that read lines end them at U+2028 and U+2029; the others turn what is shown around.
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
            put(out, format_args!("\\u{:04x}", u32::from(character)));
        }
        control if control.is_control() => put(out, format_args!("\\u{:04x}", u32::from(control))),
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The line that Apache and nginx call `combined`.
fn combined(record: &Record, out: &mut Vec<u8>) {
    let time = time(record.at);
    let month = time[5..7].parse().ok().and_then(|month: usize| MONTHS.get(month - 1)).expect("a month is 1 to 12");
    put(
        out,
        format_args!("{} - - [{}/{month}/{}:{} +0000] \"", record.client, &time[8..10], &time[..4], &time[11..19]),
    );
    quoted(record.get(Part::Method), out);
    out.push(b' ');
    quoted(record.get(Part::Target), out);
    put(out, format_args!(" {}\" {} {} \"", protocol(record.protocol), record.shown_status(), record.sent));
    quoted(record.get(Part::Referer), out);
    out.extend_from_slice(b"\" \"");
    quoted(record.get(Part::UserAgent), out);
    out.push(b'"');
}

/// The inside of quotes; `-` where there is nothing. As nginx does, whatever is not printable ASCII, a quote or a
/// backslash is written as `\xHH`.
fn quoted(value: Option<&[u8]>, out: &mut Vec<u8>) {
    for &byte in value.unwrap_or(b"-") {
        match byte {
            b'"' | b'\\' | ..=0x1f | 0x7f.. => put(out, format_args!("\\x{byte:02X}")),
            plain => out.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::new(UnixMillis(1_700_000_000_123), [192, 0, 2, 7].into(), Protocol::Http11);
        record.put(Part::Method, b"GET");
        record.put(Part::Host, b"demo.pages.test");
        record.put(Part::Target, b"/a?b=c");
        (record.status, record.sent, record.complete) = (200, 1234, true);
        (record.first_byte_micros, record.last_byte_micros) = (90, 130);
        record
    }

    fn line(format: AccessLogFormat, record: &Record) -> String {
        let mut out = Vec::new();
        write(format, record, &mut out);
        let line = String::from_utf8(out).expect("lines are UTF-8");
        assert_eq!(line.matches('\n').count(), 1, "one record, one line: {line:?}");
        line.trim_end().to_owned()
    }

    #[test]
    fn a_record_as_json() {
        let mut record = record();
        assert_eq!(
            line(AccessLogFormat::Json, &record),
            r#"{"time":"2023-11-14T22:13:20.123Z","client":"192.0.2.7","method":"GET","host":"demo.pages.test","target":"/a?b=c","protocol":"HTTP/1.1","status":200,"bytes":1234,"complete":true,"first_byte_us":90,"last_byte_us":130,"referer":null,"user_agent":null,"project":null,"environment":null,"image":null,"variant":null,"cache":null,"tls":null,"request_id":null}"#
        );
        record.put(Part::Referer, b"https://a.test/");
        record.put(Part::UserAgent, b"curl/8");
        record.put(Part::Project, b"demo");
        record.put(Part::Environment, b"prod");
        record.put(Part::Image, b"0123456789abcdef");
        record.put(Part::RequestId, b"r-1");
        (record.variant, record.cache, record.tls) = (Some("identity"), Some(Found::Miss("blob")), Some("1.3"));
        (record.complete, record.status) = (false, 0);
        let line = line(AccessLogFormat::Json, &record);
        assert!(line.contains(r#""status":499,"bytes":1234,"complete":false"#), "{line}");
        assert!(
            line.ends_with(
                r#","referer":"https://a.test/","user_agent":"curl/8","project":"demo","environment":"prod","image":"0123456789abcdef","variant":"identity","cache":"miss","tls":"1.3","request_id":"r-1"}"#
            ),
            "{line}"
        );
    }

    #[test]
    fn a_record_as_a_combined_line() {
        let mut record = record();
        assert_eq!(
            line(AccessLogFormat::Combined, &record),
            r#"192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=c HTTP/1.1" 200 1234 "-" "-""#
        );
        record.put(Part::Referer, b"https://a.test/");
        record.put(Part::UserAgent, b"Mozilla/5.0 (X11)");
        record.protocol = Protocol::Http2;
        record.client = "2001:db8::1".parse().unwrap();
        assert_eq!(
            line(AccessLogFormat::Combined, &record),
            r#"2001:db8::1 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=c HTTP/2.0" 200 1234 "https://a.test/" "Mozilla/5.0 (X11)""#
        );
    }

    #[test]
    fn nothing_that_a_client_sends_leaves_its_place() {
        for (sent, combined, json) in [
            (&b"plain"[..], "plain", "plain"),
            (b"a\"b", r"a\x22b", r#"a\"b"#),
            (b"a\\b", r"a\x5Cb", r"a\\b"),
            (b"a\r\n127.0.0.1 - - fake", r"a\x0D\x0A127.0.0.1 - - fake", r"a\u000d\u000a127.0.0.1 - - fake"),
            (b"\x00\t\x1b[2J\x7f", r"\x00\x09\x1B[2J\x7F", r"\u0000\u0009\u001b[2J\u007f"),
            ("\u{e9}".as_bytes(), r"\xC3\xA9", "\u{e9}"),
            ("\u{9b}2J\u{2028}\u{202e}".as_bytes(), r"\xC2\x9B2J\xE2\x80\xA8\xE2\x80\xAE", r"\u009b2J\u2028\u202e"),
            (b"a\xff\xfeb", r"a\xFF\xFEb", "a\u{fffd}\u{fffd}b"),
        ] {
            let mut record = record();
            for part in [Part::Target, Part::Referer, Part::UserAgent, Part::RequestId, Part::Method] {
                record.put(part, sent);
            }
            let line_of = |format| line(format, &record);
            let text = line_of(AccessLogFormat::Combined);
            assert!(text.contains(&format!("] \"{combined} {combined} HTTP/1.1\" 200")), "{sent:?}: {text}");
            assert!(text.ends_with(&format!(" 1234 \"{combined}\" \"{combined}\"")), "{sent:?}: {text}");
            let text = line_of(AccessLogFormat::Json);
            for name in ["method", "target", "referer", "user_agent", "request_id"] {
                assert!(text.contains(&format!(r#""{name}":"{json}""#)), "{name} of {sent:?}: {text}");
            }
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let mut record = record();
        let long = vec![b'x'; 20_000];
        for part in [Part::Target, Part::Referer, Part::UserAgent, Part::RequestId, Part::Method, Part::Host] {
            record.put(part, &long);
        }
        let length = |part| record.get(part).map(<[u8]>::len);
        assert_eq!(
            (length(Part::Target), length(Part::Referer), length(Part::UserAgent)),
            (Some(8192), Some(1024), Some(1024))
        );
        assert_eq!(
            (length(Part::RequestId), length(Part::Method), length(Part::Host)),
            (Some(128), Some(32), Some(255))
        );
    }

    #[test]
    fn months_and_far_years() {
        for (millis, want) in [
            (0, "[01/Jan/1970:00:00:00 +0000]"),
            (1_767_225_599_999, "[31/Dec/2025:23:59:59 +0000]"),
            (u64::MAX, "[31/Dec/9999:23:59:59 +0000]"),
        ] {
            let mut record = record();
            record.at = UnixMillis(millis);
            let line = line(AccessLogFormat::Combined, &record);
            assert!(line.contains(want), "{line}");
        }
    }
}
