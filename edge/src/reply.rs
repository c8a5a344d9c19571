//! An answer as it is handed to a connection, of either protocol.

use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::body::EdgeBody;
use crate::prepared::KeptHead;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: ReplyFields,
    pub(crate) body: EdgeBody,
}

/// The fields of an answer: those of a head that is kept, which stay where they are, and behind them those that it has of its
/// own.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplyFields {
    kept: Option<Arc<KeptHead>>,
    /// Nothing where there are none, as mostly. Boxed: an answer is moved several times on its way.
    own: Option<Box<HeaderMap>>,
}

impl From<HeaderMap> for ReplyFields {
    fn from(own: HeaderMap) -> Self {
        Self { kept: None, own: Some(Box::new(own)) }
    }
}

impl From<Arc<KeptHead>> for ReplyFields {
    fn from(kept: Arc<KeptHead>) -> Self {
        Self { kept: Some(kept), own: None }
    }
}

impl ReplyFields {
    /// The head that is kept, where there is one, and the fields behind it.
    pub(crate) fn parts(&self) -> (Option<&KeptHead>, Option<&HeaderMap>) {
        (self.kept.as_deref(), self.own.as_deref())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.kept.iter().flat_map(|kept| kept.iter()).chain(self.own.iter().flat_map(|own| own.iter()))
    }

    /// All of them, as one map.
    pub(crate) fn map(&self) -> HeaderMap {
        self.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The first value of a field.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Adds a field, whether there is one of that name or not.
    pub(crate) fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.own_mut().append(name, value);
    }

    /// Sets a field, in place of any of that name.
    pub(crate) fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        if self.kept.as_ref().is_some_and(|kept| kept.iter().any(|(known, _)| *known == name)) {
            (self.own, self.kept) = (Some(Box::new(self.map())), None);
        }
        self.own_mut().insert(name, value);
    }

    fn own_mut(&mut self) -> &mut HeaderMap {
        self.own.get_or_insert_default()
    }
}
