//! A file as it can be answered with, and which of its forms a request selects. Pure.
//!
//! A file has its own bytes, and perhaps variants of them in other codings. Each form has a length and an entity tag of
//! its own, so what a client or a cache has of one is never taken for another. Preconditions speak of the selected form
//! alone (RFC 9110 section 13.1.2): a client that has another one gets this one.

use std::ops::Range;

use pinstone_engine::coding::{self, Coding, Variants};
use pinstone_engine::fingerprint::is_fingerprinted;
use pinstone_engine::hash::BlobHash;

use crate::conditional::{self, ETag, Preconditions, Validators, Verdict};
use crate::encoding::Accepted;
use crate::range::{self, RangeVerdict};
use crate::request::Method;

/// What may be kept, but has to be asked for again each time.
pub const REVALIDATE: &str = "public, max-age=0, must-revalidate";

/// What never changes under its name.
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// A file as it was published, and what was made of it.
#[derive(Clone, Copy, Debug)]
pub struct Published<'e> {
    /// The value of `Content-Type`.
    pub content_type: &'e str,
    /// The file's own bytes.
    pub blob: BlobHash,
    /// How many bytes it has.
    pub length: u64,
    /// Its variants.
    pub variants: Variants,
}

/// The form of a file that a request selects: what is sent, or part of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Representation {
    /// Its bytes.
    pub blob: BlobHash,
    /// How many they are.
    pub length: u64,
    /// The coding that they are in; none for the file as it was published.
    pub coding: Option<Coding>,
}

impl Published<'_> {
    /// The file as it was published.
    #[must_use]
    pub fn identity(&self) -> Representation {
        Representation { blob: self.blob, length: self.length, coding: None }
    }

    /// The form that is accepted best.
    #[must_use]
    pub fn negotiate(&self, accepted: &Accepted) -> Representation {
        let coding = accepted.choose(&self.variants);
        match coding.and_then(|coding| self.variants.get(coding)) {
            Some(variant) => Representation { blob: variant.blob, length: variant.size, coding },
            None => self.identity(),
        }
    }

    /// Whether answers depend on Accept-Encoding, now or once there are variants: a cache that was not told before would
    /// keep one form for everybody.
    #[must_use]
    pub fn varies(&self) -> bool {
        !self.variants.is_empty() || coding::is_eligible(self.content_type, self.length)
    }
}

/// A published file, and what else its answers say.
#[derive(Clone, Copy, Debug)]
pub struct Entity<'e> {
    /// The file.
    pub published: Published<'e>,
    /// When it became what it is, in seconds since the epoch; [`Validators`] has more.
    pub last_modified: u64,
    /// The time, in seconds since the epoch.
    pub now: u64,
    /// The value of `Cache-Control`.
    pub cache_control: &'static str,
}

/// What a request asks of a file.
#[derive(Clone, Debug)]
pub struct Asked<'r> {
    /// The conditional fields.
    pub preconditions: &'r Preconditions<'r>,
    /// The value of the one Range field, if there is one.
    pub range: Option<&'r [u8]>,
    /// What Accept-Encoding says.
    pub accepted: Accepted,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self { preconditions: &conditional::NONE, range: None, accepted: Accepted::default() }
    }
}

/// What a GET or HEAD for a file comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// All of the selected form: 200.
    Whole,
    /// These bytes of the file as it was published: 206.
    Part(Range<u64>),
    /// These parts of the file as it was published, two or more: 206.
    Parts(Vec<Range<u64>>),
    /// The client has the selected form: 304.
    NotModified,
    /// The client wanted another state, or another form: 412.
    PreconditionFailed,
    /// The file has none of the bytes that are asked for: 416.
    Unsatisfiable,
}

