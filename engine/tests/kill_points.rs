//! Every operation of a publish fails once, before it was done and after, and the process dies once at each: nothing
//! that was acknowledged is lost, nothing points to anything missing, and doing it again does it, once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::blob::pack::LARGEST_PACKED;
use pinstone_engine::blob::{BlobIndex, BlobSource, BlobStore, is_storage_full};
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::fsck;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::{ImageId, PlanId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::{MemoryMeta, MetaStore, Order};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{BatchBlob, NewPlan, PlannedFile, UploadError};
use pinstone_engine::publish::{CommitRequest, ProjectSelector, ReleaseRequest};
use pinstone_engine::records::idempotency::IdempotencyKey;
use pinstone_engine::{Engine, Limits, Principal};

use faults::{Counted, Fault, Faulty, How, Switch};

mod faults;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What outlives a process.
trait Lasting {
    /// Opens what there is, as a new process does.
    async fn open(&mut self) -> Opened;

    /// Closes what was opened. Nobody else has it any more.
    async fn close(&mut self);
}

/// Stores as they are, without faults.
#[derive(Clone)]
struct Opened {
    meta: Arc<dyn MetaStore>,
    index: Arc<dyn BlobIndex>,
    objects: Arc<dyn ObjectStore>,
}

struct Memory(Opened);

impl Memory {
    fn new() -> Self {
        Self(Opened {
            meta: Arc::new(MemoryMeta::new(clock())),
            index: Arc::new(MemoryIndex::default()),
            objects: Arc::new(InMemory::new()),
        })
    }
}

impl Lasting for Memory {
    async fn open(&mut self) -> Opened {
        self.0.clone()
    }

    async fn close(&mut self) {}
}

#[cfg(feature = "rocksdb")]
struct Disk {
    folder: tempfile::TempDir,
    store: Option<Arc<pinstone_engine::meta::RocksStore>>,
}

#[cfg(feature = "rocksdb")]
impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("objects")).unwrap();
        Self { folder, store: None }
    }
}

#[cfg(feature = "rocksdb")]
impl Lasting for Disk {
    async fn open(&mut self) -> Opened {
        let store =
            Arc::new(pinstone_engine::meta::RocksStore::open(&self.folder.path().join("meta"), clock()).unwrap());
        self.store = Some(Arc::clone(&store));
        let objects =
            object_store::local::LocalFileSystem::new_with_prefix(self.folder.path().join("objects")).unwrap();
        Opened { meta: store.clone(), index: store, objects: Arc::new(objects.with_fsync(true)) }
    }

    async fn close(&mut self) {
        let store = self.store.take().unwrap();
        store.close().await;
        // A read that is under way on a thread of its own may have it for a moment longer.
        while Arc::strong_count(&store) > 1 {
            tokio::task::yield_now().await;
        }
    }
}

fn clock() -> Clock {
    Clock::manual(UnixMillis(1_700_000_000_000))
}

/// A process: an engine over stores in which things may go wrong.
struct Process {
    engine: Engine,
    owner: Principal,
    switch: Arc<Switch>,
    below: Opened,
}

impl Process {
    async fn start(below: Opened) -> Self {
        let switch = Arc::new(Switch::default());
        let meta: Arc<dyn MetaStore> = Arc::new(Faulty { inner: Arc::clone(&below.meta), switch: Arc::clone(&switch) });
        let index: Arc<dyn BlobIndex> =
            Arc::new(Faulty { inner: Arc::clone(&below.index), switch: Arc::clone(&switch) });
        let objects: Arc<dyn ObjectStore> =
            Arc::new(Faulty { inner: Arc::clone(&below.objects), switch: Arc::clone(&switch) });
        let blobs = BlobStore::new(objects, index);
        let engine = Engine::assemble(meta, blobs, clock(), Limits::default(), "pin_x").await.unwrap();
        let owner = engine.owner_principal();
        Self { engine, owner, switch, below }
    }

