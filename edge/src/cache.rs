//! What is kept in memory below the pointer table: manifests, small blobs and large ones that are read often, open files, digests,
//! and images by their own hosts.
//!
//! Everything but the last is named by a hash, so it never expires and is never wrong. Whatever is missing is loaded on
//! the loader's threads, once for all who ask for it at the same time; the edge's own threads only await.
//!
//! What loads is boxed, here where something is mostly found and else by who calls: it is large and rare, and each future
//! that has it within is moved with it for every request.

use std::collections::hash_map::RandomState;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::future::Cache;
use pinstone_engine::blob::{BlobSource, FileRegion, ReadError};
use pinstone_engine::hash::{BlobHash, ManifestId, Sha256Digest};
use pinstone_engine::id::ProjectId;
use pinstone_engine::meta::MetaError;
use pinstone_engine::pointers::ProjectRef;
use pinstone_engine::resolve::{HostedImage, Resolver};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::account::Facts;
use crate::config::CacheConfig;
use crate::error::EdgeError;
use crate::guard::poll_in_place;
use crate::mapped::{self, LargeFiles};
use crate::often::Often;
use crate::site::{ListLoader, Site};
use crate::source::{OpenFile, Source, Whole};
use crate::telemetry::{Counters, LOOKUPS, Lookup};

/// What an entry of a cache costs beside its bytes, roughly.
const OVERHEAD: usize = 256;

/// Bytes in memory that weigh as much as one open file.
const BYTES_PER_FILE: u64 = 256 << 10;

/// The caches of an edge, shared by its workers.
#[derive(Debug)]
pub(crate) struct Caches {
    resolver: Resolver,
    loader: Handle,
    counters: Arc<Counters>,
    small_blob: u64,
    manifests: Cache<ManifestId, Arc<Site>>,
    lists: ListLoader,
    small: Cache<BlobHash, Whole>,
    large: Cache<BlobHash, Source>,
    often: Often,
    /// Places for files that are open beside what memory has of them.
    beside: Arc<Semaphore>,
    digests: Cache<BlobHash, Sha256Digest>,
    hosted: Cache<(ProjectId, Box<str>), Option<Arc<HostedImage>>, RandomState>,
}

/// How much a cache keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) entries: u64,
    pub(crate) weight: u64,
    pub(crate) limit: u64,
}

/// Why a load failed, for all who waited for it.
#[derive(Debug, thiserror::Error)]
enum LoadError<E> {
    #[error(transparent)]
    Failed(E),
    #[error("a blob has {actual} bytes and its manifest says {expected}")]
    Length { expected: u64, actual: u64 },
    #[error("the task that reads ended before its time")]
    GivenUp,
}

/// How long an answer about an image's own host is believed.
struct HostedExpiry {
    found: Duration,
    missing: Duration,
}

impl Expiry<(ProjectId, Box<str>), Option<Arc<HostedImage>>> for HostedExpiry {
    fn expire_after_create(
        &self,
        _: &(ProjectId, Box<str>),
        image: &Option<Arc<HostedImage>>,
        _: Instant,
    ) -> Option<Duration> {
        Some(if image.is_some() { self.found } else { self.missing })
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(OVERHEAD)).unwrap_or(u32::MAX)
}