impl Entity<'_> {
    /// Decides what a request is answered with, and which form of the file the answer is about.
    #[must_use]
    pub fn decide(&self, method: Method, asked: &Asked<'_>) -> (Representation, Decision) {
        let (representation, ranges) = self.select(method, asked);
        let verdict = if asked.preconditions.is_empty() {
            Verdict::Proceed
        } else {
            conditional::evaluate(asked.preconditions, &self.validators(&representation))
        };
        let decision = match (verdict, ranges) {
            (Verdict::NotModified, _) => Decision::NotModified,
            (Verdict::PreconditionFailed, _) => Decision::PreconditionFailed,
            (Verdict::Proceed, RangeVerdict::Whole) => Decision::Whole,
            (Verdict::Proceed, RangeVerdict::Part(part)) => Decision::Part(part),
            (Verdict::Proceed, RangeVerdict::Parts(parts)) => Decision::Parts(parts),
            (Verdict::Proceed, RangeVerdict::Unsatisfiable) => Decision::Unsatisfiable,
        };
        (representation, decision)
    }

    /// What `representation` is compared by.
    #[must_use]
    pub fn validators(&self, representation: &Representation) -> Validators {
        Validators { etag: ETag::of(&representation.blob), last_modified: self.last_modified }
    }

    /// Selects what is answered with, and the parts of it that are asked for.
    ///
    /// Ranges are of the file as it was published. One that is ignored, because its syntax is wrong, its unit unknown, its
    /// parts too many, or because If-Range names another state or another form, leaves a request as if it had none: its
    /// answer is whole, and so in whichever form is accepted best (RFC 9110 section 14.2).
    #[must_use]
    pub fn select(&self, method: Method, asked: &Asked<'_>) -> (Representation, RangeVerdict) {
        // Range is defined for GET only.
        if let (Method::Get, Some(range)) = (method, asked.range) {
            let identity = self.published.identity();
            if conditional::range_applies(asked.preconditions, &self.validators(&identity)) {
                match range::parse(range, identity.length) {
                    RangeVerdict::Whole => {}
                    parts => return (identity, parts),
                }
            }
        }
        (self.published.negotiate(&asked.accepted), RangeVerdict::Whole)
    }
}