    /// Runs `work` to its end, or to the process's.
    async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.switch.died() => None,
        }
    }

    /// Checks what is stored, and lets go of it.
    async fn end(self) {
        // The feed's follower holds the engine while it waits for a store that does not answer any more.
        self.engine.close().await;
        let blobs = BlobStore::new(Arc::clone(&self.below.objects), Arc::clone(&self.below.index));
        let report = fsck::check(&*self.below.meta, &blobs, |_| {}).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

/// The files of a site: paths and bytes.
type Site = Vec<(&'static str, Bytes)>;

/// A site of every kind of upload: no bytes at all (the second only), one write, several parts, and a file that both
/// sites have.
fn site(version: u8) -> Site {
    let mut site = vec![
        ("big.bin", Bytes::from(vec![version; (2 << 20) + (64 << 10)])),
        ("index.html", Bytes::from(format!("<!doctype html><title>version {version}</title>"))),
        ("shared.css", Bytes::from_static(b"body{}")),
        ("twice.html", Bytes::from(format!("<!doctype html><title>version {version}</title>"))),
    ];
    if version == 2 {
        site.insert(1, ("empty.txt", Bytes::new()));
    }
    site
}

fn selector(project: &str) -> ProjectSelector {
    project.parse().unwrap()
}

/// What was acknowledged.
#[derive(Debug, Default)]
struct Ledger {
    plan: Option<PlanId>,
    uploads: BTreeSet<BlobHash>,
    image: Option<ImageId>,
    released: Option<u64>,
    rolled_back: Option<u64>,
}

impl Ledger {
    fn len(&self) -> usize {
        let ends = [self.plan.is_some(), self.image.is_some(), self.released.is_some(), self.rolled_back.is_some()];
        self.uploads.len() + ends.into_iter().filter(|end| *end).count()
    }
}

fn planned(project: &str, site: &Site) -> NewPlan {
    let file = |(path, bytes): &(&str, Bytes)| PlannedFile {
        path: SitePath::new(*path).unwrap(),
        blob: BlobHash::of(bytes),
        size: Some(bytes.len() as u64),
        content_type: None,
    };
    NewPlan {
        project: project.parse().unwrap(),
        files: site.iter().map(file).collect(),
        git: None,
        message: None,
        settings: Settings::default(),
    }
}

/// Publishes a site to `prod`, with keys that are the same each time, and writes down what is acknowledged.
async fn publish(process: &Process, project: &str, site: &Site, ledger: &Mutex<Ledger>) -> Result<ImageId, Failure> {
    let (engine, owner) = (&process.engine, &process.owner);
    let key = |step: &str| -> IdempotencyKey { format!("{step}-{project}-{}", site.len()).parse().unwrap() };
    let plan = engine.plan(owner, planned(project, site), Some(&key("plan"))).await?;
    ledger.lock().plan = Some(plan.id);
    let bytes_of = |hash| site.iter().map(|(_, bytes)| bytes).find(|bytes| BlobHash::of(bytes) == hash).unwrap();
    // Of small files every other one goes up in a batch, so that both ways are taken.
    let small = plan.missing.iter().filter(|missing| bytes_of(missing.hash).len() as u64 <= LARGEST_PACKED);
    let batch: Vec<_> = small.map(|missing| missing.hash).step_by(2).collect();
    let blobs =
        batch.iter().map(|hash| Ok::<_, UploadError>(BatchBlob { hash: *hash, bytes: bytes_of(*hash).clone() }));
    let blobs: Vec<_> = blobs.collect();
    // A plan that is over takes nothing, also not nothing.
    if !blobs.is_empty() {
        let taken = engine.upload_batch(owner, plan.id, stream::iter(blobs)).await?;
        assert!(taken.failed.is_empty(), "{taken:?}");
    }
    ledger.lock().uploads.extend(&batch);
    for missing in plan.missing.iter().filter(|missing| !batch.contains(&missing.hash)) {
        let bytes = bytes_of(missing.hash);
        let pieces: Vec<_> = bytes.chunks(100_000).map(|piece| Ok::<_, Infallible>(bytes.slice_ref(piece))).collect();
        engine.upload(owner, plan.id, missing.hash, None, stream::iter(pieces)).await?;
        ledger.lock().uploads.insert(missing.hash);
    }
    let request = CommitRequest { plan: plan.id, message: None, strict: false };
    let image = engine.commit(owner, request, Some(&key("commit"))).await?.image;
    ledger.lock().image = Some(image);
    let released = engine.release(owner, to_prod(project, Some(image)), Some(&key("release"))).await?;
    assert_eq!(released.image, image);
    ledger.lock().released = Some(released.number);
    assert_eq!(shown(process, project), Some(image), "an acknowledged release is served");
    Ok(image)
}

/// Goes back to the image before, with a key that is the same each time.
async fn roll_back(process: &Process, ledger: &Mutex<Ledger>) -> Result<ImageId, Failure> {
    let key: IdempotencyKey = "back".parse().unwrap();
    let released = process.engine.rollback(&process.owner, to_prod("demo", None), Some(&key)).await?;
    ledger.lock().rolled_back = Some(released.number);
    assert_eq!(shown(process, "demo"), Some(released.image), "an acknowledged rollback is served");
    Ok(released.image)
}

fn to_prod(project: &str, image: Option<ImageId>) -> ReleaseRequest {
    ReleaseRequest {
        project: selector(project),
        environment: "prod".parse().unwrap(),
        image,
        expected: None,
        message: None,
    }
}

fn shown(process: &Process, project: &str) -> Option<ImageId> {
    process.engine.resolver().pointers().find(project, "prod").map(|pointer| pointer.image)
}

/// Reads every file of what `prod` of a project shows, if anything, and says which image that is.
async fn read_site(process: &Process, project: &str, sites: &[(ImageId, Site); 2]) -> Option<ImageId> {
    let resolver = process.engine.resolver();
    let pointer = resolver.pointers().find(project, "prod")?;
    let (_, site) = sites.iter().find(|(image, _)| *image == pointer.image).expect("one of the sites");
    let manifest = resolver.manifest(&pointer.manifest).await.unwrap();
    assert_eq!(manifest.len(), site.len());
    for (entry, (path, bytes)) in manifest.entries().zip(site) {
        assert_eq!(entry.path, *path);
        let read = match resolver.open_blob(&entry.blob).await.unwrap() {
            BlobSource::Memory(read) => read,
            BlobSource::File(region) => {
                let mut read = vec![0; usize::try_from(region.length).unwrap()];
                std::os::unix::fs::FileExt::read_exact_at(&*region.file, &mut read, region.offset).unwrap();
                read.into()
            }
        };
        assert!(read == *bytes, "{path} is not what was published");
    }
    Some(pointer.image)
}

/// Checks that a new process has all that was acknowledged.
async fn check(process: &Process, scene: Scene, ledger: &Ledger, sites: &[(ImageId, Site); 2]) {
    let (engine, owner, project) = (&process.engine, &process.owner, scene.project());
    assert!(read_site(process, "demo", sites).await.is_some(), "the first site was acknowledged");
    let showing = read_site(process, project, sites).await;
    if let Some(plan) = ledger.plan {
        engine.plan_status(owner, plan).await.expect("the plan was acknowledged");
    }
    let plan = engine.plan(owner, planned("demo", &sites[1].1), None).await.unwrap();
    for missing in &plan.missing {
        assert!(!ledger.uploads.contains(&missing.hash), "the upload of {} was acknowledged", missing.path);
    }
    engine.close_plan(owner, plan.id).await.unwrap();
    if let Some(image) = ledger.image {
        engine.image(owner, &selector(project), image).await.expect("the commit was acknowledged");
    }
    let told = match scene {
        Scene::FirstPublish | Scene::SecondPublish => ledger.released.map(|_| sites[1].0),
        Scene::Rollback => ledger.rolled_back.map(|_| sites[0].0),
    };
    assert!(told.is_none() || told == showing, "{told:?} was acknowledged, and {showing:?} is shown");
    if let Some(image) = showing {
        let current = engine.current(owner, &selector(project), &"prod".parse().unwrap()).await.unwrap();
        assert_eq!(current.image, image, "the table shows what the store says");
        let last = ledger.released.max(ledger.rolled_back).unwrap_or(0);
        assert!(current.number >= last, "release {last} was acknowledged and {} is shown", current.number);
    }
}

/// How often each thing was done, as the audit log has it.
async fn audited(process: &Process, action: &str) -> usize {
    let (from, to) = (Bytes::from_static(&[0x40]), Bytes::from_static(&[0x41]));
    let rows = process.below.meta.scan(from, to, usize::MAX, Order::Ascending).await.unwrap();
    let action = format!("\"action\":\"{action}\"");
    rows.iter().filter(|(_, row)| String::from_utf8_lossy(&row.value).contains(&action)).count()
}

/// What is done while things go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scene {
    /// The first publish of a project, beside another that shows its own.
    FirstPublish,
    /// The second publish of a project that shows its first.
    SecondPublish,
    /// A rollback from the second to the first.
    Rollback,
}

impl Scene {
    fn project(self) -> &'static str {
        if self == Self::FirstPublish { "fresh" } else { "demo" }
    }
}

