//! The head of an answer: its status, its fields, and which bytes follow. Pure.
//!
//! Every answer of a site is decided here, in types of our own; `respond.rs` turns it into what the layer below sends.
//! Framing and `Date` are that layer's.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use crate::conditional::ETag;
use crate::encoding::Accepted;
use crate::entity::{Asked, Decision, Entity, Published, Representation};
use crate::multipart::{self, Multipart};
use crate::pages::Page;
use crate::request::Method;

/// A status that the edge answers with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub enum Status {
    /// 200.
    Ok = 200,
    /// 204.
    NoContent = 204,
    /// 206.
    PartialContent = 206,
    /// 304.
    NotModified = 304,
    /// 308.
    PermanentRedirect = 308,
    /// 400.
    BadRequest = 400,
    /// 403.
    Forbidden = 403,
    /// 404.
    NotFound = 404,
    /// 405.
    MethodNotAllowed = 405,
    /// 410.
    Gone = 410,
    /// 412.
    PreconditionFailed = 412,
    /// 414.
    UriTooLong = 414,
    /// 416.
    RangeNotSatisfiable = 416,
    /// 421.
    Misdirected = 421,
    /// 431.
    FieldsTooLarge = 431,
    /// 500.
    Internal = 500,
    /// 503.
    Unavailable = 503,
}

impl Status {
    /// The three digits.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }
}

/// A field that the edge sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field {
    /// `Accept-Ranges`.
    AcceptRanges,
    /// `Allow`.
    Allow,
    /// `Cache-Control`.
    CacheControl,
    /// `Content-Encoding`.
    ContentEncoding,
    /// `Content-Length`.
    ContentLength,
    /// `Content-Range`.
    ContentRange,
    /// `Content-Type`.
    ContentType,
    /// `ETag`.
    ETag,
    /// `Last-Modified`.
    LastModified,
    /// `Location`.
    Location,
    /// `Repr-Digest`.
    ReprDigest,
    /// `Retry-After`.
    RetryAfter,
    /// `Unencoded-Digest`.
    UnencodedDigest,
    /// `Vary`.
    Vary,
    /// `X-Content-Type-Options`.
    ContentTypeOptions,
}

/// A field's value.
pub type Value = Cow<'static, str>;

/// Status and fields of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// The status.
    pub status: Status,
    /// The fields, each at most once, in the order they are sent.
    pub fields: Vec<(Field, Value)>,
}

/// What `Allow` says.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

impl Head {
    /// A head without fields.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self { status, fields: Vec::with_capacity(12) }
    }

    /// The same with one field more.
    #[must_use]
    pub fn with(mut self, field: Field, value: impl Into<Value>) -> Self {
        self.fields.push((field, value.into()));
        self
    }

    /// The value of `field`, where it is there.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<&str> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| &**value)
    }

    fn with_content(self, content_type: impl Into<Value>, length: u64) -> Self {
        self.with_type(content_type).with(Field::ContentLength, length.to_string())
    }

    fn with_type(self, content_type: impl Into<Value>) -> Self {
        self.with(Field::ContentType, content_type).with(Field::ContentTypeOptions, "nosniff")
    }
}

/// What to send: a head, and then something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The head.
    pub head: Head,
    /// What follows the head.
    pub body: Body,
}

/// What follows a head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// These bytes of the file, in the form that was selected.
    File(Range<u64>),
    /// Several parts of the file, and what stands between them.
    Parts(Multipart),
    /// A built-in page.
    Page(Page),
}

/// Answers a GET or HEAD for a file that exists: 200, 206, 304, 412 or 416. Beside the answer comes the form of the file
/// that it speaks of.
#[must_use]
pub fn file(method: Method, asked: &Asked<'_>, entity: &Entity<'_>) -> (Answer, Representation) {
    let (representation, decision) = entity.decide(method, asked);
    (decided(method, entity, &representation, decision), representation)
}