impl Caches {
    pub(crate) fn new(
        config: &CacheConfig,
        large_files: LargeFiles,
        resolver: Resolver,
        loader: Handle,
        counters: Arc<Counters>,
    ) -> Self {
        // Who copies has no use for a file beside its bytes.
        let beside = if large_files == LargeFiles::Sent { config.open_files } else { 0 };
        Self {
            lists: ListLoader::new(resolver.clone(), loader.clone(), config.manifest_bytes),
            resolver,
            loader,
            counters,
            small_blob: config.small_blob,
            manifests: Cache::builder()
                .max_capacity(config.manifest_bytes)
                .weigher(|_, site: &Arc<Site>| weight(site.most_bytes()))
                .build(),
            small: Cache::builder()
                .max_capacity(config.blob_bytes)
                .weigher(|_, whole: &Whole| weight(whole.bytes.len()))
                .build(),
            large: Cache::builder()
                .max_capacity(config.open_files)
                .weigher(|_, source: &Source| match source {
                    Source::File(_) => 1,
                    Source::Memory(Whole { bytes, .. }) => {
                        u32::try_from(bytes.len() as u64 / BYTES_PER_FILE + 1).unwrap_or(u32::MAX)
                    }
                })
                .build(),
            often: Often::new(config.often_bytes),
            beside: Arc::new(Semaphore::new(usize::try_from(beside).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))),
            digests: Cache::new(config.digests),
            hosted: Cache::builder()
                .max_capacity(config.hosted_images)
                .expire_after(HostedExpiry { found: config.hosted_image_ttl, missing: config.missing_image_ttl })
                .build(),
        }
    }

    pub(crate) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// A manifest, and the variants of its files as far as they are known now.
    pub(crate) async fn manifest(&self, id: &ManifestId, facts: &mut Facts) -> Result<Arc<Site>, EdgeError> {
        if let Some(site) = self.manifests.get(id).await {
            self.looked_up(facts, Lookup::Manifest, true);
            self.lists.keep_up(&site);
            return Ok(site);
        }
        let site = Box::pin(self.load_manifest(*id)).await;
        self.looked_up(facts, Lookup::Manifest, false);
        let site = site?;
        self.lists.keep_up(&site);
        Ok(site)
    }

    /// Sees to it that a manifest's variants become those that there are.
    pub(crate) fn keep_up(&self, site: &Arc<Site>) {
        self.lists.keep_up(site);
    }

    async fn load_manifest(&self, id: ManifestId) -> Result<Arc<Site>, EdgeError> {
        let load = async {
            let (resolver, lists) = (self.resolver.clone(), self.lists.clone());
            self.load(async move {
                let (manifest, list) = tokio::join!(resolver.manifest(&id), lists.soon(&id));
                Ok(Arc::new(Site::new(manifest.map_err(share)?, list)))
            })
            .await
        };
        self.manifests.try_get_with(id, load).await.map_err(|error| edge_error(&error, EdgeError::Manifest))
    }

    /// As if it had been loaded.
    #[cfg(test)]
    pub(crate) async fn put_manifest(&self, manifest: pinstone_engine::manifest::Manifest) {
        let (id, site) = (manifest.id(), Arc::new(Site::new(manifest, None)));
        self.lists.keep_up(&site);
        self.manifests.insert(id, site).await;
    }

    /// As if it had been loaded.
    #[cfg(test)]
    pub(crate) async fn put_list(
        &self,
        id: pinstone_engine::hash::VariantListId,
        list: pinstone_engine::variants::VariantList,
    ) {
        self.lists.put(id, list).await;
    }

    /// The `size` bytes of a file of a site: all of them in memory where they are few, else where they are stored.
    pub(crate) async fn blob(&self, hash: BlobHash, size: u64, facts: &mut Facts) -> Result<Source, EdgeError> {
        let what = if self.is_small(size) { Lookup::SmallBlob } else { Lookup::OpenFile };
        if let Some(source) = self.kept(&hash, size).await {
            self.looked_up(facts, what, true);
            return Ok(source);
        }
        let loaded = Box::pin(self.load_blob(hash, size)).await;
        self.looked_up(facts, what, false);
        loaded
    }

    /// The same, if they are there without waiting. Only for what is large: of a small file, a site has the bytes at hand.
    pub(crate) fn at_hand(&self, hash: BlobHash, size: u64, facts: &mut Facts) -> Option<Source> {
        if self.is_small(size) {
            return None;
        }
        match poll_in_place(pin!(self.kept(&hash, size))) {
            Poll::Ready(Some(source)) => {
                self.looked_up(facts, Lookup::OpenFile, true);
                Some(source)
            }
            // Where somebody just tidies up, that is waited for.
            Poll::Ready(None) | Poll::Pending => None,
        }
    }

    /// The same, if it is kept.
    async fn kept(&self, hash: &BlobHash, size: u64) -> Option<Source> {
        if self.is_small(size) {
            return self.small.get(hash).await.map(Source::Memory);
        }
        // One look-up for most: few files are in memory, and of those that are not mostly the open file knows that.
        match self.large.get(hash).await {
            Some(Source::File(file)) => match self.often.bytes_of(&file).await {
                Some(whole) => Some(Source::Memory(whole)),
                None => Some(Source::File(file)),
            },
            Some(source) => Some(source),
            None => self.often.get(hash, size).await.map(Source::Memory),
        }
    }

    async fn load_blob(&self, hash: BlobHash, size: u64) -> Result<Source, EdgeError> {
        let loaded = if self.is_small(size) {
            let load = async {
                let (resolver, beside) = (self.resolver.clone(), Arc::clone(&self.beside));
                self.load(async move {
                    let (bytes, region) = read_whole(&resolver, hash, size).await?;
                    Ok(whole(hash, bytes, region, beside))
                })
                .await
            };
            self.small.try_get_with(hash, load).await.map(Source::Memory)
        } else {
            let load = async {
                let resolver = self.resolver.clone();
                self.load(async move { open(&resolver, &hash, size).await.map(|source| Source::of(hash, source)) })
                    .await
            };
            self.large.try_get_with(hash, load).await
        };
        loaded.map_err(|error| edge_error(&error, EdgeError::Blob))
    }

    /// An answer has to read so many bytes of this file, which is loaded into memory where that happens often.
    pub(crate) fn note_read(&self, file: &Arc<OpenFile>, bytes: u64) {
        let Some(wanted) = self.often.note_read(file, bytes) else { return };
        let (resolver, beside) = (self.resolver.clone(), Arc::clone(&self.beside));
        self.loader.spawn(async move {
            match read_whole(&resolver, wanted.file.hash, wanted.file.region.length).await {
                Ok((bytes, region)) => {
                    let whole = whole(wanted.file.hash, bytes, region, beside);
                    wanted.keep(whole).await;
                }
                Err(error) => tracing::warn!(%error, "a file that is asked for often could not be read into memory"),
            }
        });
    }

    /// The SHA-256 digest of a file.
    pub(crate) async fn sha256(&self, hash: BlobHash) -> Result<Sha256Digest, EdgeError> {
        let load = async {
            let resolver = self.resolver.clone();
            self.load(async move { resolver.sha256(&hash).await.map_err(share) }).await
        };
        self.digests.try_get_with(hash, load).await.map_err(|error| edge_error(&error, EdgeError::Blob))
    }

    /// The image of a project whose id begins with these digits, as it was known a short while ago.
    pub(crate) async fn hosted(
        &self,
        project: ProjectRef,
        digits: &str,
        facts: &mut Facts,
    ) -> Result<Option<Arc<HostedImage>>, EdgeError> {
        let mut found = true;
        let load = async {
            found = false;
            let (resolver, digits) = (self.resolver.clone(), digits.to_owned());
            self.load(async move {
                let image = resolver.hosted_image(project, &digits).await;
                image.map(|image| image.map(Arc::new)).map_err(|error: MetaError| LoadError::Failed(Arc::new(error)))
            })
            .await
        };
        let image = self.hosted.try_get_with((project.project, digits.into()), load).await;
        self.looked_up(facts, Lookup::HostedImage, found);
        image.map_err(|error| edge_error(&error, EdgeError::Meta))
    }

    /// What is kept, roughly: moka counts with some delay.
    pub(crate) fn sizes(&self) -> [Size; LOOKUPS.len() + 1] {
        fn size<K, V, S>(name: &'static str, cache: &Cache<K, V, S>) -> Size {
            let limit = cache.policy().max_capacity().unwrap_or(u64::MAX);
            Size { name, entries: cache.entry_count(), weight: cache.weighted_size(), limit }
        }
        [
            size(LOOKUPS[Lookup::Manifest as usize], &self.manifests),
            size(LOOKUPS[Lookup::SmallBlob as usize], &self.small),
            size(LOOKUPS[Lookup::OpenFile as usize], &self.large),
            size(LOOKUPS[Lookup::HostedImage as usize], &self.hosted),
            size("large_blob", self.often.files()),
        ]
    }

    /// Whether a file of `size` bytes is kept in memory as a whole.
    pub(crate) fn is_small(&self, size: u64) -> bool {
        size <= self.small_blob
    }

    /// Notes that something was looked for in memory.
    pub(crate) fn looked_up(&self, facts: &mut Facts, what: Lookup, found: bool) {
        self.counters.looked_up(what, found);
        facts.looked_up(what, found);
    }

    /// Runs `work` where it may wait. It is given up with the last of those who wait for it.
    async fn load<T, E>(
        &self,
        work: impl Future<Output = Result<T, LoadError<E>>> + Send + 'static,
    ) -> Result<T, LoadError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        AbortOnDropHandle::new(self.loader.spawn(work)).await.unwrap_or(Err(LoadError::GivenUp))
    }
}

