//! An engine in memory whose stores can be looked into, and what an archive becomes on it.

use std::io::{Cursor, Seek, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use pinstone_engine::archive::{
    Archive, ArchiveError, ArchiveLimits, ArchivePublish, ArchivePublishError, ArchivePublished, ListOptions, Listing,
    Unbounded,
};
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::blob::{BlobStore, DiskCacheOptions};
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::meta::{Key, MemoryMeta, MetaStore, Order};
use pinstone_engine::records::idempotency::IdempotencyKey;
use pinstone_engine::{Engine, Limits, Principal};
use tempfile::TempDir;

/// An engine, and its stores.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) owner: Principal,
    meta: Arc<MemoryMeta>,
    objects: Arc<InMemory>,
    _cache: Option<TempDir>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::over(limits, |blobs| (blobs, None)).await
    }

    /// The same with objects that count as far away, and `upload_memory` bytes for large uploads to them.
    pub(crate) async fn far(upload_memory: u64) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let options = DiskCacheOptions { bytes: Some(1 << 20), ..DiskCacheOptions::default() };
        let far = |blobs: BlobStore| {
            let blobs = blobs.behind_cache(cache.path(), &options, upload_memory).unwrap();
            (blobs, Some(cache))
        };
        Self::over(Limits::default(), far).await
    }

    async fn over(limits: Limits, change: impl FnOnce(BlobStore) -> (BlobStore, Option<TempDir>)) -> Self {
        let clock = Clock::manual(UnixMillis(1_700_000_000_000));
        let meta = Arc::new(MemoryMeta::new(clock.clone()));
        let objects = Arc::new(InMemory::new());
        let (blobs, cache) = change(BlobStore::new(objects.clone(), Arc::new(MemoryIndex::default())));
        let engine = Engine::assemble(meta.clone(), blobs, clock, limits, "pin_test").await.unwrap();
        let owner = engine.owner_principal();
        Self { engine, owner, meta, objects, _cache: cache }
    }

    /// Publishes an archive to `demo` and shows it on `prod`.
    pub(crate) async fn publish(&self, archive: &[u8]) -> Result<ArchivePublished, ArchivePublishError> {
        self.publish_with(archive, publish("demo"), None).await
    }

    pub(crate) async fn publish_with(
        &self,
        archive: &[u8],
        publish: ArchivePublish,
        key: Option<&str>,
    ) -> Result<ArchivePublished, ArchivePublishError> {
        let mut file = self.engine.spool_file().unwrap();
        file.write_all(archive).unwrap();
        file.rewind().unwrap();
        let key: Option<IdempotencyKey> = key.map(|key| key.parse().unwrap());
        self.engine.publish_archive(&self.owner, file, publish, key.as_ref(), Unbounded).await
    }

    /// Everything that is stored: the names of all objects, and all rows of the metadata store.
    pub(crate) async fn everything(&self) -> (Vec<String>, Vec<(Key, Bytes)>) {
        let objects: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        let mut names: Vec<_> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort_unstable();
        let rows =
            self.meta.scan(Bytes::new(), Bytes::from_static(&[0xff; 64]), 10_000, Order::Ascending).await.unwrap();
        (names, rows.into_iter().map(|(key, item)| (key, item.value)).collect())
    }
}

/// What is published where a test says nothing else.
pub(crate) fn publish(project: &str) -> ArchivePublish {
    ArchivePublish {
        project: project.parse().unwrap(),
        environment: "prod".parse().unwrap(),
        options: ListOptions::default(),
        message: None,
        git: None,
        strict: false,
    }
}

/// Limits that small archives can exceed.
pub(crate) fn limits() -> ArchiveLimits {
    ArchiveLimits { entries: 100, file_size: 1 << 20, names: 64 << 10, unpacked: 100 << 20, times: 100 }
}

/// The site that an archive holds.
pub(crate) fn list(archive: &[u8], options: &ListOptions) -> Result<Listing, ArchiveError> {
    Archive::open(Cursor::new(archive), limits())?.list(options, &mut Unbounded)
}

/// The paths of the site that an archive holds, or why it is refused.
pub(crate) fn paths(archive: &[u8]) -> Result<Vec<String>, String> {
    let listing = list(archive, &ListOptions::default()).map_err(|error| error.to_string())?;
    Ok(listing.files.into_iter().map(|file| file.path.to_string()).collect())
}
