//! Batches: many blobs in one upload and one pack; what `fsck` says of packs; the index made again from objects alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::blob::pack::LARGEST_PACKED;
use pinstone_engine::blob::{BlobIndex, BlobSource, BlobStore, IndexWrite, Location};
use pinstone_engine::clock::Clock;
use pinstone_engine::fsck::{self, Kind};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::{PlanId, TeamId, UserId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::{MemoryMeta, MetaStore};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{Batch, BatchBlob, NewPlan, PlannedFile, UploadError};
use pinstone_engine::publish::CommitRequest;
use pinstone_engine::{Engine, Limits, Principal, rebuild};

/// An engine over stores that the test keeps.
struct World {
    meta: Arc<MemoryMeta>,
    objects: Arc<InMemory>,
    index: Arc<MemoryIndex>,
    engine: Engine,
    owner: Principal,
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let meta = Arc::new(MemoryMeta::new(Clock::system()));
        let (objects, index) = (Arc::new(InMemory::new()), Arc::new(MemoryIndex::default()));
        let blobs = BlobStore::new(objects.clone(), index.clone());
        let engine = Engine::assemble(meta.clone(), blobs, Clock::system(), limits, "pin_x").await.unwrap();
        let owner = engine.owner_principal();
        Self { meta, objects, index, engine, owner }
    }

    async fn plan(&self, caller: &Principal, project: &str, files: &[(&str, Vec<u8>)]) -> PlanId {
        let planned = |(path, bytes): &(&str, Vec<u8>)| PlannedFile {
            path: SitePath::new(*path).unwrap(),
            blob: BlobHash::of(bytes),
            size: Some(bytes.len() as u64),
            content_type: None,
        };
        let new = NewPlan {
            project: project.parse().unwrap(),
            files: files.iter().map(planned).collect(),
            git: None,
            message: None,
            settings: Settings::default(),
        };
        self.engine.plan(caller, new, None).await.unwrap().id
    }

    async fn batch(&self, caller: &Principal, plan: PlanId, blobs: &[BatchBlob]) -> Result<Batch, UploadError> {
        let blobs: Vec<Result<BatchBlob, UploadError>> = blobs.iter().cloned().map(Ok).collect();
        self.engine.upload_batch(caller, plan, stream::iter(blobs)).await
    }

    async fn commit(&self, plan: PlanId) {
        self.engine.commit(&self.owner, CommitRequest { plan, message: None, strict: false }, None).await.unwrap();
    }

    /// Publishes in one batch.
    async fn publish(&self, project: &str, files: &[(&str, Vec<u8>)]) {
        let plan = self.plan(&self.owner, project, files).await;
        let blobs: Vec<_> = files.iter().map(|(_, bytes)| blob(bytes)).collect();
        assert!(self.batch(&self.owner, plan, &blobs).await.unwrap().failed.is_empty());
        self.commit(plan).await;
    }

    fn blobs(&self) -> BlobStore {
        BlobStore::new(self.objects.clone(), self.index.clone())
    }

    /// Every object below a folder, with its bytes.
    async fn below(&self, folder: &str) -> BTreeMap<ObjectPath, Bytes> {
        let mut found = BTreeMap::new();
        let names: Vec<_> = self.objects.list(Some(&folder.into())).try_collect().await.unwrap();
        for object in names {
            let bytes = self.objects.get(&object.location).await.unwrap().bytes().await.unwrap();
            found.insert(object.location, bytes);
        }
        found
    }

    async fn read(&self, bytes: &[u8]) -> Option<Bytes> {
        match self.blobs().open(&BlobHash::of(bytes)).await {
            Ok(BlobSource::Memory(bytes)) => Some(bytes),
            Ok(BlobSource::File(_)) => panic!("stores in memory have no files"),
            Err(_) => None,
        }
    }

    async fn fsck(&self) -> fsck::Report {
        fsck::check(&*self.meta, &self.blobs(), |_| ()).await.unwrap()
    }
}

fn blob(bytes: &[u8]) -> BatchBlob {
    BatchBlob { hash: BlobHash::of(bytes), bytes: Bytes::copy_from_slice(bytes) }
}

fn site() -> Vec<(&'static str, Vec<u8>)> {
    let largest = usize::try_from(LARGEST_PACKED).unwrap();
    vec![
        ("index.html", b"<h1>hello</h1>".to_vec()),
        ("empty", vec![]),
        ("largest", vec![7; largest]),
        ("a/b.css", b"a{}".to_vec()),
    ]
}

