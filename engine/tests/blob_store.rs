//! One suite of what a blob store promises, on every kind of object store: a local folder, memory, and SeaweedFS behind
//! the local cache; and what happens when the one that is far away is slow, down, restarted, or loses something.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[allow(dead_code, reason = "other tests need other parts of it")]
#[path = "../../tests/support/fault_proxy.rs"]
mod fault_proxy;
#[path = "../../tests/support/seaweedfs.rs"]
mod seaweedfs;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fault_proxy::{Fault, FaultProxy};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::blob::{BlobSource, BlobStore, Digests, DiskCacheOptions, PutError, ReadError};
use pinstone_engine::clock::Clock;
use pinstone_engine::fsck;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::TeamId;
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::MemoryMeta;
use pinstone_engine::objects::S3Options;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile, UploadError};
use pinstone_engine::publish::{CommitError, CommitRequest, ReleaseRequest};
use pinstone_engine::{Engine, Limits, StoreError};
use seaweedfs::{BUCKET, KEY_ID, SECRET, SeaweedFs};
use tempfile::TempDir;
use tokio::task::JoinSet;

const TEAM: TeamId = TeamId::from_bytes([1; 16]);
const OTHER_TEAM: TeamId = TeamId::from_bytes([2; 16]);
const LIMIT: u64 = 100 << 20;

/// Objects somewhere, and a blob store over them that can be opened again.
struct Place {
    objects: Arc<dyn ObjectStore>,
    index: Arc<MemoryIndex>,
    /// Where the cache is, if objects are far away.
    cache: Option<TempDir>,
    local: Option<TempDir>,
}

impl Place {
    fn memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), index: Arc::default(), cache: None, local: None }
    }

    fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let objects = LocalFileSystem::new_with_prefix(folder.path()).unwrap().with_fsync(true);
        Self { objects: Arc::new(objects), index: Arc::default(), cache: None, local: Some(folder) }
    }

    /// A prefix of its own in the bucket of a store at `address`.
    fn far(address: SocketAddr, prefix: &str) -> Self {
        Self::far_for(address, prefix, Duration::from_secs(10))
    }

    /// The same, with another time for which requests are begun again.
    fn far_for(address: SocketAddr, prefix: &str, retries: Duration) -> Self {
        let s3 = S3Options::from_variables(|name| {
            let value = match name {
                "AWS_ACCESS_KEY_ID" => KEY_ID,
                "AWS_SECRET_ACCESS_KEY" => SECRET,
                "AWS_ENDPOINT_URL" => return Some(format!("http://{address}")),
                _ => return None,
            };
            Some(value.to_owned())
        });
        let objects = s3.retrying_for(retries).connect(BUCKET, &ObjectPath::from(prefix)).unwrap();
        Self { objects, index: Arc::default(), cache: Some(tempfile::tempdir().unwrap()), local: None }
    }

    /// A blob store as a new process would open it.
    fn open(&self) -> BlobStore {
        let store = BlobStore::new(Arc::clone(&self.objects), self.index.clone());
        match &self.cache {
            Some(folder) => {
                let options = DiskCacheOptions { bytes: Some(256 << 20), ..DiskCacheOptions::default() };
                store.behind_cache(&folder.path().join("cache"), &options, 64 << 20).unwrap()
            }
            None => store,
        }
    }

    async fn list(&self, folder: &str) -> BTreeSet<String> {
        let folder = ObjectPath::from(folder);
        let listed = self.objects.list(Some(&folder)).map_ok(|object| object.location.to_string());
        listed.try_collect().await.unwrap()
    }
}

