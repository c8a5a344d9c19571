//! Many blobs of a plan in one upload, which become one pack.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::{PlanBody, UploadError};
use crate::account::Principal;
use crate::blob::pack::{LARGEST_PACKED, MOST_PACKED};
use crate::blob::{BatchWriter, Digests, Hasher, Packed};
use crate::engine::Engine;
use crate::hash::BlobHash;
use crate::id::PlanId;
use crate::meta::MetaError;

/// Blobs are digested and packed in groups of about this many bytes, or this many of them: what a batch has in memory.
const GROUP_BYTES: usize = 1 << 20;
const GROUP_BLOBS: usize = 1024;

/// One blob of a batch.
#[derive(Clone, Debug)]
pub struct BatchBlob {
    /// What it is announced as.
    pub hash: BlobHash,
    /// Its bytes, at most [`LARGEST_PACKED`].
    pub bytes: Bytes,
}

/// What became of a batch. Everything that is counted here is durable.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many blobs the team has since.
    pub stored: u64,
    /// How many it had already.
    pub already: u64,
    /// The others: their place in the batch, from 0, and why they were not taken. In the order of places.
    pub failed: Vec<(usize, UploadError)>,
}

impl Engine {
    /// Takes a batch of blobs of a plan, durably. A blob that is not what it is announced as is not taken, and the others
    /// are.
    ///
    /// # Errors
    ///
    /// Where nothing of the batch is taken: the plan is not open, the batch is too large, a blob is too large for a batch,
    /// the body breaks off, or a store fails.
    pub async fn upload_batch<S, E>(&self, caller: &Principal, plan: PlanId, blobs: S) -> Result<Batch, UploadError>
    where
        S: Stream<Item = Result<BatchBlob, E>> + Send + Unpin,
        E: Into<UploadError>,
    {
        self.open_plan(caller, plan).await?;
        let mut writer = self.blobs().batch(caller.team);
        match self.fill(&mut writer, plan, blobs).await {
            Ok(batch) => {
                writer.finish().await?;
                Ok(batch)
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    /// Takes group after group. The plan's list of files is large, and a body may take its time: it is asked for with each
    /// group, and not held while the next one arrives.
    async fn fill<S, E>(&self, writer: &mut BatchWriter, plan: PlanId, mut blobs: S) -> Result<Batch, UploadError>
    where
        S: Stream<Item = Result<BatchBlob, E>> + Send + Unpin,
        E: Into<UploadError>,
    {
        let most = self.limits().batch_blobs.min(MOST_PACKED);
        let too_large = || UploadError::BatchTooLarge { blobs: most, size: self.limits().batch_size };
        let mut batch = Batch::default();
        let (mut group, mut group_bytes) = (Vec::new(), 0);
        let (mut count, mut size) = (0, 0);
        while let Some(blob) = blobs.next().await {
            let blob = blob.map_err(Into::into)?;
            let length = blob.bytes.len() as u64;
            if length > LARGEST_PACKED {
                return Err(UploadError::NotForBatch { limit: LARGEST_PACKED });
            }
            size += length;
            if count == most || size > self.limits().batch_size {
                return Err(too_large());
            }
            group_bytes += blob.bytes.len();
            group.push((count, blob));
            count += 1;
            if group_bytes >= GROUP_BYTES || group.len() >= GROUP_BLOBS {
                let body = self.planned(plan).await?;
                add_group(writer, &body, std::mem::take(&mut group), &mut batch).await?;
                group_bytes = 0;
            }
        }
        let body = self.planned(plan).await?;
        add_group(writer, &body, group, &mut batch).await?;
        Ok(batch)
    }
}

/// Packs those of a group that are what they should be.
async fn add_group(
    writer: &mut BatchWriter,
    body: &PlanBody,
    group: Vec<(usize, BatchBlob)>,
    batch: &mut Batch,
) -> Result<(), UploadError> {
    let digested = tokio::task::spawn_blocking(move || {
        let digest = |(index, blob): (usize, BatchBlob)| (index, blob.hash, digests(&blob.bytes), blob.bytes);
        group.into_iter().map(digest).collect::<Vec<_>>()
    });
    let digested = digested.await.map_err(|_| MetaError::Closed)?;
    let mut right = Vec::with_capacity(digested.len());
    for (index, hash, digests, bytes) in digested {
        match check(body, hash, &digests) {
            Ok(()) => right.push((digests, bytes)),
            Err(error) => batch.failed.push((index, error)),
        }
    }
    for packed in writer.add(right).await? {
        match packed {
            Packed::Stored => batch.stored += 1,
            Packed::Already => batch.already += 1,
        }
    }
    Ok(())
}

fn check(body: &PlanBody, hash: BlobHash, digests: &Digests) -> Result<(), UploadError> {
    let planned = body.blobs.get(&hash).ok_or(UploadError::NotPlanned)?;
    if let Some(expected) = planned.size
        && expected != digests.size
    {
        return Err(UploadError::SizeMismatch { expected, actual: digests.size });
    }
    if digests.blake3 == hash { Ok(()) } else { Err(UploadError::HashMismatch) }
}

fn digests(bytes: &[u8]) -> Digests {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;

    use super::*;
    use crate::clock::Clock;
    use crate::manifest::Settings;
    use crate::path::SitePath;
    use crate::plan::{NewPlan, PlannedFile};

    #[tokio::test]
    async fn a_batch_that_waits_for_its_body_holds_no_list_of_files() {
        let engine = Engine::in_memory(Clock::system()).await;
        let owner = engine.owner_principal();
        let blob = |bytes: &'static [u8]| BatchBlob { hash: BlobHash::of(bytes), bytes: Bytes::from_static(bytes) };
        let planned = |(path, bytes): (&str, &[u8])| PlannedFile {
            path: SitePath::new(path).unwrap(),
            blob: BlobHash::of(bytes),
            size: None,
            content_type: None,
        };
        let new = NewPlan {
            project: "demo".parse().unwrap(),
            files: [("a", &b"1"[..]), ("b", &b"2"[..])].map(planned).to_vec(),
            git: None,
            message: None,
            settings: Settings::default(),
        };
        let plan = engine.plan(&owner, new, None).await.unwrap().id;
        let (waits, waiting) = tokio::sync::oneshot::channel();
        let (go_on, told) = tokio::sync::oneshot::channel::<()>();
        let second = stream::once(async move {
            waits.send(()).unwrap();
            told.await.unwrap();
            Ok(blob(b"2"))
        });
        let blobs = Box::pin(stream::iter([Ok::<_, UploadError>(blob(b"1"))]).chain(second));
        let uploading = {
            let engine = engine.clone();
            tokio::spawn(async move { engine.upload_batch(&owner, plan, blobs).await })
        };
        waiting.await.unwrap();
        let list = engine.plan_bodies().get(&plan).await.unwrap();
        assert_eq!(Arc::strong_count(&list), 2, "the cache's and this test's");
        go_on.send(()).unwrap();
        assert_eq!(uploading.await.unwrap().unwrap().stored, 2);
    }
}
