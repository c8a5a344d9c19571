//! Heads that are kept: written out, as HTTP/1 sends them, and by field, as HTTP/2 does. What many have in common is there once
//! beside that; the values that are a file's own lie within what is written out.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::head::{Field, Head};
use crate::request_body::content_length;
use crate::respond;

/// Values of a head that are a file's own: a 200 has four of them.
const OWN: usize = 4;

/// A head that is kept.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct KeptHead {
    /// Its lines. First, with the length, as nothing else of it is looked at over HTTP/1: where there are many files, each line
    /// of memory is one that no core has near.
    lines: Bytes,
    length: Option<u64>,
    shape: Arc<Shape>,
    /// The values that the shape leaves open.
    own: SmallVec<[HeaderValue; OWN]>,
}

impl KeptHead {
    /// Bytes that it takes, with the counts of its users.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + 64 + self.lines.len()
    }

    /// Its fields: those with values of its own first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let own = self.own.iter().map(Some).chain(std::iter::repeat(None));
        self.shape.fields.iter().zip(own).map(|((name, value), own)| (name, own.unwrap_or(value)))
    }

    /// The length of the body that it says, if it says one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Its lines, as HTTP/1 has them.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The same lines.
    pub(super) fn shared_lines(&self) -> Bytes {
        self.lines.clone()
    }
}

/// What heads have in common: all fields, and the values that are known beforehand.
#[derive(Debug)]
struct Shape {
    known: Box<[(Field, Option<&'static str>)]>,
    /// First those whose values are not known, with empty ones.
    fields: Box<[(HeaderName, HeaderValue)]>,
    /// How many these are.
    open: usize,
}

impl Shape {
    fn new(known: Box<[(Field, Option<&'static str>)]>) -> Self {
        let (open, closed): (Vec<_>, Vec<_>) = known.iter().partition(|(_, value)| value.is_none());
        let fields = open.iter().chain(&closed).map(|(field, value)| {
            let value = HeaderValue::from_static(value.unwrap_or_default());
            (respond::name(*field), value)
        });
        let (fields, open) = (fields.collect(), open.len());
        Self { known, fields, open }
    }

    /// A head of this shape, whose own values are those of `head`.
    fn of(self: Arc<Self>, head: &HeaderMap) -> KeptHead {
        let (mut lines, mut own) = (Vec::new(), SmallVec::<[_; OWN]>::new());
        for (at, (name, value)) in self.fields.iter().enumerate() {
            let value = if at < self.open { &head[name] } else { value };
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            let start = lines.len();
            lines.extend_from_slice(value.as_bytes());
            if at < self.open {
                own.push(start..lines.len());
            }
            lines.extend_from_slice(b"\r\n");
        }
        let lines = Bytes::from(lines.into_boxed_slice());
        let own =
            own.into_iter().map(|own| HeaderValue::from_maybe_shared(lines.slice(own)).expect("it was one before"));
        let length = head.get(header::CONTENT_LENGTH).and_then(|value| content_length(value.as_bytes()));
        KeptHead { own: own.collect(), lines, length, shape: self }
    }
}

/// The shapes of all heads that a worker keeps: some dozens, for what is known beforehand are words of the edge's own.
#[derive(Debug, Default)]
pub(crate) struct Shapes(Mutex<Vec<Arc<Shape>>>);

impl Shapes {
    /// Keeps a head.
    pub(super) fn keep(&self, head: Head) -> KeptHead {
        let known: Box<[_]> = head.fields.iter().map(|(field, value)| (*field, respond::known(value))).collect();
        let mut shapes = self.0.lock();
        let same = shapes.iter().find(|shape| shape.known == known).cloned();
        let shape = same.unwrap_or_else(|| {
            let shape = Arc::new(Shape::new(known));
            shapes.push(Arc::clone(&shape));
            shape
        });
        shape.of(&respond::head(head).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Status;

    fn head(etag: &str, cache_control: &'static str) -> Head {
        Head::new(Status::Ok)
            .with(Field::CacheControl, cache_control)
            .with(Field::ETag, etag.to_owned())
            .with(Field::ReprDigest, "none")
            .with(Field::ContentLength, "7".to_owned())
    }

    #[test]
    fn what_is_kept_is_the_head() {
        let shapes = Shapes::default();
        for (etag, cache_control) in [("\"1\"", "no-cache"), ("\"2\"", "no-cache"), ("\"3\"", "no-store")] {
            let (head, expected) = (head(etag, cache_control), respond::head(head(etag, cache_control)).1);
            let kept = shapes.keep(head);
            let fields: HeaderMap = kept.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            assert_eq!((fields, kept.length()), (expected, Some(7)));
            let want =
                format!("etag: {etag}\r\ncontent-length: 7\r\ncache-control: {cache_control}\r\nrepr-digest: none\r\n");
            assert_eq!(std::str::from_utf8(kept.lines()).unwrap(), want);
        }
        assert_eq!(shapes.0.lock().len(), 2, "two differ in their own values alone");
    }

    #[test]
    fn a_head_may_have_no_values_of_its_own_or_no_others() {
        for (fields, want) in [
            (&[][..], ""),
            (&[(Field::Allow, None)], "allow: x\r\n"),
            (&[(Field::Allow, None), (Field::Vary, None)], "allow: x\r\nvary: x\r\n"),
            (&[(Field::Vary, Some("y"))], "vary: y\r\n"),
        ] {
            let mut head = Head::new(Status::Ok);
            for (field, value) in fields {
                head = match value {
                    Some(value) => head.with(*field, *value),
                    None => head.with(*field, "x".to_owned()),
                };
            }
            let kept = Shapes::default().keep(head);
            assert_eq!((std::str::from_utf8(kept.lines()).unwrap(), kept.length()), (want, None));
        }
    }
}
