//! The content type of a file: decided once, when a site is published, and kept in the manifest.

use std::borrow::Cow;

/// What a file is when nothing says more.
const UNKNOWN: &str = "application/octet-stream";
/// The longest content type that a publisher may send, in bytes.
const LONGEST: usize = 128;

/// Decides the value of Content-Type for the file at `path`.
///
/// What the publisher sent wins where it is sane: `type/subtype` of token characters, perhaps with parameters, at most
/// 128 printable ASCII characters. `application/octet-stream` counts as not sent, because it is what clients send when
/// they know nothing. Otherwise the extension decides. `charset=utf-8` is added to text that is valid UTF-8 and names no
/// charset.
#[must_use]
pub fn decide(path: &str, sent: Option<&str>, is_utf8: bool) -> String {
    let sent = sent.map(str::trim).filter(|sent| is_sane(sent) && essence(sent) != UNKNOWN);
    let chosen: Cow<'_, str> = match sent {
        Some(sent) => sent.into(),
        None => from_extension(path).into(),
    };
    if is_utf8 && is_text(essence(&chosen)) && !names_charset(&chosen) {
        format!("{chosen}; charset=utf-8")
    } else {
        chosen.into_owned()
    }
}

/// What `mime_guess` says, with the few corrections that today's browsers need.
fn from_extension(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        // RFC 9239: text/javascript is the one name for scripts, modules among them.
        Some("js" | "mjs" | "cjs") => "text/javascript",
        // mime_guess knows these as a video container and as nothing.
        Some("ts" | "mts" | "tsx" | "jsx") => "text/plain",
        // RFC 7303 and what feed readers expect.
        Some("xml" | "xsl") => "application/xml",
        Some("webmanifest") => "application/manifest+json",
        Some("map") => "application/json",
        Some("avif") => "image/avif",
        Some("ico") => "image/x-icon",
        None => match name {
            "LICENSE" | "README" | "CHANGELOG" | "NEWS" | "AUTHORS" | "COPYING" => "text/plain",
            _ => UNKNOWN,
        },
        Some(extension) => mime_guess::from_ext(extension).first_raw().unwrap_or(UNKNOWN),
    }
}

/// The part before the parameters, as it is written.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or(content_type).trim_end()
}

/// Whether `charset` says something about bodies of this type: text, and the XML and JSON families that browsers show.
fn is_text(essence: &str) -> bool {
    let essence = essence.to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+xml")
        || matches!(&*essence, "application/javascript" | "application/xml" | "application/json")
        || (essence.ends_with("+json"))
}

fn names_charset(content_type: &str) -> bool {
    content_type
        .split(';')
        .skip(1)
        .any(|parameter| parameter.trim_start().get(..8).is_some_and(|name| name.eq_ignore_ascii_case("charset=")))
}

/// Whether `text` is `type/subtype` with well-formed parameters (RFC 9110 section 8.3.1).
fn is_sane(text: &str) -> bool {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    if text.len() > LONGEST || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return false;
    }
    let mut parts = text.split(';');
    let Some((kind, subtype)) = parts.next().and_then(|essence| essence.trim_end().split_once('/')) else {
        return false;
    };
    is_token(kind)
        && is_token(subtype)
        && parts.all(|parameter| match parameter.trim().split_once('=') {
            Some((name, value)) => {
                let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                is_token(name) && (is_token(value) || quoted.is_some_and(|inner| !inner.contains(['"', '\\'])))
            }
            None => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_by_path_and_by_what_was_sent() {
        for (path, sent, is_utf8, want) in [
            ("index.html", None, true, "text/html; charset=utf-8"),
            ("latin1.html", None, false, "text/html"),
            ("a/b.CSS", None, true, "text/css; charset=utf-8"),
            ("app.mjs", None, true, "text/javascript; charset=utf-8"),
            ("data.json", None, true, "application/json; charset=utf-8"),
            ("feed.xml", None, true, "application/xml; charset=utf-8"),
            ("logo.svg", None, true, "image/svg+xml; charset=utf-8"),
            ("a.png", None, false, "image/png"),
            ("a.wasm", None, false, "application/wasm"),
            ("f.woff2", None, false, "font/woff2"),
            ("m.webmanifest", None, true, "application/manifest+json; charset=utf-8"),
            ("objects.inv", None, false, "application/octet-stream"),
            ("LICENSE", None, true, "text/plain; charset=utf-8"),
            ("dir.d/noext", None, true, "application/octet-stream"),
            ("a.bin", Some("application/x-thing"), true, "application/x-thing"),
            ("a.html", Some("application/octet-stream"), true, "text/html; charset=utf-8"),
            ("a.html", Some("text/html; charset=ISO-8859-1"), true, "text/html; charset=ISO-8859-1"),
            ("a.html", Some("text/html; Charset=\"x\""), true, "text/html; Charset=\"x\""),
            ("a.html", Some("nonsense"), true, "text/html; charset=utf-8"),
            ("a.html", Some("text/html\r\nX: y"), true, "text/html; charset=utf-8"),
            ("a.html", Some("text/html; x"), true, "text/html; charset=utf-8"),
            ("a.html", Some(""), true, "text/html; charset=utf-8"),
        ] {
            assert_eq!(decide(path, sent, is_utf8), want, "{path} sent as {sent:?}");
        }
    }
}