/// The answer that a decision about a file is carried out by.
#[must_use]
pub fn decided(method: Method, entity: &Entity<'_>, representation: &Representation, decision: Decision) -> Answer {
    let (content_type, length) = (entity.published.content_type, representation.length);
    let etag = ETag::of(&representation.blob);
    let head = |status| with_validators(Head::new(status), entity, &etag);
    let (head, body) = match decision {
        Decision::Whole => (with_form(head(Status::Ok), content_type, representation), Body::File(0..length)),
        Decision::Part(part) => {
            let mut head = of_parts(entity, representation);
            head.fields.extend(of_part(&part, length));
            return Answer { head, body: sent(method, Body::File(part)) };
        }
        Decision::Parts(parts) => {
            let parts = Multipart::new(etag.opaque(), content_type, length, parts);
            let head = head(Status::PartialContent).with_content(parts.content_type.clone(), parts.content_length());
            (head, Body::Parts(parts))
        }
        Decision::NotModified => return Answer { head: head(Status::NotModified), body: Body::Empty },
        Decision::PreconditionFailed => return page(method, Page::PreconditionFailed),
        Decision::Unsatisfiable => {
            let mut answer = page(method, Page::RangeNotSatisfiable);
            answer.head = answer.head.with(Field::ContentRange, format!("bytes */{length}"));
            return answer;
        }
    };
    Answer { head: head.with(Field::AcceptRanges, "bytes"), body: sent(method, body) }
}

/// What the heads of all answers with one part of `representation` have in common.
#[must_use]
pub fn of_parts(entity: &Entity<'_>, representation: &Representation) -> Head {
    with_validators(Head::new(Status::PartialContent), entity, &ETag::of(&representation.blob))
        .with_type(entity.published.content_type.to_owned())
        .with(Field::AcceptRanges, "bytes")
}

/// What a head says of the one part of `length` bytes that its answer has.
#[must_use]
pub fn of_part(part: &Range<u64>, length: u64) -> [(Field, Value); 2] {
    let bytes = (part.end - part.start).to_string();
    [(Field::ContentLength, bytes.into()), (Field::ContentRange, multipart::content_range(part, length).into())]
}

/// What of a body is sent: nothing of one that has no bytes, or that is asked about by HEAD.
fn sent(method: Method, body: Body) -> Body {
    match body {
        Body::File(part) if part.is_empty() => Body::Empty,
        _ if method == Method::Head => Body::Empty,
        body => body,
    }
}

/// The body of an answer that has all of a form.
#[must_use]
pub fn whole(method: Method, representation: &Representation) -> Body {
    sent(method, Body::File(0..representation.length))
}

/// What a 200, 206 and 304 have in common.
fn with_validators(head: Head, entity: &Entity<'_>, etag: &ETag) -> Head {
    // What lies in the future is sent as now (RFC 9110 section 8.8.2.1), and compared as it is: so a client that got a
    // date early is sent the file again, never told that it has it.
    let date = UNIX_EPOCH + Duration::from_secs(entity.last_modified.min(entity.now));
    let head = head
        .with(Field::CacheControl, entity.cache_control)
        .with(Field::ETag, etag.as_str().to_owned())
        .with(Field::LastModified, httpdate::fmt_http_date(date));
    with_vary(head, &entity.published)
}

fn with_vary(head: Head, published: &Published<'_>) -> Head {
    if published.varies() { head.with(Field::Vary, "Accept-Encoding") } else { head }
}

/// All of a form.
fn with_form(head: Head, content_type: &str, representation: &Representation) -> Head {
    let head = match representation.coding {
        Some(coding) => head.with(Field::ContentEncoding, coding.token()),
        None => head,
    };
    head.with_content(content_type.to_owned(), representation.length)
}

/// Answers a miss with a page of the site, in the form that is accepted best; that comes beside the answer. It has no
/// validators: the same bytes under another path are a page.
#[must_use]
pub fn not_found(method: Method, accepted: &Accepted, page: &Published<'_>) -> (Answer, Representation) {
    let representation = page.negotiate(accepted);
    let head = with_vary(Head::new(Status::NotFound).with(Field::CacheControl, "no-cache"), page);
    let head = with_form(head, page.content_type, &representation);
    (Answer { head, body: whole(method, &representation) }, representation)
}

/// Sends the client to `location`, a path of the same host. It does not stick: five minutes, then it is asked again.
#[must_use]
pub fn redirect(location: String) -> Answer {
    let head = Head::new(Status::PermanentRedirect)
        .with(Field::Location, location)
        .with(Field::CacheControl, "max-age=300")
        .with(Field::ContentLength, "0");
    Answer { head, body: Body::Empty }
}