fn share(error: ReadError) -> LoadError<Arc<ReadError>> {
    LoadError::Failed(Arc::new(error))
}

fn edge_error<E>(error: &LoadError<Arc<E>>, failed: impl FnOnce(Arc<E>) -> EdgeError) -> EdgeError {
    match error {
        LoadError::Failed(error) => failed(Arc::clone(error)),
        LoadError::Length { expected, actual } => EdgeError::Length { expected: *expected, actual: *actual },
        LoadError::GivenUp => EdgeError::GivenUp,
    }
}

/// Opens a blob that has to be as long as the manifest says: the head of an answer promises that length.
async fn open(resolver: &Resolver, hash: &BlobHash, size: u64) -> Result<BlobSource, LoadError<Arc<ReadError>>> {
    let source = resolver.open_blob(hash).await.map_err(share)?;
    if source.len() == size { Ok(source) } else { Err(LoadError::Length { expected: size, actual: source.len() }) }
}

/// A blob that was read of `region`, which stays open where the kernel may send it from there, and there is a place `beside`.
fn whole(hash: BlobHash, bytes: Bytes, region: Option<FileRegion>, beside: Arc<Semaphore>) -> Whole {
    let region = region.filter(|_| bytes.len() >= mapped::LEAST);
    let beside = region.and_then(|region| Some((region, beside.try_acquire_owned().ok()?)));
    let file = beside.map(|(region, place)| Arc::new(OpenFile::new(hash, region, Some(place))));
    Whole { bytes, file }
}

