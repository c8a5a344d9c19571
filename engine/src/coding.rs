//! Content codings that files are stored in beside their own bytes, and the forms of one file.
//!
//! A *variant* is a blob like any other, whose bytes are those of an *identity* blob under one coding. Its name is the hash
//! of its own bytes, so everything that is said of blobs holds for it.

use std::fmt;

use crate::content_type;
use crate::hash::BlobHash;

/// The fewest bytes that are worth encoding: below, one packet carries the answer either way.
pub const SMALLEST: u64 = 256;

/// Whether files of this type and size are worth encoding.
///
/// It decides both what variants are made of and which answers say `Vary: Accept-Encoding`, so that the two cannot come
/// apart. Left out is what is compressed already, and what nothing is known of: formats for downloads mostly are.
#[must_use]
pub fn is_eligible(content_type: &str, size: u64) -> bool {
    size >= SMALLEST && is_compressible(content_type::essence(content_type))
}

fn is_compressible(essence: &str) -> bool {
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let is = |names: &[&str]| names.iter().any(|name| subtype.eq_ignore_ascii_case(name));
    let is_structured = || {
        let suffix = subtype.rsplit_once('+').map_or("", |(_, suffix)| suffix);
        ["json", "xml", "yaml"].iter().any(|text| suffix.eq_ignore_ascii_case(text))
    };
    if kind.eq_ignore_ascii_case("text") || is_structured() {
        true
    } else if kind.eq_ignore_ascii_case("application") {
        is(APPLICATIONS)
    } else if kind.eq_ignore_ascii_case("font") {
        is(&["ttf", "otf", "sfnt", "collection"])
    } else if kind.eq_ignore_ascii_case("image") {
        is(&["bmp", "x-ms-bmp", "x-icon", "vnd.microsoft.icon", "svg"])
    } else if kind.eq_ignore_ascii_case("model") {
        is(&["gltf-binary", "obj", "mtl", "stl"])
    } else {
        false
    }
}

/// The subtypes of `application` that are text, or code and fonts that nothing has compressed yet.
const APPLICATIONS: &[&str] = &[
    "ecmascript",
    "font-sfnt",
    "graphql",
    "javascript",
    "json",
    "json5",
    "jsonl",
    "rtf",
    "sql",
    "toml",
    "typescript",
    "vnd.ms-fontobject",
    "vnd.ms-opentype",
    "wasm",
    "x-font-opentype",
    "x-font-otf",
    "x-font-truetype",
    "x-font-ttf",
    "x-javascript",
    "x-ndjson",
    "x-sh",
    "x-tex",
    "x-yaml",
    "xml",
    "xml-dtd",
    "yaml",
];

/// A content coding that variants are made in (RFC 9110 section 8.4.1; RFC 7932, RFC 8878, RFC 1952).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Coding {
    /// `br`.
    Brotli = 0,
    /// `zstd`.
    Zstd = 1,
    /// `gzip`.
    Gzip = 2,
}

impl Coding {
    /// Every coding, the one first that is preferred where a client likes several equally.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The coding whose number this is, as it is stored.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The name in `Content-Encoding` and `Accept-Encoding`.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// A file's bytes under one coding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Variant {
    /// The encoded bytes.
    pub blob: BlobHash,
    /// How many they are.
    pub size: u64,
}

/// The variants that one blob has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Variants([Option<Variant>; Coding::ALL.len()]);

impl Variants {
    /// The variant in `coding`, where there is one.
    #[must_use]
    pub fn get(&self, coding: Coding) -> Option<Variant> {
        self.0[coding as usize]
    }

    /// The same with this variant.
    #[must_use]
    pub fn with(mut self, coding: Coding, variant: Variant) -> Self {
        self.0[coding as usize] = Some(variant);
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_encoding() {
        for (content_type, want) in [
            ("text/html; charset=utf-8", true),
            ("text/css", true),
            ("TEXT/Plain ; charset=ISO-8859-1", true),
            ("text/javascript; charset=utf-8", true),
            ("text/event-stream", true),
            ("application/javascript", true),
            ("application/json", true),
            ("Application/JSON", true),
            ("application/ld+json; profile=\"x/y\"", true),
            ("application/manifest+json; charset=utf-8", true),
            ("application/xhtml+xml", true),
            ("application/atom+xml", true),
            ("application/vnd.oai.openapi+yaml", true),
            ("application/xml", true),
            ("application/wasm", true),
            ("application/vnd.ms-fontobject", true),
            ("image/svg+xml", true),
            ("image/x-icon", true),
            ("image/vnd.microsoft.icon", true),
            ("image/bmp", true),
            ("font/ttf", true),
            ("font/otf", true),
            ("model/gltf+json", true),
            ("font/woff", false),
            ("font/woff2", false),
            ("image/png", false),
            ("image/avif", false),
            ("video/mp4", false),
            ("audio/ogg", false),
            ("application/pdf", false),
            ("application/zip", false),
            ("application/gzip", false),
            ("application/epub+zip", false),
            ("application/octet-stream", false),
            ("application/x-thing", false),
            ("jsonp/x", false),
            ("text", false),
            ("", false),
        ] {
            assert_eq!(is_eligible(content_type, SMALLEST), want, "{content_type:?}");
            assert!(!is_eligible(content_type, SMALLEST - 1), "{content_type:?} of 255 bytes");
            assert_eq!(is_eligible(content_type, u64::MAX), want, "{content_type:?} of any size");
        }
    }

    #[test]
    fn each_coding_has_its_own_place() {
        let variant = |byte, size| Variant { blob: BlobHash::from_bytes([byte; 32]), size };
        let variants = Variants::default().with(Coding::Gzip, variant(1, 10)).with(Coding::Brotli, variant(2, 8));
        assert!(Variants::default().is_empty() && !variants.is_empty());
        assert_eq!(Coding::ALL.map(|coding| variants.get(coding).map(|v| v.size)), [Some(8), None, Some(10)]);
        assert_eq!(Coding::ALL.map(Coding::token), ["br", "zstd", "gzip"]);
    }
}
