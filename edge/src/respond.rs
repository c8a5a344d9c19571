//! From a decided answer to one that a connection sends: the only place that makes one.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use smallvec::SmallVec;
use tokio::runtime::Handle;

use crate::answer::Decided;
use crate::body::{Content, EdgeBody, RegionBody, Slices};
use crate::control::ControlBody;
use crate::head::{Body, Field, Head, Status, Value};
use crate::mapped::LargeFiles;
use crate::parts::PartsBody;
use crate::piece::Piece;
use crate::reply::{Reply, ReplyFields};
use crate::source::{OpenFile, Source};
use crate::watch::InFlight;
use crate::windows::Budget;

/// How a file's bytes are sent.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    /// The most bytes of a file that one answer holds in memory.
    pub(crate) window: usize,
    /// What all windows together may take.
    pub(crate) budget: Budget,
    /// Where disks are waited for.
    pub(crate) pool: Handle,
    /// How the bytes of a large file reach the socket.
    pub(crate) large_files: LargeFiles,
    /// The most bytes of a large file that are handed out at once, if not as many as that way takes.
    pub(crate) piece: usize,
}

impl Sending {
    /// The most bytes of a large file that are handed out at once as they lie.
    fn at_once(&self) -> usize {
        self.large_files.at_once().min(self.piece)
    }
}

/// The most bytes in memory that the layer below is given as one piece.
const ONE_PIECE: usize = 512 << 10;

/// Bytes of values that are not known beforehand: what is common lies beside the count of its users.
const VALUES: usize = 128;

const PRINTABLE: &str = "manifests and locations have only printable ASCII";

/// A value that is known beforehand.
pub(crate) fn known(value: &Value) -> Option<&'static str> {
    match value {
        Cow::Borrowed(text) => Some(text),
        Cow::Owned(_) => None,
    }
}

/// Turns a head into what the layer below sends.
pub(crate) fn head(head: Head) -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::with_capacity(head.fields.len());
    // Values that are not known beforehand lie together: who sends a head of many that are kept touches less memory.
    let mut text = SmallVec::<[u8; VALUES]>::new();
    let made = head.fields.iter().filter(|(_, value)| known(value).is_none());
    made.for_each(|(_, value)| text.extend_from_slice(value.as_bytes()));
    let mut made = Bytes::from_owner(text);
    for (field, value) in head.fields {
        let value = match value {
            Cow::Borrowed(text) => HeaderValue::from_static(text),
            Cow::Owned(text) => HeaderValue::from_maybe_shared(made.split_to(text.len())).expect(PRINTABLE),
        };
        headers.append(name(field), value);
    }
    (status(head.status), headers)
}

/// A status as the layer below has it.
pub(crate) fn status(status: Status) -> StatusCode {
    StatusCode::from_u16(status.code()).expect("a status has three digits")
}

/// Adds a field.
pub(crate) fn add(fields: &mut ReplyFields, field: Field, value: Value) {
    let value = match value {
        Cow::Borrowed(text) => HeaderValue::from_static(text),
        Cow::Owned(text) => HeaderValue::try_from(text).expect(PRINTABLE),
    };
    fields.append(name(field), value);
}

/// Says that the answer depends on these fields of the request, beside those that it names already.
pub(crate) fn vary(fields: &mut ReplyFields, names: &'static str) {
    let named = fields.get(&header::VARY).and_then(|named| named.to_str().ok());
    let value = match named {
        Some(named) => HeaderValue::try_from(format!("{named}, {names}")).expect("names of fields are ASCII"),
        None => HeaderValue::from_static(names),
    };
    fields.insert(header::VARY, value);
}

/// Says that the connection ends with this answer.
pub(crate) fn close(fields: &mut ReplyFields) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Says that no search engine shall list what this host shows.
pub(crate) fn forbid_indexing(fields: &mut ReplyFields) {
    const ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");
    fields.insert(ROBOTS_TAG, HeaderValue::from_static("noindex"));
}

