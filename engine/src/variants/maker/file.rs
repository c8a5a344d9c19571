//! One file, read, checked and encoded.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;

use crate::blob::{BlobStore, Digests, Hasher, NewVariant, ReadError};
use crate::coding::Coding;
use crate::error::StoreError;
use crate::hash::BlobHash;
use crate::meta::MetaError;
use crate::variants::desk::Desk;
use crate::variants::encode;
use crate::variants::workers::Workers;

/// A file that is to be encoded.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) identity: BlobHash,
    pub(super) size: u64,
    /// In what, and whether there is a row of a variant that is not stored any more.
    pub(super) codings: Vec<(Coding, bool)>,
}

/// A file that was encoded.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) identity: BlobHash,
    pub(super) made: Vec<NewVariant>,
    pub(super) processor_time: Duration,
}

impl Encoded {
    /// Bytes of what is to be kept.
    pub(super) fn bytes(&self) -> usize {
        self.made.iter().filter_map(|made| made.kept.as_ref()).map(|(_, bytes)| bytes.len()).sum()
    }
}

/// What came of one coding: bytes that are worth keeping, or none.
type Kept = Option<(Digests, Bytes)>;

enum Worked {
    Done(Vec<Kept>),
    /// The bytes are not those that their name says.
    Damaged,
    /// The workers are to end.
    Stopped,
}

/// Encodes a file. Nothing where its bytes cannot be had.
pub(super) async fn encode(
    blobs: BlobStore,
    workers: Arc<Workers>,
    desk: Arc<Desk>,
    missing: Missing,
) -> Result<Option<Encoded>, StoreError> {
    let Missing { identity, size, codings } = missing;
    let mut processor_time = Duration::ZERO;
    loop {
        let bytes = match blobs.read(&identity).await {
            Ok(bytes) => bytes,
            Err(ReadError::Missing | ReadError::Damaged) => return Ok(not_readable()),
            Err(error) => return Err(error.into()),
        };
        let wanted: Vec<Coding> = codings.iter().map(|(coding, _)| *coding).collect();
        let worked = workers.run(move |stop| encode_all(&identity, &bytes, &wanted, stop)).await;
        let (worked, time) = worked.ok_or(MetaError::Closed)?;
        processor_time += time;
        desk.counters().add_time(time);
        match worked {
            Worked::Stopped => return Err(MetaError::Closed.into()),
            // The store may have it right.
            Worked::Damaged if blobs.forget_cached(&identity).await => {}
            Worked::Damaged => return Ok(not_readable()),
            Worked::Done(kept) => {
                desk.counters().add_encoded(size);
                let made = codings.into_iter().zip(kept).map(|((coding, replaces), kept)| {
                    desk.counters().add_variant(coding, kept.as_ref().map(|(digests, _)| digests.size));
                    NewVariant { key: (identity, coding), kept, replaces }
                });
                return Ok(Some(Encoded { identity, made: made.collect(), processor_time }));
            }
        }
    }
}

fn not_readable() -> Option<Encoded> {
    tracing::warn!("a file that is missing or damaged has no variants; `pinstone fsck` says which it is");
    None
}

fn encode_all(identity: &BlobHash, bytes: &[u8], codings: &[Coding], stop: &AtomicBool) -> Worked {
    // What is sent under a coding must be what was published, so what is encoded is looked at before.
    if BlobHash::of(bytes) != *identity {
        return Worked::Damaged;
    }
    let mut all = Vec::with_capacity(codings.len());
    for &coding in codings {
        // Anybody may publish what upsets an encoder.
        let encoded = panic::catch_unwind(AssertUnwindSafe(|| encode::encode(coding, bytes, stop)));
        let kept = match encoded {
            Ok(Ok(None)) => return Worked::Stopped,
            Ok(Ok(Some(encoded))) => keep(identity, bytes.len() as u64, coding, encoded),
            Ok(Err(error)) => {
                tracing::error!(%error, %coding, "a file could not be encoded; it is sent as it is");
                None
            }
            Err(_) => {
                tracing::error!(%coding, "an encoder panicked; the file is sent as it is");
                None
            }
        };
        all.push(kept);
    }
    Worked::Done(all)
}

fn keep(identity: &BlobHash, size: u64, coding: Coding, encoded: Vec<u8>) -> Kept {
    if !encode::is_worth_keeping(size, encoded.len() as u64) {
        return None;
    }
    // Decoding is quick beside encoding, and so no fault of an encoder ever reaches a visitor.
    let decoded = panic::catch_unwind(|| encode::decoded_digest(coding, &encoded, size));
    if !matches!(decoded, Ok(Ok(digest)) if digest == *identity) {
        tracing::error!(%coding, "a file was encoded wrongly; it is sent as it is");
        return None;
    }
    let mut hasher = Hasher::default();
    hasher.update(&encoded);
    // Without the room that the encoder had in reserve.
    Some((hasher.finish(), encoded.into_boxed_slice().into()))
}
