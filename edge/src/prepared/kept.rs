//! Heads that are kept. What many have in common is there once, written out; a file has its own values, and little beside them.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::head::{Field, Head};
use crate::respond;

/// Values of a head that are a file's own: a 200 has four of them.
const OWN: usize = 4;

/// A head that is kept.
#[derive(Debug)]
pub(crate) struct KeptHead {
    shape: Arc<Shape>,
    /// Those that the shape leaves open.
    own: SmallVec<[HeaderValue; OWN]>,
}

impl KeptHead {
    /// Bytes that it takes, with the count of its users and its values.
    pub(super) const WEIGHT: usize = size_of::<Self>() + 216;

    /// Its fields: those with values of its own first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let own = self.own.iter().map(Some).chain(std::iter::repeat(None));
        self.shape.fields.iter().zip(own).map(|((name, value), own)| (name, own.unwrap_or(value)))
    }

    /// The length of the body that it says, if it says one.
    pub(crate) fn length(&self) -> Option<u64> {
        let value = &self.own[self.shape.length?];
        value.to_str().ok()?.parse().ok()
    }

    /// Appends its lines, as HTTP/1 has them.
    pub(crate) fn put_lines(&self, out: &mut Vec<u8>) {
        for (name, value) in self.shape.before.iter().zip(&self.own) {
            out.extend_from_slice(name);
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(&self.shape.behind);
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
    /// Which of them is the length of the body.
    length: Option<usize>,
    /// What is written before the value of each of them, and behind the last.
    before: Box<[Box<[u8]>]>,
    behind: Box<[u8]>,
}

impl Shape {
    fn new(known: Box<[(Field, Option<&'static str>)]>) -> Self {
        let (open, closed): (Vec<_>, Vec<_>) = known.iter().partition(|(_, value)| value.is_none());
        let fields = open.iter().chain(&closed).map(|(field, value)| {
            let value = HeaderValue::from_static(value.unwrap_or_default());
            (respond::name(*field), value)
        });
        let fields: Box<[_]> = fields.collect();
        let open = open.len();
        let length = fields[..open].iter().position(|(name, _)| *name == header::CONTENT_LENGTH);
        let end = |at: usize| if at == 0 { "" } else { "\r\n" };
        let named = fields[..open].iter().enumerate();
        let before = named.map(|(at, (name, _))| format!("{}{name}: ", end(at)).into_bytes().into()).collect();
        let mut behind = end(open).as_bytes().to_vec();
        for (name, value) in &fields[open..] {
            behind.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        Self { known, fields, open, length, before, behind: behind.into() }
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
        let fields = respond::head(head).1;
        let open = shape.fields[..shape.open].iter();
        let own = open.filter_map(|(name, _)| fields.get(name).cloned()).collect();
        KeptHead { shape, own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Status;
    use http::HeaderMap;

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
            let mut lines = Vec::new();
            kept.put_lines(&mut lines);
            let want =
                format!("etag: {etag}\r\ncontent-length: 7\r\ncache-control: {cache_control}\r\nrepr-digest: none\r\n");
            assert_eq!(String::from_utf8(lines).unwrap(), want);
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
            let mut lines = Vec::new();
            let kept = Shapes::default().keep(head);
            kept.put_lines(&mut lines);
            assert_eq!((String::from_utf8(lines).unwrap().as_str(), kept.length()), (want, None));
        }
    }
}