/// What one round saw.
struct Seen {
    /// The operation that went wrong, where the scene had so many.
    struck: Option<String>,
    /// How much was acknowledged before.
    acknowledged: usize,
}

/// One round: the scene, a fault in it, a new process on what is left, and the scene again.
async fn round(mut lasting: impl Lasting, scene: Scene, fault: Fault, retry_in_place: bool) -> Seen {
    let nothing = Mutex::default();
    let scratch = Process::start(Memory::new().open().await).await;
    let sites = [
        // What an image is called follows from its content.
        (publish(&scratch, "demo", &site(1), &nothing).await.unwrap(), site(1)),
        (publish(&scratch, "demo", &site(2), &nothing).await.unwrap(), site(2)),
    ];
    scratch.end().await;
    let process = Process::start(lasting.open().await).await;
    publish(&process, "demo", &sites[0].1, &nothing).await.unwrap();
    if scene == Scene::Rollback {
        publish(&process, "demo", &sites[1].1, &nothing).await.unwrap();
    }

    let ledger = Mutex::new(Ledger::default());
    let act = async |process: &Process| match scene {
        Scene::FirstPublish | Scene::SecondPublish => publish(process, scene.project(), &sites[1].1, &ledger).await,
        Scene::Rollback => roll_back(process, &ledger).await,
    };
    process.switch.arm(fault);
    let ended = process.run(act(&process)).await;
    let struck = process.switch.disarm();
    match &ended {
        Some(Ok(_)) => {}
        Some(Err(error)) => {
            assert!(struck.is_some(), "{error:?}");
            let full = fault.how == How::FailBefore && fault.counted == Counted::Writes;
            assert!(is_storage_full(&**error) || !full, "no room at {struck:?}, and this was told: {error:?}");
        }
        None => assert!(fault.how.is_death()),
    }
    let acknowledged = ledger.lock().len();
    if retry_in_place && ended.is_some() {
        act(&process).await.expect("what failed once works");
    }
    process.end().await;
    lasting.close().await;

    let process = Process::start(lasting.open().await).await;
    let acknowledged_then = std::mem::take(&mut *ledger.lock());
    check(&process, scene, &acknowledged_then, &sites).await;
    let image = act(&process).await.expect("a new process does what the last one did not");
    assert_eq!(read_site(&process, scene.project(), &sites).await, Some(image));
    let counts = (audited(&process, "commit").await, audited(&process, "release").await);
    assert_eq!(counts, (2, 2), "each was done once, however often it was asked for");
    assert_eq!(audited(&process, "rollback").await, usize::from(scene == Scene::Rollback));
    let projects = 1 + usize::from(scene == Scene::FirstPublish);
    assert_eq!(audited(&process, "project.create").await, projects);
    process.end().await;
    lasting.close().await;
    Seen { struck, acknowledged }
}

