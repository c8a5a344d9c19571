//! From a decided answer to a response of the layer below: the only place that builds one.

use std::ops::Range;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use pinstone_engine::blob::{BlobSource, FileRegion};
use tokio::runtime::Handle;

use crate::body::{Content, EdgeBody, RegionBody};
use crate::control::ControlBody;
use crate::head::{Body, Field, Head};
use crate::parts::PartsBody;
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
}

/// Builds the response. `source` has the bytes that `body` speaks of, where it speaks of a file.
pub(crate) fn response(
    head: Head,
    body: Body,
    source: Option<&BlobSource>,
    sending: &Sending,
    in_flight: InFlight,
) -> Response<EdgeBody> {
    let content = match (body, source) {
        (Body::Page(page), _) => Content::Bytes(Bytes::from_static(page.html().as_bytes())),
        (Body::File(part), Some(BlobSource::File(region))) => {
            Content::Region(region_body(region, &part, sending, &in_flight))
        }
        (Body::Parts(parts), Some(BlobSource::File(region))) => {
            // Of no bytes yet: the parts are read one after the other, within the same window.
            let window = region_body(region, &(0..0), sending, &in_flight);
            Content::Parts(Box::new(PartsBody::of_file(parts, region.offset, window)))
        }
        (Body::Parts(parts), Some(BlobSource::Memory(bytes))) => {
            Content::Parts(Box::new(PartsBody::of_memory(parts, bytes.clone())))
        }
        (Body::File(part), Some(BlobSource::Memory(bytes))) => {
            let at = |end| usize::try_from(end).expect("a part of what is in memory fits memory");
            Content::Bytes(bytes.slice(at(part.start)..at(part.end)))
        }
        (Body::Empty | Body::File(_) | Body::Parts(_), _) => Content::Empty,
    };
    let mut response = Response::new(EdgeBody::new(content, in_flight));
    *response.status_mut() = StatusCode::from_u16(head.status.code()).expect("a status has three digits");
    let headers = response.headers_mut();
    headers.reserve(head.fields.len());
    for (field, value) in head.fields {
        let value = match value {
            std::borrow::Cow::Borrowed(text) => HeaderValue::from_static(text),
            std::borrow::Cow::Owned(text) => {
                HeaderValue::try_from(text).expect("manifests and locations have only printable ASCII")
            }
        };
        headers.append(name(field), value);
    }
    response
}

fn region_body(region: &FileRegion, part: &Range<u64>, sending: &Sending, in_flight: &InFlight) -> RegionBody {
    let budget = match in_flight.connection_windows() {
        Some(connection) => &sending.budget.within(connection),
        None => &sending.budget,
    };
    RegionBody::new(region, part, sending.window, budget, sending.pool.clone())
}

/// Passes on an answer of the control plane as it is.
pub(crate) fn forwarded(response: Response<ControlBody>, in_flight: InFlight) -> Response<EdgeBody> {
    response.map(|body| EdgeBody::new(Content::Control(body), in_flight))
}

fn name(field: Field) -> HeaderName {
    match field {
        Field::AcceptRanges => header::ACCEPT_RANGES,
        Field::Allow => header::ALLOW,
        Field::CacheControl => header::CACHE_CONTROL,
        Field::Connection => header::CONNECTION,
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
        Field::RobotsTag => const { HeaderName::from_static("x-robots-tag") },
    }
}
