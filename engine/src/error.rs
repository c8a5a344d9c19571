//! What every operation can fail with: one of the stores below.

use crate::blob::{IndexError, ReadError, is_storage_full};
use crate::meta::MetaError;

/// A store below did not do its part. Nothing was acknowledged; asking again may help.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The metadata store.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The blob index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The object store.
    #[error("the object store failed")]
    Objects(#[from] object_store::Error),
    /// Reading back what is stored.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The same record changed under this operation too many times.
    #[error("too many changes of the same project at once")]
    Contended,
}

impl StoreError {
    /// Whether a disk or a quota is full, so that only freeing space helps.
    #[must_use]
    pub fn is_full(&self) -> bool {
        is_storage_full(self)
    }
}

/// Lets `?` take every store's error into an operation's own.
macro_rules! from_stores {
    ($error:ident) => {
        impl From<$crate::meta::MetaError> for $error {
            fn from(error: $crate::meta::MetaError) -> Self {
                Self::Store(error.into())
            }
        }

        impl From<$crate::blob::IndexError> for $error {
            fn from(error: $crate::blob::IndexError) -> Self {
                Self::Store(error.into())
            }
        }

        impl From<object_store::Error> for $error {
            fn from(error: object_store::Error) -> Self {
                Self::Store(error.into())
            }
        }

        impl From<$crate::blob::ReadError> for $error {
            fn from(error: $crate::blob::ReadError) -> Self {
                Self::Store(error.into())
            }
        }
    };
}
pub(crate) use from_stores;