/// All rounds of one kind of fault, up to the first that the scene has no operation for. Answers how many there were and
/// how much was acknowledged in them before the fault.
async fn sweep<L: Lasting>(
    lasting: impl Fn() -> L,
    scene: Scene,
    counted: Counted,
    how: How,
    is_chosen: impl Fn(usize) -> bool,
) -> (usize, usize) {
    let (mut rounds, mut acknowledged) = (0, 0);
    for at in 0.. {
        // The last round, which nothing goes wrong in, tells how many operations there are; so none is left out.
        let mut seen = None;
        for retry_in_place in [false, true] {
            if (how.is_death() && retry_in_place) || !is_chosen(at) {
                continue;
            }
            let fault = Fault { counted, at, how };
            let one = round(lasting(), scene, fault, retry_in_place).await;
            rounds += usize::from(one.struck.is_some());
            acknowledged += one.acknowledged;
            println!("{scene:?} {how:?} {at}: {:?}, {} acknowledged", one.struck, one.acknowledged);
            seen = Some(one);
        }
        if seen.is_some_and(|seen| seen.struck.is_none()) {
            break;
        }
    }
    (rounds, acknowledged)
}

#[tokio::test]
async fn a_publish_that_fails_or_dies_at_any_write_loses_nothing() {
    let (mut points, mut all) = (0, 0);
    for scene in [Scene::FirstPublish, Scene::SecondPublish] {
        for how in How::ALL {
            let (rounds, acknowledged) = sweep(Memory::new, scene, Counted::Writes, how, |_| true).await;
            // The plan's list and record; three uploads, one of them in parts, with an index row each; manifest, commit,
            // the list's removal, release. Of a new project, its own record too.
            assert!(rounds >= 14, "{how:?}: only {rounds} writes were counted");
            (points, all) = (points + rounds, all + acknowledged);
        }
    }
    println!("{points} rounds, {all} operations acknowledged before the fault, none lost");
}