fn noise(seed: &str, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// A body in pieces of 100,000 bytes.
fn body(bytes: &Bytes) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Unpin + Send + use<> {
    let bytes = bytes.clone();
    let starts = (0..bytes.len()).step_by(100_000);
    stream::iter(starts.map(move |from| Ok(bytes.slice(from..bytes.len().min(from + 100_000)))))
}

async fn put(store: &BlobStore, bytes: &Bytes) -> Result<Digests, PutError> {
    store.put(TEAM, BlobHash::of(bytes), Some(bytes.len() as u64), LIMIT, body(bytes)).await
}

/// Bytes `from..to` of a blob.
fn region(source: &BlobSource, from: usize, to: usize) -> Vec<u8> {
    match source {
        BlobSource::Memory(bytes) => bytes[from..to].to_vec(),
        BlobSource::File(region) => {
            let mut bytes = vec![0; to - from];
            region.file.read_exact_at(&mut bytes, region.offset + from as u64).unwrap();
            bytes
        }
    }
}

async fn read(store: &BlobStore, bytes: &Bytes) -> Result<Vec<u8>, ReadError> {
    let source = store.open(&BlobHash::of(bytes)).await?;
    let length = usize::try_from(source.len()).unwrap();
    Ok(region(&source, 0, length))
}

/// Sizes around everything that is cut somewhere: gathered bodies, parts, what is fetched into memory.
const SIZES: [usize; 10] =
    [0, 1, 64 << 10, (64 << 10) + 1, 256 << 10, (256 << 10) + 1, 2 << 20, (2 << 20) + 1, 5 << 20, (12 << 20) + 77];

async fn blobs_are_read_back(place: &Place) {
    let store = place.open();
    let all: Vec<Bytes> = SIZES.iter().map(|size| noise(&format!("blob {size}"), *size)).collect();
    for bytes in &all {
        let digests = put(&store, bytes).await.unwrap();
        assert_eq!((digests.blake3, digests.size), (BlobHash::of(bytes), bytes.len() as u64));
        assert!(read(&store, bytes).await.unwrap() == *bytes, "{} bytes", bytes.len());
    }
    // As the next process sees it, and in parts.
    let store = place.open();
    for bytes in &all {
        assert!(read(&store, bytes).await.unwrap() == *bytes, "{} bytes", bytes.len());
        let source = store.open(&BlobHash::of(bytes)).await.unwrap();
        let length = bytes.len();
        for (from, to) in [(0, length), (0, length.min(1)), (length / 2, length), (length / 3, length / 2)] {
            assert!(region(&source, from, to) == bytes[from..to], "{from}..{to} of {length}");
        }
    }
    assert!(matches!(store.open(&BlobHash::of(b"another")).await, Err(ReadError::Missing)));
    let stored = place.list("blobs").await;
    assert_eq!(stored.len(), SIZES.len(), "{stored:?}");
}

async fn what_does_not_match_is_nowhere(place: &Place) {
    let store = place.open();
    for size in [1000, (2 << 20) + 5, (6 << 20) + 5] {
        let bytes = noise(&format!("mismatch {size}"), size);
        let (hash, length) = (BlobHash::of(b"other bytes"), bytes.len() as u64);
        let refused = store.put(TEAM, hash, Some(length), LIMIT, body(&bytes)).await;
        assert!(matches!(refused, Err(PutError::HashMismatch)), "{size}: {refused:?}");
        for wrong in [length - 1, length + 1] {
            let refused = store.put(TEAM, BlobHash::of(&bytes), Some(wrong), LIMIT, body(&bytes)).await;
            assert!(matches!(refused, Err(PutError::SizeMismatch { .. })), "{size}: {refused:?}");
        }
        let refused = store.put(TEAM, BlobHash::of(&bytes), None, length - 1, body(&bytes)).await;
        assert!(matches!(refused, Err(PutError::TooLarge { .. })), "{size}: {refused:?}");
        let pieces = [Ok(bytes.slice(..size / 2)), Err(std::io::Error::other("gone"))];
        let refused = store.put(TEAM, BlobHash::of(&bytes), None, LIMIT, stream::iter(pieces)).await;
        assert!(matches!(refused, Err(PutError::Body(_))), "{size}: {refused:?}");
        assert!(matches!(store.open(&BlobHash::of(&bytes)).await, Err(ReadError::Missing)));
    }
    assert_eq!(place.list("blobs").await, BTreeSet::new());
}

async fn a_blob_is_stored_once_however_many_put_it(place: &Place) {
    let store = place.open();
    for size in [10, 300_000, (6 << 20) + 1] {
        let bytes = noise(&format!("many {size}"), size);
        let mut putting = JoinSet::new();
        for turn in 0..16 {
            let (store, bytes) = (store.clone(), bytes.clone());
            let team = if turn % 2 == 0 { TEAM } else { OTHER_TEAM };
            let hash = BlobHash::of(&bytes);
            putting.spawn(async move { store.put(team, hash, None, LIMIT, body(&bytes)).await.map(drop) });
        }
        while let Some(put) = putting.join_next().await {
            put.unwrap().unwrap();
        }
        assert!(read(&store, &bytes).await.unwrap() == bytes);
        for team in [TEAM, OTHER_TEAM] {
            assert_eq!(store.index().owned(team, &[BlobHash::of(&bytes)]).await.unwrap(), [true]);
        }
    }
    assert_eq!(place.list("blobs").await.len(), 3);
}

/// An engine over a place's objects, and all that it is made of.
struct World {
    engine: Engine,
    meta: Arc<MemoryMeta>,
    blobs: BlobStore,
}

async fn world(place: &Place) -> World {
    let clock = Clock::system();
    let (meta, blobs) = (Arc::new(MemoryMeta::new(clock.clone())), place.open());
    let engine = Engine::assemble(meta.clone(), blobs.clone(), clock, Limits::default(), "pin_test").await.unwrap();
    World { engine, meta, blobs }
}

impl World {
    async fn plan(&self, files: &[(String, Bytes)]) -> Result<pinstone_engine::plan::PlanView, StoreError> {
        let planned = |(path, bytes): &(String, Bytes)| PlannedFile {
            path: SitePath::new(path.clone()).unwrap(),
            blob: BlobHash::of(bytes),
            size: Some(bytes.len() as u64),
            content_type: None,
        };
        let plan = NewPlan {
            project: "demo".parse().unwrap(),
            files: files.iter().map(planned).collect(),
            git: None,
            message: None,
            settings: Settings::default(),
        };
        self.engine.plan(&self.engine.owner_principal(), plan, None).await.map_err(|error| match error {
            pinstone_engine::plan::PlanError::Store(error) => error,
            other => panic!("{other}"),
        })
    }

    /// Publishes, and asks again for what fails, until nothing does; answers how often something failed.
    async fn publish(&self, files: &[(String, Bytes)]) -> usize {
        let owner = self.engine.owner_principal();
        let mut failed = 0;
        let plan = loop {
            match self.plan(files).await {
                Ok(plan) => break plan,
                Err(_) => failed += 1,
            }
        };
        loop {
            let missing = self.engine.plan_status(&owner, plan.id).await.unwrap().missing;
            let uploads = stream::iter(missing).map(|missing| {
                let (owner, engine) = (&owner, &self.engine);
                let (_, bytes) = files.iter().find(|(_, bytes)| BlobHash::of(bytes) == missing.hash).unwrap();
                async move {
                    match engine.upload(owner, plan.id, missing.hash, None, body(bytes)).await {
                        Ok(_) => 0,
                        Err(UploadError::Store(_)) => 1,
                        Err(other) => panic!("{other}"),
                    }
                }
            });
            let lost: Vec<usize> = uploads.buffer_unordered(8).collect().await;
            failed += lost.iter().sum::<usize>();
            if lost.iter().all(|lost| *lost == 0) {
                break;
            }
        }
        let image = loop {
            let request = CommitRequest { plan: plan.id, message: None, strict: false };
            match self.engine.commit(&owner, request, None).await {
                Ok(committed) => break committed.image,
                Err(CommitError::Store(_)) => failed += 1,
                Err(other) => panic!("{other}"),
            }
        };
        let release = ReleaseRequest {
            project: "demo".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            image: Some(image),
            expected: None,
            message: None,
        };
        self.engine.release(&owner, release, None).await.unwrap();
        failed
    }

    /// Checks that all of it is shown, byte for byte.
    async fn assert_shows(&self, files: &[(String, Bytes)]) {
        let resolver = self.engine.resolver();
        let pointer = resolver.pointers().find("demo", "prod").unwrap();
        let manifest = resolver.manifest(&pointer.manifest).await.unwrap();
        assert_eq!(manifest.len(), files.len());
        for (path, bytes) in files {
            assert_eq!(manifest.get(path.as_str()).unwrap().blob, BlobHash::of(bytes));
            assert!(read(&self.blobs, bytes).await.unwrap() == *bytes, "{path}");
        }
    }

    async fn assert_clean(&self) {
        let report = fsck::check(&*self.meta, &self.blobs, |_| {}).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

fn files(name: &str, count: usize, size: usize) -> Vec<(String, Bytes)> {
    (0..count).map(|number| (format!("{name}/{number:04}.bin"), noise(&format!("{name} {number}"), size))).collect()
}

async fn a_site_is_published(place: &Place) {
    let world = world(place).await;
    // More objects than a store lists at once.
    let mut site = files("many", 1100, 100);
    site.extend(files("large", 2, (5 << 20) + 1));
    site.push(("empty.txt".to_owned(), Bytes::new()));
    let plan = world.plan(&site).await.unwrap();
    assert_eq!((plan.missing.len(), place.list("plans").await.len()), (site.len(), 1));
    assert_eq!(world.publish(&site).await, 0, "nothing fails");
    world.assert_shows(&site).await;
    let report = fsck::check(&*world.meta, &world.blobs, |_| {}).await.unwrap();
    assert!(report.is_clean() && report.unreferenced == 0, "{report:?}");
    assert_eq!(report.blobs, site.len() as u64);
    assert_eq!(place.list("manifests").await.len(), 1);
    assert_eq!(place.list("plans").await.len(), 1, "the plan that became an image is gone, the open one is not");
    // The list of files of an open plan is read back by the next process.
    let again = place.open();
    let clock = Clock::system();
    let second = Engine::assemble(world.meta.clone(), again, clock, Limits::default(), "pin_test").await.unwrap();
    let status = second.plan_status(&second.owner_principal(), plan.id).await.unwrap();
    assert_eq!((status.files, status.missing.len()), (site.len() as u64, 0));
    second.close_plan(&second.owner_principal(), plan.id).await.unwrap();
    assert_eq!(place.list("plans").await.len(), 0);
}

/// What fsck says of a store that lost something, or holds something else.
async fn a_check_reads_the_store_itself(place: &Place) {
    let world = world(place).await;
    let site = files("site", 3, 70_000);
    world.publish(&site).await;
    world.assert_shows(&site).await;
    let object = |bytes: &Bytes| {
        let digits = BlobHash::of(bytes).to_string();
        ObjectPath::from(format!("blobs/{}/{digits}", &digits[..2]))
    };
    place.objects.delete(&object(&site[0].1)).await.unwrap();
    place.objects.put(&object(&site[1].1), Bytes::from("something else").into()).await.unwrap();
    // Without the cache, which still has all of it.
    let bare = BlobStore::new(Arc::clone(&place.objects), place.index.clone());
    let report = fsck::check(&*world.meta, &bare, |_| {}).await.unwrap();
    assert_eq!((report.missing, report.damaged), (1, 1), "{report:?}");
}

async fn suite(place: impl Fn(&str) -> Place) {
    blobs_are_read_back(&place("read-back")).await;
    what_does_not_match_is_nowhere(&place("mismatch")).await;
    a_blob_is_stored_once_however_many_put_it(&place("once")).await;
    a_site_is_published(&place("site")).await;
    a_check_reads_the_store_itself(&place("check")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_folder_passes_the_suite() {
    suite(|_| Place::local()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_in_parts_that_fails_at_its_end_leaves_no_temporary_file() {
    let place = Place::local();
    let root = place.local.as_ref().unwrap().path();
    let store = place.open().in_folder(root);
    let bytes = noise("in the way", 1 << 20);
    let hash = BlobHash::of(&bytes);
    let name = hash.to_string();
    let folder = root.join("blobs").join(&name[..2]);
    let names = || -> BTreeSet<String> {
        let entries = std::fs::read_dir(&folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    // What has the name that the object is to get, and does not give it up.
    std::fs::create_dir_all(folder.join(&name).join("in the way")).unwrap();
    assert!(matches!(put(&store, &bytes).await, Err(PutError::Store(_))));
    assert_eq!(names(), BTreeSet::from([name.clone()]));

    // The same while another upload of the same bytes is under way, which must not lose its own file.
    let (go_on, told) = tokio::sync::oneshot::channel::<()>();
    let (half, rest) = (bytes.slice(..600_000), bytes.slice(600_000..));
    let rest = stream::once(async move {
        told.await.unwrap();
        Ok::<_, Infallible>(rest)
    });
    let slow = Box::pin(stream::iter([Ok(half)]).chain(rest));
    let slow = tokio::spawn({
        let store = store.clone();
        async move { store.put(TEAM, hash, None, LIMIT, slow).await }
    });
    while names().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(put(&store, &bytes).await, Err(PutError::Store(_))));
    std::fs::remove_dir_all(folder.join(&name)).unwrap();
    go_on.send(()).unwrap();
    slow.await.unwrap().unwrap();
    assert_eq!(names(), BTreeSet::from([name]));
    assert_eq!(read(&store, &bytes).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_passes_the_suite() {
    suite(|_| Place::memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweedfs_passes_the_suite() {
    let Some(store) = SeaweedFs::start() else { return };
    suite(|prefix| Place::far(store.address(), prefix)).await;
    // A whole bucket is a place too.
    blobs_are_read_back(&Place::far(store.address(), "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_for_a_cold_blob_are_one_get() {
    let Some(store) = SeaweedFs::start() else { return };
    let proxy = FaultProxy::before(store.address());
    let place = Place::far(proxy.address(), "cold");
    let blobs = place.open();
    for size in [1000, 8 << 20] {
        let bytes = noise(&format!("cold {size}"), size);
        let hash = BlobHash::of(&bytes);
        put(&blobs, &bytes).await.unwrap();
        let mut asking = JoinSet::new();
        for _ in 0..10_000 {
            let blobs = blobs.clone();
            asking.spawn(async move { blobs.open(&hash).await.map(|source| source.len()) });
        }
        while let Some(asked) = asking.join_next().await {
            assert_eq!(asked.unwrap().unwrap(), size as u64);
        }
        assert_eq!(proxy.count("GET", &hash.to_string()), 1, "{size} bytes");
        assert!(read(&blobs, &bytes).await.unwrap() == bytes);
        assert_eq!(proxy.count("GET", &hash.to_string()), 1, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_is_told_and_recovery_needs_no_restart() {
    let Some(store) = SeaweedFs::start() else { return };
    let proxy = FaultProxy::before(store.address());
    let place = Place::far_for(proxy.address(), "down", Duration::from_millis(500));
    let world = world(&place).await;
    let site = files("site", 4, 100_000);
    world.publish(&site).await;
    let (warm, cold) = (&site[0].1, &site[1].1);
    let pointer = world.engine.resolver().pointers().find("demo", "prod").unwrap();
    world.engine.resolver().manifest(&pointer.manifest).await.unwrap();
    assert!(read(&world.blobs, warm).await.unwrap() == *warm);
    assert!(world.engine.health().await.objects);

    for fault in [Fault::Down, Fault::Status(503)] {
        proxy.set(fault.clone());
        let next = files(&format!("{fault:?}"), 1, 400_000);
        assert!(matches!(world.plan(&next).await, Err(StoreError::Objects(_))), "{fault:?}");
        let refused = put(&world.blobs, &next[0].1).await;
        assert!(matches!(refused, Err(PutError::Store(_))), "{fault:?}: {refused:?}");
        let unread = read(&world.blobs, cold).await;
        assert!(matches!(unread, Err(ReadError::Store(_))), "{fault:?}: {unread:?}");
        // What the cache has is served as before, also the manifest, by which it is found.
        assert!(read(&world.blobs, warm).await.unwrap() == *warm, "{fault:?}");
        world.engine.resolver().manifest(&pointer.manifest).await.unwrap();
        assert!(!world.engine.health().await.objects, "{fault:?}");

        proxy.set(Fault::None);
        assert_eq!(world.index_of(&next[0].1).await, None, "nothing that failed counts as stored");
        let failed = world.publish(&next).await;
        assert_eq!(failed, 0, "{fault:?}: it is back");
        world.assert_shows(&next).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(world.engine.health().await.objects, "{fault:?}");
    }
    assert!(read(&world.blobs, cold).await.unwrap() == *cold);
    world.assert_clean().await;
}

impl World {
    async fn index_of(&self, bytes: &Bytes) -> Option<u64> {
        let found = self.blobs.index().get(&[BlobHash::of(bytes)]).await.unwrap().pop().flatten();
        found.map(|record| record.size)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_has_lost_or_damaged_is_served_once_it_is_back() {
    let Some(store) = SeaweedFs::start() else { return };
    let proxy = FaultProxy::before(store.address());
    let place = Place::far(proxy.address(), "lost");
    let blobs = place.open();
    for size in [1000, 3 << 20] {
        let bytes = noise(&format!("lost {size}"), size);
        put(&blobs, &bytes).await.unwrap();
        proxy.lose(&BlobHash::of(&bytes).to_string());
        for _ in 0..3 {
            assert!(matches!(read(&blobs, &bytes).await, Err(ReadError::Missing)), "{size} bytes");
        }
        proxy.lose("");
        proxy.set(Fault::Corrupt);
        assert!(matches!(read(&blobs, &bytes).await, Err(ReadError::Damaged)), "{size} bytes");
        proxy.set(Fault::None);
        assert!(read(&blobs, &bytes).await.unwrap() == bytes, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_says_nothing_is_given_up_and_keeps_nobody_else_waiting() {
    let Some(store) = SeaweedFs::start() else { return };
    let proxy = FaultProxy::before(store.address());
    let place = Place::far_for(proxy.address(), "hang", Duration::from_millis(100));
    let blobs = place.open();
    let (warm, cold) = (noise("warm", 200_000), noise("cold", 200_000));
    for bytes in [&warm, &cold] {
        put(&blobs, bytes).await.unwrap();
    }
    assert!(read(&blobs, &warm).await.unwrap() == warm);
    proxy.set(Fault::Hang);
    let unread = {
        let (blobs, cold) = (blobs.clone(), cold.clone());
        tokio::spawn(async move { read(&blobs, &cold).await })
    };
    while !unread.is_finished() {
        assert!(read(&blobs, &warm).await.unwrap() == warm);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let unread = unread.await.unwrap();
    assert!(matches!(unread, Err(ReadError::Store(_))), "{unread:?}");
    proxy.set(Fault::None);
    assert!(read(&blobs, &cold).await.unwrap() == cold);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_and_one_that_hangs_up_are_read_to_the_end() {
    let Some(store) = SeaweedFs::start() else { return };
    let proxy = FaultProxy::before(store.address());
    let place = Place::far(proxy.address(), "slow");
    let blobs = place.open();
    let bytes = noise("slow", 8 << 20);
    put(&blobs, &bytes).await.unwrap();
    // Some three seconds, in which nothing of it may be handed out.
    proxy.set(Fault::Slow(64 << 10));
    assert!(read(&blobs, &bytes).await.unwrap() == bytes);
    assert_eq!(proxy.count("GET", &BlobHash::of(&bytes).to_string()), 1);

    let bytes = noise("cut", 8 << 20);
    put(&blobs, &bytes).await.unwrap();
    proxy.set(Fault::CutOnce(3 << 20));
    assert!(read(&blobs, &bytes).await.unwrap() == bytes);
    assert_eq!(proxy.count("GET", &BlobHash::of(&bytes).to_string()), 2, "the rest was asked for once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_restarts_during_a_publish_loses_nothing_that_was_acknowledged() {
    let Some(mut store) = SeaweedFs::start() else { return };
    let place = Place::far(store.address(), "restart");
    let world = world(&place).await;
    let mut site = files("small", 60, 20_000);
    site.extend(files("large", 6, (6 << 20) + 3));
    let publishing = async {
        let failed = world.publish(&site).await;
        println!("{failed} calls failed and were made again");
    };
    let restarting = async {
        // In the midst of it: some blobs are there, and some are not.
        while world.blobs.index().scan(None, 100).await.unwrap().len() < 20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let store = tokio::task::spawn_blocking(move || {
            store.kill();
            std::thread::sleep(Duration::from_millis(500));
            store.run();
            store
        });
        store.await.unwrap()
    };
    let ((), store) = tokio::join!(publishing, restarting);
    world.assert_shows(&site).await;
    let bare = BlobStore::new(Arc::clone(&place.objects), place.index.clone());
    let report = fsck::check(&*world.meta, &bare, |_| {}).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    drop(store);
}
