//! Heads that are kept. What many have in common is there once; a file has its own values, and little beside them.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::head::{Field, Head, Value};
use crate::respond;

/// Values of a head that are a file's own: a 200 has four of them.
const OWN: usize = 4;

/// A head that is kept.
#[derive(Debug)]
pub(super) struct KeptHead {
    shape: Arc<Shape>,
    /// Those that the shape leaves open.
    own: SmallVec<[HeaderValue; OWN]>,
}

impl KeptHead {
    /// Bytes that it takes beyond its own size.
    pub(super) const WEIGHT: usize = 200;

    /// The head's fields.
    pub(super) fn fields(&self) -> HeaderMap {
        let mut fields = self.shape.fields.clone();
        let mut own = self.own.iter();
        // A copy of a map has its order.
        for (value, is_open) in fields.values_mut().zip(&self.shape.is_open) {
            if *is_open && let Some(own) = own.next() {
                value.clone_from(own);
            }
        }
        fields
    }
}

/// What heads have in common: all fields, and the values that are known beforehand.
#[derive(Debug)]
struct Shape {
    known: Box<[(Field, Option<&'static str>)]>,
    /// Where a value is not known, an empty one.
    fields: HeaderMap,
    /// Which values are not known, in the order of the map.
    is_open: Box<[bool]>,
}

impl Shape {
    /// The shape of a head with `fields`.
    fn new(known: Box<[(Field, Option<&'static str>)]>, mut fields: HeaderMap) -> Self {
        let is_open =
            |name: &HeaderName| known.iter().any(|(field, value)| value.is_none() && respond::name(*field) == name);
        let is_open: Box<[bool]> = fields.keys().map(is_open).collect();
        for (value, is_open) in fields.values_mut().zip(&is_open) {
            if *is_open {
                *value = HeaderValue::from_static("");
            }
        }
        // A copy, for that has no more room than it takes.
        Self { known, fields: fields.clone(), is_open }
    }
}

/// The shapes of all heads that a worker keeps: some dozens, for what is known beforehand are words of the edge's own.
#[derive(Debug, Default)]
pub(crate) struct Shapes(Mutex<Vec<Arc<Shape>>>);

impl Shapes {
    /// Keeps a head.
    pub(super) fn keep(&self, head: Head) -> KeptHead {
        let known: Box<[_]> = head.fields.iter().map(|(field, value)| (*field, known(value))).collect();
        let fields = respond::head(head).1;
        let mut shapes = self.0.lock();
        let same = shapes.iter().find(|shape| shape.known == known).cloned();
        let shape = same.unwrap_or_else(|| {
            let shape = Arc::new(Shape::new(known, fields.clone()));
            shapes.push(Arc::clone(&shape));
            shape
        });
        let own = fields.values().zip(&shape.is_open).filter(|(_, is_open)| **is_open).map(|(value, _)| value.clone());
        KeptHead { own: own.collect(), shape }
    }
}

fn known(value: &Value) -> Option<&'static str> {
    match value {
        Cow::Borrowed(text) => Some(text),
        Cow::Owned(_) => None,
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
            assert_eq!(kept.fields(), expected);
            assert!(kept.fields().iter().eq(expected.iter()), "in the same order");
        }
        assert_eq!(shapes.0.lock().len(), 2, "two differ in their own values alone");
    }
}
