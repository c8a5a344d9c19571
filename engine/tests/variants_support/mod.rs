//! A store that outlives engines, and sites that are worth encoding.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore};
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::blob::{BlobIndex, BlobSource, BlobStore};
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::coding::{Coding, Variants};
use pinstone_engine::fsck::{self, Report};
use pinstone_engine::hash::{BlobHash, ManifestId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::{Commit, Feed, Item, Key, MemoryMeta, MetaError, MetaStore, Order, Outcome, Snapshot};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{BatchBlob, NewPlan, PlannedFile, UploadError};
use pinstone_engine::publish::{CommitRequest, ReleaseRequest};
use pinstone_engine::queries::ImageSummary;
use pinstone_engine::resolve::Resolver;
use pinstone_engine::variants::{VariantOptions, VariantState};
use pinstone_engine::{Engine, Limits};
use tokio::sync::watch;

/// The files of a site: paths and bytes.
pub(crate) type Site<'s> = &'s [(&'s str, Bytes)];

/// What outlives a process.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) index: Arc<dyn BlobIndex>,
    pub(crate) objects: Arc<dyn ObjectStore>,
}

pub(crate) fn clock() -> Clock {
    Clock::manual(UnixMillis(1_700_000_000_000))
}

impl Stores {
    pub(crate) fn memory() -> Self {
        Self {
            meta: Arc::new(MemoryMeta::new(clock())),
            index: Arc::new(MemoryIndex::default()),
            objects: Arc::new(InMemory::new()),
        }
    }

    pub(crate) fn blobs(&self) -> BlobStore {
        BlobStore::new(Arc::clone(&self.objects), Arc::clone(&self.index))
    }

    /// An engine that makes no variants.
    pub(crate) async fn engine(&self) -> Engine {
        self.engine_over(self.blobs()).await
    }

    pub(crate) async fn engine_over(&self, blobs: BlobStore) -> Engine {
        let meta = Arc::new(Unclosed(Arc::clone(&self.meta)));
        Engine::assemble(meta, blobs, clock(), Limits::default(), "pin_x").await.unwrap()
    }

    /// An engine that makes variants.
    pub(crate) async fn maker(&self) -> Engine {
        let engine = self.engine().await;
        engine.make_variants(VariantOptions::default()).unwrap();
        engine
    }

    pub(crate) async fn fsck(&self) -> Report {
        fsck::check(&*self.meta, &self.blobs(), |_| {}).await.unwrap()
    }

    /// The objects whose names begin with `prefix`.
    pub(crate) async fn objects_in(&self, prefix: &str) -> Vec<ObjectMeta> {
        self.objects.list(Some(&ObjectPath::from(prefix))).try_collect().await.unwrap()
    }
}

/// Metadata that outlives the engines which close it.
#[derive(Debug)]
struct Unclosed(Arc<dyn MetaStore>);

#[async_trait]
impl MetaStore for Unclosed {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, MetaError> {
        self.0.get(keys).await
    }

    async fn scan(&self, from: Key, to: Key, limit: usize, order: Order) -> Result<Vec<(Key, Item)>, MetaError> {
        self.0.scan(from, to, limit, order).await
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, MetaError> {
        self.0.commit(commit).await
    }

    async fn feed(&self, after: u64, limit: usize) -> Result<Feed, MetaError> {
        self.0.feed(after, limit).await
    }

    async fn snapshot(&self, prefix: Key) -> Result<Snapshot, MetaError> {
        self.0.snapshot(prefix).await
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.0.wake()
    }

    fn takes_commits(&self) -> bool {
        self.0.takes_commits()
    }

    async fn close(&self) {}
}

/// Text of so many bytes that compresses well, and like no other of another seed.
pub(crate) fn text(seed: &str, length: usize) -> Bytes {
    let words = ["<p>", "</p>\n", "site ", "page ", "of ", "the ", "a ", "<li class=\"item\">", "and ", "file "];
    let mut noise = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    let (mut text, mut byte) = (seed.as_bytes().to_vec(), [0]);
    while text.len() < length {
        noise.fill(&mut byte);
        text.extend(words[usize::from(byte[0]) % words.len()].as_bytes());
    }
    text.truncate(length);
    text.into()
}

/// Bytes that no encoder makes smaller.
pub(crate) fn noise(seed: &str, length: usize) -> Bytes {
    let mut noise = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut noise);
    noise.into()
}

/// Text of so many bytes of which half is left.
pub(crate) fn digits(seed: &str, length: usize) -> Bytes {
    let noise = noise(seed, length.div_ceil(2));
    let digits: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();
    Bytes::from(digits).slice(..length)
}

/// Publishes a site to `prod` of a project; answers its manifest.
pub(crate) async fn publish(engine: &Engine, project: &str, site: Site<'_>) -> ManifestId {
    let owner = engine.owner_principal();
    let planned = |(path, bytes): &(&str, Bytes)| PlannedFile {
        path: SitePath::new(*path).unwrap(),
        blob: BlobHash::of(bytes),
        size: Some(bytes.len() as u64),
        content_type: None,
    };
    let new = NewPlan {
        project: project.parse().unwrap(),
        files: site.iter().map(planned).collect(),
        git: None,
        message: None,
        settings: Settings::default(),
    };
    let plan = engine.plan(&owner, new, None).await.unwrap();
    let bytes_of = |hash| site.iter().map(|(_, bytes)| bytes).find(|bytes| BlobHash::of(bytes) == hash).unwrap();
    let (small, large): (Vec<_>, Vec<_>) =
        plan.missing.iter().map(|missing| missing.hash).partition(|hash| bytes_of(*hash).len() <= 64 << 10);
    if !small.is_empty() {
        let blobs: Vec<_> =
            small.iter().map(|hash| BatchBlob { hash: *hash, bytes: bytes_of(*hash).clone() }).collect();
        let blobs: Vec<_> = blobs.into_iter().map(Ok::<_, UploadError>).collect();
        assert!(engine.upload_batch(&owner, plan.id, stream::iter(blobs)).await.unwrap().failed.is_empty());
    }
    for hash in large {
        let body = stream::iter([Ok::<_, std::convert::Infallible>(bytes_of(hash).clone())]);
        engine.upload(&owner, plan.id, hash, None, body).await.unwrap();
    }
    let commit = CommitRequest { plan: plan.id, message: None, strict: false };
    let image = engine.commit(&owner, commit, None).await.unwrap().image;
    let release = ReleaseRequest {
        project: project.parse().unwrap(),
        environment: "prod".parse().unwrap(),
        image: Some(image),
        expected: None,
        message: None,
    };
    engine.release(&owner, release, None).await.unwrap();
    engine.resolver().pointers().find(project, "prod").unwrap().manifest
}

/// The image that `prod` of a project shows.
pub(crate) async fn image(engine: &Engine, project: &str) -> ImageSummary {
    let image = engine.resolver().pointers().find(project, "prod").unwrap().image;
    engine.image(&engine.owner_principal(), &project.parse().unwrap(), image).await.unwrap()
}

/// Waits until the variants of what a project shows are made, and this process knows where they are.
pub(crate) async fn made(stores: &Stores, engine: &Engine, project: &str) {
    let mut wake = stores.meta.wake();
    loop {
        if matches!(image(engine, project).await.variants, VariantState::Made(_)) {
            let position = *wake.borrow();
            return engine.resolver().pointers().wait_for(position).await;
        }
        wake.changed().await.unwrap();
    }
}

/// The variants of a file, as a server finds them.
pub(crate) async fn variants(resolver: &Resolver, manifest: &ManifestId, bytes: &Bytes) -> Variants {
    match resolver.pointers().variants().list(manifest) {
        Some(list) => resolver.variant_list(&list).await.unwrap().get(&BlobHash::of(bytes)),
        None => Variants::default(),
    }
}

/// The codings in which a file has variants. Each of them is read and decoded, and is what was published.
pub(crate) async fn codings(resolver: &Resolver, manifest: &ManifestId, bytes: &Bytes) -> Vec<&'static str> {
    let variants = variants(resolver, manifest, bytes).await;
    let mut found = Vec::new();
    for coding in Coding::ALL {
        let Some(variant) = variants.get(coding) else { continue };
        let encoded = read(resolver, &variant.blob).await;
        assert_eq!((BlobHash::of(&encoded), encoded.len() as u64), (variant.blob, variant.size));
        assert!(variant.size * 100 <= bytes.len() as u64 * 95, "{coding} saves too little");
        assert!(decode(coding, &encoded) == *bytes, "{coding} is another file");
        found.push(coding.token());
    }
    found
}

pub(crate) async fn read(resolver: &Resolver, hash: &BlobHash) -> Bytes {
    match resolver.open_blob(hash).await.unwrap() {
        BlobSource::Memory(bytes) => bytes,
        BlobSource::File(region) => {
            let mut bytes = vec![0; usize::try_from(region.length).unwrap()];
            std::os::unix::fs::FileExt::read_exact_at(&*region.file, &mut bytes, region.offset).unwrap();
            bytes.into()
        }
    }
}

pub(crate) fn decode(coding: Coding, encoded: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let read = match coding {
        Coding::Brotli => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut decoded),
        Coding::Zstd => zstd::stream::read::Decoder::new(encoded).unwrap().read_to_end(&mut decoded),
        Coding::Gzip => flate2::read::GzDecoder::new(encoded).read_to_end(&mut decoded),
    };
    read.unwrap();
    decoded
}