/// Reads all of a blob, from where it is stored if what the local cache has of it is damaged; and says in which file it lies.
async fn read_whole(
    resolver: &Resolver,
    hash: BlobHash,
    size: u64,
) -> Result<(Bytes, Option<FileRegion>), LoadError<Arc<ReadError>>> {
    match read_checked(open(resolver, &hash, size).await?, hash).await {
        Err(LoadError::Failed(error))
            if matches!(*error, ReadError::Damaged) && resolver.forget_cached(&hash).await =>
        {
            read_checked(open(resolver, &hash, size).await?, hash).await
        }
        read => read,
    }
}

/// Reads all of a blob and checks it against its hash: whatever is kept in memory is what it is named for.
async fn read_checked(
    source: BlobSource,
    hash: BlobHash,
) -> Result<(Bytes, Option<FileRegion>), LoadError<Arc<ReadError>>> {
    let read = tokio::task::spawn_blocking(move || {
        let (bytes, region) = match source {
            BlobSource::Memory(bytes) => (bytes, None),
            BlobSource::File(region) => (read_region(&region)?, Some(region)),
        };
        if BlobHash::of(&bytes) == hash { Ok((bytes, region)) } else { Err(ReadError::Damaged) }
    });
    read.await.map_err(|_| LoadError::GivenUp)?.map_err(share)
}

fn read_region(region: &FileRegion) -> Result<Bytes, ReadError> {
    let mut bytes = vec![0; usize::try_from(region.length).map_err(|_| ReadError::Damaged)?];
    region.file.read_exact_at(&mut bytes, region.offset).map_err(|error| {
        tracing::warn!(%error, "a stored file could not be read");
        ReadError::Damaged
    })?;
    Ok(bytes.into())
}