/// Answers OPTIONS.
#[must_use]
pub fn options() -> Answer {
    Answer { head: Head::new(Status::NoContent).with(Field::Allow, ALLOWED), body: Body::Empty }
}

/// Answers with a built-in page.
#[must_use]
pub fn page(method: Method, page: Page) -> Answer {
    let status = page.status();
    let cache_control = match status {
        Status::NotFound | Status::Gone => "no-cache",
        _ => "no-store",
    };
    let mut head = Head::new(status)
        .with(Field::CacheControl, cache_control)
        .with_content("text/html; charset=utf-8", page.html().len() as u64);
    match status {
        Status::MethodNotAllowed => head = head.with(Field::Allow, ALLOWED),
        Status::Unavailable => head = head.with(Field::RetryAfter, "5"),
        _ => {}
    }
    Answer { head, body: if method == Method::Head { Body::Empty } else { Body::Page(page) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditional::Preconditions;
    use crate::entity::REVALIDATE;
    use pinstone_engine::coding::Variants;
    use pinstone_engine::hash::BlobHash;

    const TAG: &str = "\"1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn entity(length: u64) -> Entity<'static> {
        let (blob, variants) = (BlobHash::from_bytes([0x1f; 32]), Variants::default());
        let published = Published { content_type: "text/css; charset=utf-8", blob, length, variants };
        Entity { published, last_modified: 784_111_777, now: 784_111_777, cache_control: REVALIDATE }
    }

    fn file(method: Method, asked: &Preconditions<'_>, range: Option<&[u8]>, entity: &Entity<'_>) -> Answer {
        let asked = Asked { preconditions: asked, range, accepted: Accepted::default() };
        super::file(method, &asked, entity).0
    }

    fn fields(head: &Head) -> Vec<(Field, &str)> {
        head.fields.iter().map(|(field, value)| (*field, &**value)).collect()
    }

    #[test]
    fn a_file_has_all_its_fields() {
        let get = file(Method::Get, &Preconditions::default(), None, &entity(10));
        assert_eq!(get.head.status, Status::Ok);
        assert_eq!(get.body, Body::File(0..10));
        assert_eq!(
            fields(&get.head),
            [
                (Field::CacheControl, "public, max-age=0, must-revalidate"),
                (Field::ETag, TAG),
                (Field::LastModified, DATE),
                (Field::ContentType, "text/css; charset=utf-8"),
                (Field::ContentTypeOptions, "nosniff"),
                (Field::ContentLength, "10"),
                (Field::AcceptRanges, "bytes"),
            ]
        );
        let head = file(Method::Head, &Preconditions::default(), Some(b"bytes=0-1"), &entity(10));
        assert_eq!((head.head, head.body), (get.head, Body::Empty), "HEAD is GET without the body, and without ranges");
        assert_eq!(file(Method::Get, &Preconditions::default(), None, &entity(0)).body, Body::Empty);
    }

    #[test]
    fn a_304_carries_what_a_cache_updates() {
        let asked = Preconditions { if_none_match: vec![TAG.as_bytes()], ..Preconditions::default() };
        let answer = file(Method::Get, &asked, Some(b"bytes=99-"), &entity(10));
        assert_eq!(answer.head.status, Status::NotModified);
        assert_eq!(answer.body, Body::Empty);
        assert_eq!(
            fields(&answer.head),
            [
                (Field::CacheControl, "public, max-age=0, must-revalidate"),
                (Field::ETag, TAG),
                (Field::LastModified, DATE),
            ]
        );
    }

    #[test]
    fn ranges_and_if_range() {
        let parts = |ranges: &[Range<u64>]| {
            Body::Parts(Multipart::new(TAG.trim_matches('"'), "text/css; charset=utf-8", 10, ranges.to_vec()))
        };
        for (range, if_range, status, body, content_range) in [
            ("bytes=2-5", None, Status::PartialContent, Body::File(2..6), Some("bytes 2-5/10")),
            ("bytes=-1", None, Status::PartialContent, Body::File(9..10), Some("bytes 9-9/10")),
            ("bytes=0-", None, Status::PartialContent, Body::File(0..10), Some("bytes 0-9/10")),
            ("bytes=2-5", Some(TAG), Status::PartialContent, Body::File(2..6), Some("bytes 2-5/10")),
            ("bytes=2-5", Some(DATE), Status::PartialContent, Body::File(2..6), Some("bytes 2-5/10")),
            ("bytes=2-5", Some("\"beef\""), Status::Ok, Body::File(0..10), None),
            ("bytes=99-", Some("\"beef\""), Status::Ok, Body::File(0..10), None),
            ("bytes=0-1,2-4", None, Status::PartialContent, Body::File(0..5), Some("bytes 0-4/10")),
            ("bytes=0-1,12-14", None, Status::PartialContent, Body::File(0..2), Some("bytes 0-1/10")),
            ("bytes=0-1,3-4", Some("\"beef\""), Status::Ok, Body::File(0..10), None),
            ("bytes=0-1,3-", Some(TAG), Status::PartialContent, parts(&[0..2, 3..10]), None),
            ("nonsense", None, Status::Ok, Body::File(0..10), None),
            ("bytes=10-", None, Status::RangeNotSatisfiable, Body::Page(Page::RangeNotSatisfiable), Some("bytes */10")),
        ] {
            let asked = Preconditions { if_range: if_range.map(str::as_bytes), ..Preconditions::default() };
            let answer = file(Method::Get, &asked, Some(range.as_bytes()), &entity(10));
            let what = format!("Range: {range}, If-Range: {if_range:?}");
            assert_eq!(answer.head.status, status, "{what}");
            assert_eq!(answer.body, body, "{what}");
            assert_eq!(answer.head.get(Field::ContentRange), content_range, "{what}");
            let length = match answer.body {
                Body::File(part) => part.end - part.start,
                Body::Parts(parts) => {
                    assert_eq!(answer.head.get(Field::ContentType), Some(&*parts.content_type), "{what}");
                    parts.content_length()
                }
                _ => continue,
            };
            assert_eq!(answer.head.get(Field::ContentLength), Some(&*length.to_string()), "{what}");
        }
    }

    #[test]
    fn answers_without_a_file() {
        let own_page = Published { content_type: "text/html", ..entity(7).published };
        let (missing, _) = not_found(Method::Head, &Accepted::default(), &own_page);
        assert_eq!(missing.body, Body::Empty);
        assert_eq!(
            fields(&missing.head),
            [
                (Field::CacheControl, "no-cache"),
                (Field::ContentType, "text/html"),
                (Field::ContentTypeOptions, "nosniff"),
                (Field::ContentLength, "7"),
            ]
        );
        let moved = redirect("/a/?b".to_owned());
        assert_eq!(moved.head.status.code(), 308);
        assert_eq!(
            fields(&moved.head),
            [(Field::Location, "/a/?b"), (Field::CacheControl, "max-age=300"), (Field::ContentLength, "0")]
        );
        assert_eq!(page(Method::Get, Page::Method).head.get(Field::Allow), Some("GET, HEAD, OPTIONS"));
        assert_eq!(page(Method::Get, Page::Unavailable).head.get(Field::RetryAfter), Some("5"));
        assert_eq!(page(Method::Get, Page::Expired).head.get(Field::CacheControl), Some("no-cache"));
        let protected = page(Method::Get, Page::Protected).head;
        assert_eq!((protected.status.code(), protected.get(Field::CacheControl)), (403, Some("no-store")));
        assert_eq!(fields(&options().head), [(Field::Allow, "GET, HEAD, OPTIONS")]);
    }

    #[test]
    fn a_date_is_never_in_the_future() {
        for (now, sent, status) in [
            (784_111_778, DATE, Status::NotModified),
            (784_111_777, DATE, Status::NotModified),
            (784_111_776, "Sun, 06 Nov 1994 08:49:36 GMT", Status::Ok),
        ] {
            let entity = Entity { now, ..entity(1) };
            let first = file(Method::Get, &Preconditions::default(), None, &entity);
            assert_eq!(first.head.get(Field::LastModified), Some(sent), "at {now}");
            let asked = Preconditions { if_modified_since: Some(sent.as_bytes()), ..Preconditions::default() };
            assert_eq!(file(Method::Get, &asked, None, &entity).head.status, status, "at {now}");
        }
    }
}