/// Puts a decided answer together.
pub(crate) fn reply(decided: Decided, sending: &Sending, in_flight: InFlight) -> Reply {
    let Decided { status, fields, body, source } = decided;
    let content = match (body, source) {
        (Body::Page(page), _) => Content::Bytes(Bytes::from_static(page.html().as_bytes())),
        (Body::File(part), Some(Source::File(file))) => one_piece(&file, &part, sending, &in_flight)
            .unwrap_or_else(|| Content::Region(Box::new(region_body(&file, &part, sending, &in_flight)))),
        (Body::Parts(parts), Some(Source::File(file))) => {
            // Of no bytes yet: the parts are read one after the other, within the same window.
            let window = region_body(&file, &(0..0), sending, &in_flight);
            Content::Parts(Box::new(PartsBody::of_file(parts, file.region.offset, window)))
        }
        (Body::Parts(parts), Some(Source::Memory(whole))) => {
            Content::Parts(Box::new(PartsBody::of_memory(parts, whole.bytes, sending.window)))
        }
        (Body::File(part), Some(Source::Memory(whole))) => {
            let at = |end| usize::try_from(end).expect("a part of what is in memory fits memory");
            let within = at(part.start)..at(part.end);
            let bring_back = |file: &Arc<OpenFile>| {
                let file = Arc::clone(file);
                drop(sending.pool.spawn_blocking(move || file.bring_back()));
            };
            match whole.resident(&within, sending.large_files, bring_back) {
                Some((_, mapped, range)) if range.len() <= sending.at_once() => {
                    Content::Stored(mapped.stored(range, None))
                }
                Some((file, ..)) => Content::Region(Box::new(region_body(file, &part, sending, &in_flight))),
                None if within.len() > ONE_PIECE => {
                    Content::Slices(Box::new(Slices::new(whole.bytes.slice(within), sending.window)))
                }
                // Mostly it is all of it, which need not be counted once more.
                None if within == (0..whole.bytes.len()) => Content::Bytes(whole.bytes),
                None => Content::Bytes(whole.bytes.slice(within)),
            }
        }
        (Body::Empty | Body::File(_) | Body::Parts(_), _) => Content::Empty,
    };
    Reply { status, fields, body: EdgeBody::new(content, in_flight) }
}

/// A part of a file that is in the page cache and can be handed out at once.
fn one_piece(file: &OpenFile, part: &Range<u64>, sending: &Sending, in_flight: &InFlight) -> Option<Content> {
    let part = usize::try_from(part.start).ok()?..usize::try_from(part.end).ok()?;
    if sending.large_files == LargeFiles::Read || part.len() > sending.at_once() {
        return None;
    }
    let (mapped, range) = file.resident(&part)?;
    let stored = mapped.stored(range, Some(in_flight.owed_in_file()));
    Some(Piece::of_file(stored, sending.large_files).into())
}

fn region_body(file: &OpenFile, part: &Range<u64>, sending: &Sending, in_flight: &InFlight) -> RegionBody {
    let budget = match in_flight.connection_windows() {
        Some(connection) => &sending.budget.within(connection),
        None => &sending.budget,
    };
    RegionBody::new(&file.region, part, sending.window, budget, sending.pool.clone()).sent_as(
        sending.large_files,
        sending.at_once(),
        file,
    )
}

/// Passes on an answer of the control plane as it is.
pub(crate) fn forwarded(response: Response<ControlBody>, in_flight: InFlight) -> Reply {
    let (head, body) = response.into_parts();
    Reply { status: head.status, fields: head.headers.into(), body: EdgeBody::new(Content::Control(body), in_flight) }
}

/// The name of a field.
pub(crate) fn name(field: Field) -> HeaderName {
    match field {
        Field::AcceptRanges => header::ACCEPT_RANGES,
        Field::Allow => header::ALLOW,
        Field::CacheControl => header::CACHE_CONTROL,
        Field::ContentEncoding => header::CONTENT_ENCODING,
        Field::ContentLength => header::CONTENT_LENGTH,
        Field::ContentRange => header::CONTENT_RANGE,
        Field::ContentType => header::CONTENT_TYPE,
        Field::ETag => header::ETAG,
        Field::LastModified => header::LAST_MODIFIED,
        Field::Location => header::LOCATION,
        Field::ReprDigest => const { HeaderName::from_static("repr-digest") },
        Field::RetryAfter => header::RETRY_AFTER,
        Field::UnencodedDigest => const { HeaderName::from_static("unencoded-digest") },
        Field::Vary => header::VARY,
        Field::ContentTypeOptions => header::X_CONTENT_TYPE_OPTIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_depends_on_is_one_field() {
        let mut fields = ReplyFields::default();
        for (names, want) in [
            ("Accept-Encoding", "Accept-Encoding"),
            ("Sec-Fetch-Mode, Accept", "Accept-Encoding, Sec-Fetch-Mode, Accept"),
        ] {
            vary(&mut fields, names);
            let all: Vec<_> = fields.iter().filter(|(name, _)| *name == header::VARY).map(|(_, value)| value).collect();
            assert_eq!(all, [want]);
        }
    }
}