#[tokio::test]
async fn a_batch_is_one_pack_and_each_blob_has_an_answer() {
    let world = World::new().await;
    let files = site();
    let plan = world.plan(&world.owner, "demo", &files).await;
    let wrong = BatchBlob { hash: BlobHash::of(b"a{}"), bytes: Bytes::from_static(b"b{}") };
    let short = BatchBlob { hash: BlobHash::of(b"<h1>hello</h1>"), bytes: Bytes::from_static(b"<h1>") };
    let sent = [
        blob(b"<h1>hello</h1>"),
        blob(b"nobody planned this"),
        wrong,
        blob(b""),
        blob(b"<h1>hello</h1>"),
        short,
        blob(&files[2].1),
    ];
    let batch = world.batch(&world.owner, plan, &sent).await.unwrap();
    assert_eq!((batch.stored, batch.already), (3, 1));
    let failed: Vec<_> = batch.failed.iter().map(|(index, error)| (*index, error)).collect();
    assert!(
        matches!(
            failed[..],
            [
                (1, UploadError::NotPlanned),
                (2, UploadError::HashMismatch),
                (5, UploadError::SizeMismatch { expected: 14, actual: 4 }),
            ]
        ),
        "{failed:?}"
    );
    assert_eq!(world.below("packs").await.len(), 1);
    assert!(world.below("blobs").await.is_empty());
    assert_eq!(world.read(b"a{}").await, None, "what did not match is not there");
    assert_eq!(world.read(b"nobody planned this").await, None);

    let batch = world.batch(&world.owner, plan, &[blob(b"a{}"), blob(b"")]).await.unwrap();
    assert_eq!((batch.stored, batch.already, batch.failed.len()), (1, 1, 0));
    let again = world.batch(&world.owner, plan, &[blob(b"a{}")]).await.unwrap();
    assert_eq!((again.stored, again.already), (0, 1));
    assert_eq!(world.below("packs").await.len(), 2, "nothing new makes no pack");
    world.commit(plan).await;
    for (_, bytes) in &files {
        assert_eq!(world.read(bytes).await.as_deref(), Some(&**bytes));
    }
    let report = world.fsck().await;
    assert!(report.is_clean() && report.findings.is_empty(), "{report:?}");
    assert_eq!((report.packs, report.blobs), (2, 4));

    let nothing = world.batch(&world.owner, plan, &[]).await.unwrap_err();
    assert!(matches!(nothing, UploadError::PlanOver));
}

#[tokio::test]
async fn a_batch_that_is_refused_leaves_nothing() {
    let limits = Limits { batch_blobs: 3, batch_size: 100_000, ..Limits::default() };
    let world = World::with(limits).await;
    let files: Vec<_> = (0..5_u8).map(|n| (["a", "b", "c", "d", "e"][usize::from(n)], vec![n; 40_000])).collect();
    let plan = world.plan(&world.owner, "demo", &files).await;
    let blobs: Vec<_> = files.iter().map(|(_, bytes)| blob(bytes)).collect();
    let too_large = |error| matches!(error, UploadError::BatchTooLarge { blobs: 3, size: 100_000 });
    assert!(too_large(world.batch(&world.owner, plan, &blobs[..3]).await.unwrap_err()), "120,000 bytes");
    let many: Vec<_> = (0..4).map(|_| blob(b"")).collect();
    assert!(too_large(world.batch(&world.owner, plan, &many).await.unwrap_err()), "4 blobs");
    let huge = blob(&vec![0; usize::try_from(LARGEST_PACKED).unwrap() + 1]);
    let error = world.batch(&world.owner, plan, &[blobs[0].clone(), huge]).await.unwrap_err();
    assert!(matches!(error, UploadError::NotForBatch { limit: LARGEST_PACKED }));
    let broken = stream::iter([Ok(blobs[0].clone()), Err(UploadError::Body("reset".into()))]);
    let error = world.engine.upload_batch(&world.owner, plan, broken).await.unwrap_err();
    assert!(matches!(error, UploadError::Body(_)));

    let stranger = Principal::new(UserId::random(), TeamId::random(), "other");
    let error = world.batch(&stranger, plan, &blobs[..1]).await.unwrap_err();
    assert!(matches!(error, UploadError::PlanNotFound));
    assert!(world.below("packs").await.is_empty());
    assert_eq!(world.index.hashes(None, 10).await.unwrap(), []);
    assert_eq!(world.batch(&world.owner, plan, &blobs[..2]).await.unwrap().stored, 2, "the limit itself is taken");
}

#[tokio::test]
async fn a_blob_of_another_team_is_stored_once_and_counts_for_both() {
    let world = World::new().await;
    world.publish("demo", &site()).await;
    let other = Principal::new(UserId::random(), TeamId::random(), "other");
    let files = site();
    let plan = world.plan(&other, "other", &files).await;
    let status = world.engine.plan_status(&other, plan).await.unwrap();
    assert_eq!(status.missing.len(), 4, "what another team has is not told");
    let blobs: Vec<_> = files.iter().map(|(_, bytes)| blob(bytes)).collect();
    let batch = world.batch(&other, plan, &blobs).await.unwrap();
    assert_eq!((batch.stored, batch.already), (4, 0), "nor what came of it");
    assert_eq!(world.below("packs").await.len(), 1);
    let batch = world.batch(&other, plan, &blobs).await.unwrap();
    assert_eq!((batch.stored, batch.already), (0, 4), "what a team has itself is told");
    assert!(world.engine.plan_status(&other, plan).await.unwrap().missing.is_empty());
}

