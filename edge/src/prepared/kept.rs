//! Heads that are kept. What many have in common is there once; a file has its own values, and little beside them.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::head::{Field, Head};
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

    /// The head's fields: those with values of its own first.
    pub(super) fn fields(&self) -> HeaderMap {
        let mut fields = self.shape.fields.clone();
        fields.values_mut().zip(&self.own).for_each(|(value, own)| value.clone_from(own));
        fields
    }
}

/// What heads have in common: all fields, and the values that are known beforehand.
#[derive(Debug)]
struct Shape {
    known: Box<[(Field, Option<&'static str>)]>,
    /// First those whose values are not known, with empty ones.
    fields: HeaderMap,
    /// How many these are.
    open: usize,
}

impl Shape {
    fn new(known: Box<[(Field, Option<&'static str>)]>) -> Self {
        let mut fields = HeaderMap::with_capacity(known.len());
        let (open, closed): (Vec<_>, Vec<_>) = known.iter().partition(|(_, value)| value.is_none());
        for (field, value) in open.iter().chain(&closed) {
            fields.append(respond::name(*field), HeaderValue::from_static(value.unwrap_or_default()));
        }
        let open = open.len();
        debug_assert!(
            fields.values().take(open).all(HeaderValue::is_empty),
            "a map has the order of what it is made of"
        );
        Self { known, fields, open }
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
        let own = shape.fields.keys().take(shape.open).filter_map(|name| fields.get(name).cloned()).collect();
        KeptHead { shape, own }
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
        }
        assert_eq!(shapes.0.lock().len(), 2, "two differ in their own values alone");
    }
}