/// The Cache-Control of the file at `entry_path`, for a request of `raw_path`.
///
/// Immutable is what has a digest in its name and is asked for by that name: not where another path leads to the file, and
/// not on the host of an image (`is_image_host`), which can be closed at any time.
#[must_use]
pub fn cache_control(raw_path: &str, entry_path: &str, content_type: &str, is_image_host: bool) -> &'static str {
    let file_name = entry_path.rsplit('/').next().unwrap_or(entry_path);
    let is_own_path = raw_path.strip_prefix('/').is_some_and(|path| path == entry_path);
    if !is_image_host && is_own_path && is_fingerprinted(file_name, content_type) { IMMUTABLE } else { REVALIDATE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{self, Body, Field, Head};
    use pinstone_engine::coding::Variant;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn tag(byte: u8) -> String {
        ETag::of(&BlobHash::from_bytes([byte; 32])).as_str().to_owned()
    }

    fn fields(head: &Head) -> Vec<(Field, &str)> {
        head.fields.iter().map(|(field, value)| (*field, &**value)).collect()
    }

    /// 300 bytes `1…`, of which br has 80, `2…`, and gzip 90, `3…`.
    fn entity() -> Entity<'static> {
        let variant = |byte, size| Variant { blob: BlobHash::from_bytes([byte; 32]), size };
        let variants = Variants::default().with(Coding::Brotli, variant(2, 80)).with(Coding::Gzip, variant(3, 90));
        let published =
            Published { content_type: "text/css", blob: BlobHash::from_bytes([1; 32]), length: 300, variants };
        Entity { published, last_modified: 784_111_777, now: 784_111_777, cache_control: REVALIDATE }
    }

    #[test]
    fn what_is_sent_is_what_the_head_speaks_of() {
        let br = Asked { accepted: Accepted::parse([&b"gzip, br"[..]]), ..Asked::default() };
        let (get, sent) = head::file(Method::Get, &br, &entity());
        assert_eq!((sent.coding, sent.blob), (Some(Coding::Brotli), BlobHash::from_bytes([2; 32])));
        assert_eq!(get.body, Body::File(0..80));
        assert_eq!(
            fields(&get.head),
            [
                (Field::CacheControl, "public, max-age=0, must-revalidate"),
                (Field::ETag, &*tag(2)),
                (Field::LastModified, DATE),
                (Field::Vary, "Accept-Encoding"),
                (Field::ContentEncoding, "br"),
                (Field::ContentType, "text/css"),
                (Field::ContentTypeOptions, "nosniff"),
                (Field::ContentLength, "80"),
                (Field::AcceptRanges, "bytes"),
            ]
        );
        let (head, _) = head::file(Method::Head, &br, &entity());
        assert_eq!((head.head, head.body), (get.head, Body::Empty), "HEAD is GET without the body");

        let part = Asked { range: Some(b"bytes=100-299"), ..br };
        let (answer, sent) = head::file(Method::Get, &part, &entity());
        assert_eq!((sent.coding, answer.body), (None, Body::File(100..300)));
        assert_eq!(answer.head.get(Field::ContentRange), Some("bytes 100-299/300"));
        assert_eq!((answer.head.get(Field::ETag), answer.head.get(Field::ContentEncoding)), (Some(&*tag(1)), None));

        let (missing, sent) = head::not_found(Method::Get, &Accepted::parse([&b"br"[..]]), &entity().published);
        assert_eq!((missing.body, sent.coding), (Body::File(0..80), Some(Coding::Brotli)));
        assert_eq!(missing.head.get(Field::ContentEncoding), Some("br"));
        assert_eq!((missing.head.get(Field::ETag), missing.head.get(Field::AcceptRanges)), (None, None));
    }

    #[test]
    fn every_answer_says_that_it_varies_before_there_are_variants() {
        let none = Published { variants: Variants::default(), ..entity().published };
        for (published, varies) in
            [(entity().published, true), (none, true), (Published { length: 255, ..none }, false)]
        {
            let entity = Entity { published, ..entity() };
            let vary = varies.then_some("Accept-Encoding");
            let known = Preconditions { if_none_match: vec![b"*"], ..Preconditions::default() };
            for (method, preconditions, range, status) in [
                (Method::Get, Preconditions::default(), None, 200),
                (Method::Head, Preconditions::default(), None, 200),
                (Method::Get, Preconditions::default(), Some(&b"bytes=1-2"[..]), 206),
                (Method::Get, Preconditions::default(), Some(&b"bytes=1-2,5-6"[..]), 206),
                (Method::Get, known.clone(), None, 304),
                (Method::Head, known, None, 304),
            ] {
                let asked = Asked { preconditions: &preconditions, range, accepted: Accepted::default() };
                let (answer, _) = head::file(method, &asked, &entity);
                assert_eq!((answer.head.status.code(), answer.head.get(Field::Vary)), (status, vary), "{asked:?}");
            }
            let (missing, _) = head::not_found(Method::Get, &Accepted::default(), &published);
            assert_eq!(missing.head.get(Field::Vary), vary);
        }
    }

    #[test]
    fn only_the_tag_of_what_would_be_sent_is_a_match() {
        let (own, br) = (&*tag(1), &*tag(2));
        let both = &*format!("{own}, {br}");
        for (accept, if_none_match, if_match, status, etag) in [
            ("br", Some(br), None, 304, br),
            ("br", Some(own), None, 200, br), // the client has another form, RFC 9110 section 13.1.2
            ("", Some(br), None, 200, own),   // a cache has the variant, and this client cannot decode it
            ("", Some(own), None, 304, own),
            ("br", Some(both), None, 304, br), // a cache has both: the tag says which to use
            ("", Some(both), None, 304, own),
            ("br", None, Some(br), 200, br),
            ("br", None, Some(both), 200, br),
            ("br", None, Some(own), 412, ""),
        ] {
            let preconditions = Preconditions {
                if_none_match: if_none_match.map(str::as_bytes).into_iter().collect(),
                if_match: if_match.map(str::as_bytes).into_iter().collect(),
                ..Preconditions::default()
            };
            let accepted = Accepted::parse([accept.as_bytes()]);
            let asked = Asked { preconditions: &preconditions, range: None, accepted };
            let (answer, _) = head::file(Method::Get, &asked, &entity());
            let what = format!("{accept:?}, If-None-Match: {if_none_match:?}, If-Match: {if_match:?}");
            assert_eq!(answer.head.status.code(), status, "{what}");
            assert_eq!(answer.head.get(Field::ETag).unwrap_or_default(), etag, "{what}");
        }
    }

    #[test]
    fn a_range_is_of_the_file_as_it_was_published() {
        let (own, br, gzip) = (tag(1), tag(2), tag(3));
        let part = RangeVerdict::Part(2..6);
        let whole = RangeVerdict::Whole;
        for (method, range, if_range, coding, ranges, why) in [
            (Method::Get, None, None, Some(Coding::Brotli), &whole, "no range"),
            (Method::Get, Some("bytes=2-5"), None, None, &part, "a range"),
            (Method::Get, Some("bytes=2-5"), Some(&*own), None, &part, "If-Range names the file"),
            (Method::Get, Some("bytes=2-5"), Some(DATE), None, &part, "If-Range names the time"),
            (Method::Get, Some("bytes=2-5"), Some(&*br), Some(Coding::Brotli), &whole, "the tag of what is sent"),
            (Method::Get, Some("bytes=2-5"), Some(&*gzip), Some(Coding::Brotli), &whole, "another coding's tag"),
            (Method::Get, Some("bytes=2-5"), Some("\"x\""), Some(Coding::Brotli), &whole, "another state's tag"),
            (Method::Get, Some("bytes=999-"), Some("\"x\""), Some(Coding::Brotli), &whole, "so no 416 either"),
            (Method::Get, Some("bytes=999-"), None, None, &RangeVerdict::Unsatisfiable, "of the file's length"),
            (Method::Get, Some("bytes=5-"), None, None, &RangeVerdict::Part(5..300), "not of the variant's"),
            (Method::Get, Some("lines=2-5"), None, Some(Coding::Brotli), &whole, "a range that is ignored"),
            (Method::Head, Some("bytes=2-5"), None, Some(Coding::Brotli), &whole, "HEAD has no ranges"),
            (Method::Head, Some("bytes=999-"), Some(&*own), Some(Coding::Brotli), &whole, "HEAD has no ranges"),
        ] {
            let preconditions = Preconditions { if_range: if_range.map(str::as_bytes), ..Preconditions::default() };
            let accepted = Accepted::parse([&b"gzip, br"[..]]);
            let asked = Asked { preconditions: &preconditions, range: range.map(str::as_bytes), accepted };
            let (representation, got) = entity().select(method, &asked);
            assert_eq!((representation.coding, &got), (coding, ranges), "{why}: {range:?}, {if_range:?}");
        }
    }

    #[test]
    fn a_form_has_its_own_bytes() {
        let published = entity().published;
        for (accept, byte, length, coding) in [
            ("", 1, 300, None),
            ("br", 2, 80, Some(Coding::Brotli)),
            ("zstd", 1, 300, None),
            ("gzip, br;q=0", 3, 90, Some(Coding::Gzip)),
        ] {
            let got = published.negotiate(&Accepted::parse([accept.as_bytes()]));
            assert_eq!(got, Representation { blob: BlobHash::from_bytes([byte; 32]), length, coding }, "{accept}");
        }
    }

    #[test]
    fn what_varies() {
        let none = Published { variants: Variants::default(), ..entity().published };
        assert!(entity().published.varies(), "there are variants");
        assert!(none.varies(), "there may be some soon");
        assert!(!Published { length: 255, ..none }.varies(), "too small for any");
        assert!(!Published { content_type: "image/png", ..none }.varies());
    }

    #[test]
    fn how_long_a_file_may_be_kept() {
        for (raw_path, entry_path, content_type, is_image_host, want) in [
            ("/app.4f3a9c1b.js", "app.4f3a9c1b.js", "text/javascript", false, IMMUTABLE),
            ("/a/b/app.4f3a9c1b.js", "a/b/app.4f3a9c1b.js", "text/javascript", false, IMMUTABLE),
            ("/app.4f3a9c1b.js", "app.4f3a9c1b.js", "text/javascript", true, REVALIDATE),
            ("/app.js", "app.js", "text/javascript", false, REVALIDATE),
            // Only the name of the file counts.
            ("/4f3a9c1b/app.js", "4f3a9c1b/app.js", "text/javascript", false, REVALIDATE),
            // A page is never immutable, nor what another path leads to.
            ("/a.4f3a9c1b.html", "a.4f3a9c1b.html", "text/html; charset=utf-8", false, REVALIDATE),
            ("/a.4f3a9c1b", "a.4f3a9c1b.js", "text/javascript", false, REVALIDATE),
            ("/deep/link", "app.4f3a9c1b.js", "text/javascript", false, REVALIDATE),
        ] {
            let got = cache_control(raw_path, entry_path, content_type, is_image_host);
            assert_eq!(got, want, "{raw_path} for {entry_path}, image's host: {is_image_host}");
        }
    }
}
