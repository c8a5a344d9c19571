//! Storing many small objects at the price of one sync.
//!
//! A store in a local folder syncs each object, which is what one upload needs and what a hundred thousand cannot
//! afford. Here the objects are written without, then their file system is synced once, and only then does the index
//! name them: the order is that of a single blob.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use super::{BlobRecord, BlobState, BlobStore, Digests, IndexWrite, Location, blob_path, manifest_path};
use crate::error::StoreError;
use crate::hash::{BlobHash, ManifestId};
use crate::id::TeamId;
use crate::meta::MetaError;

/// Objects written at a time.
const AT_ONCE: usize = 32;

/// A local folder's objects, written without a sync of their own.
#[derive(Clone, Debug)]
pub(crate) struct Unsynced {
    objects: Arc<dyn ObjectStore>,
    /// Open from before the first write on, so that no failed write stays unnoticed (Linux 5.8 and later report it).
    folder: Arc<File>,
}

impl Unsynced {
    /// `objects` are the files below `folder`.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, folder: File) -> Self {
        Self { objects, folder: Arc::new(folder) }
    }

    async fn sync(&self) -> Result<(), StoreError> {
        let folder = Arc::clone(&self.folder);
        let synced = tokio::task::spawn_blocking(move || rustix::fs::syncfs(&*folder)).await;
        synced.map_err(|_| MetaError::Closed)?.map_err(|errno| {
            let source = Box::new(std::io::Error::from(errno));
            StoreError::Objects(object_store::Error::Generic { store: "LocalFileSystem", source })
        })
    }
}

impl BlobStore {
    /// Lets [`BlobStore::put_all`] write objects without a sync for each.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn with_unsynced(mut self, unsynced: Unsynced) -> Self {
        self.unsynced = Some(unsynced);
        self
    }

    /// Stores blobs of `team`, with what is known of their bytes, and manifests. All of them are durable when it returns.
    ///
    /// # Errors
    ///
    /// Where a store fails. Some objects may be there then, and nothing names them.
    pub(crate) async fn put_all(
        &self,
        team: TeamId,
        blobs: Vec<(Digests, Bytes)>,
        manifests: Vec<(ManifestId, Bytes)>,
    ) -> Result<(), StoreError> {
        let hashes: Vec<BlobHash> = blobs.iter().map(|(digests, _)| digests.blake3).collect();
        let known = self.index.get(&hashes).await?;
        let is_live = |record: &Option<BlobRecord>| record.is_some_and(|record| record.state == BlobState::Live);
        let mut writes: Vec<_> = hashes.into_iter().map(|hash| IndexWrite::Own { team, hash }).collect();
        let mut objects: Vec<(ObjectPath, Bytes)> = Vec::with_capacity(blobs.len() + manifests.len());
        for ((digests, bytes), _) in blobs.into_iter().zip(&known).filter(|(_, record)| !is_live(record)) {
            let hash = digests.blake3;
            writes.push(IndexWrite::Put { hash, record: BlobRecord::stored(Location::Single, &digests) });
            objects.push((blob_path(&hash), bytes));
        }
        objects.extend(manifests.into_iter().map(|(id, bytes)| (manifest_path(&id), bytes)));

        let store = self.unsynced.as_ref().map_or(&self.objects, |unsynced| &unsynced.objects);
        stream::iter(objects)
            .map(|(path, bytes)| async move { store.put(&path, PutPayload::from(bytes)).await })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        if let Some(unsynced) = &self.unsynced {
            unsynced.sync().await?;
        }
        if !writes.is_empty() {
            self.index.write(writes).await?;
        }
        Ok(())
    }
}