#[tokio::test]
async fn a_publish_that_fails_at_any_read_loses_nothing() {
    for how in [How::FailBefore, How::FailAfter] {
        let (rounds, _) = sweep(Memory::new, Scene::FirstPublish, Counted::Reads, how, |_| true).await;
        assert!(rounds >= 20, "{how:?}: only {rounds} reads were counted");
    }
}

#[tokio::test]
async fn a_rollback_that_fails_or_dies_anywhere_is_done_once() {
    for how in How::ALL {
        let (rounds, _) = sweep(Memory::new, Scene::Rollback, Counted::Writes, how, |_| true).await;
        assert!(rounds >= 1, "{how:?}: no write was counted");
    }
    sweep(Memory::new, Scene::Rollback, Counted::Reads, How::FailBefore, |_| true).await;
}

/// A part of the points, because each round opens databases; all of them where `PINSTONE_KILL_POINTS` is set.
#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn a_publish_to_a_disk_that_fails_or_dies_at_a_write_loses_nothing() {
    let all = std::env::var_os("PINSTONE_KILL_POINTS").is_some();
    let (mut points, mut acknowledged) = (0, 0);
    for (turn, how) in How::ALL.into_iter().enumerate() {
        // Each kind of fault starts at another point, so that together they meet them all.
        let is_chosen = |at: usize| all || at % 4 == turn;
        let (rounds, before) = sweep(Disk::new, Scene::SecondPublish, Counted::Writes, how, is_chosen).await;
        (points, acknowledged) = (points + rounds, acknowledged + before);
    }
    println!("{points} rounds, {acknowledged} operations acknowledged before the fault, none lost");
}
