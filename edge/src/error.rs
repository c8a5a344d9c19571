//! What can go wrong once it is known which bytes to send, and what the client is told.

use std::sync::Arc;

use pinstone_engine::blob::ReadError;
use pinstone_engine::meta::MetaError;

use crate::pages::Page;

/// Why a published file was not answered. The client learns which of two pages it gets; the log has the rest.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum EdgeError {
    /// A manifest could not be read.
    #[error("a manifest could not be read")]
    Manifest(#[source] Arc<ReadError>),
    /// A blob could not be read.
    #[error("a blob could not be read")]
    Blob(#[source] Arc<ReadError>),
    /// A blob is not as long as its manifest says.
    #[error("a blob has {actual} bytes and its manifest says {expected}")]
    Length { expected: u64, actual: u64 },
    /// The metadata store did not say what an image's host shows.
    #[error("the metadata store did not answer")]
    Meta(#[source] Arc<MetaError>),
    /// The task that reads ended before its time.
    #[error("a read was given up")]
    GivenUp,
}

impl EdgeError {
    /// The page that tells the client.
    pub(crate) fn page(&self) -> Page {
        match self {
            Self::Manifest(error) | Self::Blob(error) => match **error {
                ReadError::Damaged | ReadError::Manifest(_) => Page::Internal,
                // What a store has lost may be back at any time, like the store itself: a client should ask again.
                ReadError::Missing | ReadError::Store(_) | ReadError::Index(_) => Page::Unavailable,
            },
            Self::Length { .. } => Page::Internal,
            Self::Meta(_) | Self::GivenUp => Page::Unavailable,
        }
    }

    /// Writes the error and all its reasons to the log.
    pub(crate) fn report(&self) {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(reason) = next {
            let reason_text = reason.to_string();
            // Some errors repeat what caused them.
            if !text.contains(&reason_text) {
                text.push_str(": ");
                text.push_str(&reason_text);
            }
            next = reason.source();
        }
        tracing::error!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_is_500_and_what_does_not_answer_503() {
        let blob = |error| EdgeError::Blob(Arc::new(error));
        for (error, want) in [
            (blob(ReadError::Missing), 503),
            (blob(ReadError::Damaged), 500),
            (EdgeError::Manifest(Arc::new(ReadError::Damaged)), 500),
            (EdgeError::Length { expected: 1, actual: 2 }, 500),
            (EdgeError::GivenUp, 503),
        ] {
            assert_eq!(error.page().status().code(), want, "{error:?}");
        }
    }
}