#[tokio::test]
async fn a_torn_pack_is_ignored_and_told() {
    let world = World::new().await;
    world.publish("demo", &site()).await;
    let (pack, bytes) = world.below("packs").await.pop_first().unwrap();

    // What a crash can leave: a pack that was never acknowledged, whole or in parts.
    let mut unused = World::new().await;
    unused.publish("demo", &site()).await;
    let (other, other_bytes) = unused.below("packs").await.pop_first().unwrap();
    world.objects.put(&other, PutPayload::from(other_bytes.clone())).await.unwrap();
    let report = world.fsck().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.findings.len(), report.findings[0].what, report.unreferenced), (1, "pack", 1));
    world.objects.put(&other, PutPayload::from(other_bytes.slice(..1000))).await.unwrap();
    let report = world.fsck().await;
    assert!(report.is_clean() && report.findings[0].detail.contains("torn"), "{report:?}");
    world.objects.delete(&other).await.unwrap();
    drop(std::mem::replace(&mut unused, World::new().await));

    // One that is in use and lost its end is damage, also while every blob of it can still be read.
    world.objects.put(&pack, PutPayload::from(bytes.slice(..bytes.len() - 1))).await.unwrap();
    let report = world.fsck().await;
    assert_eq!((report.damaged, report.findings[0].what), (1, "pack"), "{report:?}");
    world.objects.put(&pack, PutPayload::from(bytes.slice(..20))).await.unwrap();
    let report = world.fsck().await;
    assert!(report.damaged >= 3 && !report.is_clean(), "{report:?}");
    world.objects.delete(&pack).await.unwrap();
    assert!(world.fsck().await.missing >= 3);
}

#[tokio::test]
async fn the_index_is_made_again_from_objects_alone() {
    let world = World::new().await;
    world.publish("demo", &site()).await;
    // One that is stored alone, beside the pack.
    let alone = vec![("alone", vec![1; 100_000])];
    let plan = world.plan(&world.owner, "second", &alone).await;
    let body = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(alone[0].1.clone()))]);
    world.engine.upload(&world.owner, plan, BlobHash::of(&alone[0].1), None, body).await.unwrap();
    world.commit(plan).await;
    let rows = world.index.scan(None, 100).await.unwrap();
    assert_eq!(rows.len(), 5);

    // Lost, wrong, and about things that are not there.
    let lost = Arc::new(MemoryIndex::default());
    let elsewhere = pinstone_engine::blob::BlobRecord { location: Location::Single, size: 1, ..rows[0].1 };
    let stale = BlobHash::of(b"nowhere");
    let wrong = vec![
        IndexWrite::Put { hash: rows[0].0, record: elsewhere },
        IndexWrite::Put { hash: stale, record: elsewhere },
    ];
    lost.write(wrong).await.unwrap();
    let blobs = BlobStore::new(world.objects.clone(), lost.clone());
    assert!(!fsck::check(&*world.meta, &blobs, |_| ()).await.unwrap().is_clean());
    let made = rebuild::rebuild(&*world.meta, &blobs, |_| ()).await.unwrap();
    assert_eq!((made.blobs, made.packs, made.removed, made.owned), (5, 1, 1, 5), "{made:?}");
    assert!(made.findings.is_empty());
    assert_eq!(lost.scan(None, 100).await.unwrap(), rows, "the same rows as before");
    let report = fsck::check(&*world.meta, &blobs, |_| ()).await.unwrap();
    assert!(report.is_clean() && report.findings.is_empty(), "{report:?}");

    // A torn pack and a damaged object count for nothing, and are told.
    let (pack, bytes) = world.below("packs").await.pop_first().unwrap();
    world.objects.put(&pack, PutPayload::from(bytes.slice(..bytes.len() - 3))).await.unwrap();
    let (single, _) = world.below("blobs").await.pop_first().unwrap();
    world.objects.put(&single, PutPayload::from_static(b"other")).await.unwrap();
    let made = rebuild::rebuild(&*world.meta, &blobs, |_| ()).await.unwrap();
    assert_eq!((made.blobs, made.removed), (0, 5));
    let told: Vec<_> = made.findings.iter().map(|finding| (finding.kind, finding.what)).collect();
    assert_eq!(told, [(Kind::Damaged, "pack"), (Kind::Damaged, "blob")]);
    assert!(world.meta.takes_commits());
}
