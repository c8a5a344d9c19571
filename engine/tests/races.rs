//! What happens between two steps of a publish, when somebody else takes a step there: each of these was wrong once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
#[cfg(feature = "rocksdb")]
use pinstone_engine::OpenOptions;
use pinstone_engine::blob::BlobStore;
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::{ImageId, PlanId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::{Commit, Feed, Item, Key, MemoryMeta, MetaError, MetaStore, Order, Outcome, Snapshot};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlanError, PlannedFile};
use pinstone_engine::pointers::ImageHosts;
use pinstone_engine::projects::ProjectChange;
use pinstone_engine::publish::{CommitRequest, PreviewRequest, ReleaseError, ReleaseRequest};
use pinstone_engine::records::idempotency::IdempotencyKey;
use pinstone_engine::{Engine, Limits, Principal};
use tokio::sync::{Notify, watch};

/// A store that can be stopped between a read and what follows from it, and that counts.
#[derive(Debug)]
struct Gate {
    inner: Arc<MemoryMeta>,
    /// Whether the next read of an answer row waits after it was made.
    pause: AtomicBool,
    /// Whether the next read of a plan's record waits after it was made.
    pause_plan: AtomicBool,
    /// Whether the next read of a project waits after it was made.
    pause_project: AtomicBool,
    /// Whether the next read of an environment waits after it was made.
    pause_environment: AtomicBool,
    paused: Notify,
    go: Notify,
    scans: AtomicUsize,
    commits: AtomicUsize,
}

#[async_trait]
impl MetaStore for Gate {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, MetaError> {
        let found = self.inner.get(keys).await;
        if keys[0][0] == 0x10 && self.pause_project.swap(false, Ordering::SeqCst) {
            self.paused.notify_one();
            self.go.notified().await;
        }
        if keys[0][0] == 0x20 && self.pause_environment.swap(false, Ordering::SeqCst) {
            self.paused.notify_one();
            self.go.notified().await;
        }
        if keys[0][0] == 0x30 && self.pause_plan.swap(false, Ordering::SeqCst) {
            self.paused.notify_one();
            self.go.notified().await;
        }
        if keys[0][0] == 0x50 && self.pause.swap(false, Ordering::SeqCst) {
            self.paused.notify_one();
            self.go.notified().await;
        }
        found
    }
    async fn scan(&self, from: Key, to: Key, limit: usize, order: Order) -> Result<Vec<(Key, Item)>, MetaError> {
        self.scans.fetch_add(1, Ordering::SeqCst);
        self.inner.scan(from, to, limit, order).await
    }
    async fn commit(&self, commit: Commit) -> Result<Outcome, MetaError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.inner.commit(commit).await
    }
    async fn feed(&self, after: u64, limit: usize) -> Result<Feed, MetaError> {
        self.inner.feed(after, limit).await
    }
    async fn snapshot(&self, prefix: Key) -> Result<Snapshot, MetaError> {
        self.inner.snapshot(prefix).await
    }
    fn wake(&self) -> watch::Receiver<u64> {
        self.inner.wake()
    }
    fn takes_commits(&self) -> bool {
        self.inner.takes_commits()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct World {
    engine: Engine,
    clock: Clock,
    owner: Principal,
    gate: Arc<Gate>,
    blobs: BlobStore,
}

async fn world() -> World {
    let clock = Clock::manual(UnixMillis(1_700_000_000_000));
    let gate = Arc::new(Gate {
        inner: Arc::new(MemoryMeta::new(clock.clone())),
        pause: AtomicBool::new(false),
        pause_plan: AtomicBool::new(false),
        pause_project: AtomicBool::new(false),
        pause_environment: AtomicBool::new(false),
        paused: Notify::new(),
        go: Notify::new(),
        scans: AtomicUsize::new(0),
        commits: AtomicUsize::new(0),
    });
    let blobs = BlobStore::new(Arc::new(object_store::memory::InMemory::new()), Arc::new(MemoryIndex::default()));
    let engine =
        Engine::assemble(gate.clone(), blobs.clone(), clock.clone(), Limits::default(), "pin_x").await.unwrap();
    let owner = engine.owner_principal();
    World { engine, clock, owner, gate, blobs }
}

fn new_plan(files: Vec<PlannedFile>) -> NewPlan {
    NewPlan { project: "demo".parse().unwrap(), files, git: None, message: None, settings: Settings::default() }
}

fn file(path: &str, content: &str) -> PlannedFile {
    PlannedFile {
        path: SitePath::new(path).unwrap(),
        blob: BlobHash::of(content.as_bytes()),
        size: Some(content.len() as u64),
        content_type: None,
    }
}

async fn upload(engine: &Engine, owner: &Principal, plan: PlanId, content: &str) {
    let body = stream::iter(vec![Ok::<_, Infallible>(Bytes::copy_from_slice(content.as_bytes()))]);
    engine.upload(owner, plan, BlobHash::of(content.as_bytes()), None, body).await.unwrap();
}

async fn ready(engine: &Engine, owner: &Principal, content: &str) -> PlanId {
    let plan = engine.plan(owner, new_plan(vec![file("index.html", content)]), None).await.unwrap();
    upload(engine, owner, plan.id, content).await;
    plan.id
}

fn commit_of(plan: PlanId) -> CommitRequest {
    CommitRequest { plan, message: None, strict: false }
}

async fn image(engine: &Engine, owner: &Principal, content: &str) -> ImageId {
    let plan = ready(engine, owner, content).await;
    engine.commit(owner, commit_of(plan), None).await.unwrap().image
}

fn to(environment: &str, image: Option<ImageId>) -> ReleaseRequest {
    ReleaseRequest {
        project: "demo".parse().unwrap(),
        environment: environment.parse().unwrap(),
        image,
        expected: None,
        message: None,
    }
}

fn shown(engine: &Engine) -> Option<ImageId> {
    engine.resolver().pointers().find("demo", "prod").map(|pointer| pointer.image)
}

#[tokio::test]
async fn a_key_that_comes_again_after_a_day_is_a_new_request() {
    let w = world().await;
    let key: IdempotencyKey = "deploy-main".parse().unwrap();
    let a = image(&w.engine, &w.owner, "a").await;
    let first = w.engine.release(&w.owner, to("prod", None), Some(&key)).await.unwrap();
    assert_eq!((first.image, shown(&w.engine)), (a, Some(a)));
    w.clock.advance(Duration::from_secs(25 * 3600));
    let b = image(&w.engine, &w.owner, "b").await;
    let second = w.engine.release(&w.owner, to("prod", None), Some(&key)).await.unwrap();
    assert_eq!((second.image, second.changed, second.number), (b, true, 2));
    assert_eq!(shown(&w.engine), Some(b), "acknowledged as released");
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn a_key_that_comes_again_after_weeks_is_a_new_request_on_the_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(UnixMillis(1_700_000_000_000));
    let options = OpenOptions { clock: clock.clone(), ..OpenOptions::new(folder.path().join("data")) };
    let engine = Engine::open(options).await.unwrap();
    let owner = engine.owner_principal();
    let key: IdempotencyKey = "deploy-main".parse().unwrap();
    image(&engine, &owner, "a").await;
    engine.release(&owner, to("prod", None), Some(&key)).await.unwrap();
    clock.advance(Duration::from_secs(40 * 24 * 3600));
    let b = image(&engine, &owner, "b").await;
    let second = engine.release(&owner, to("prod", None), Some(&key)).await.unwrap();
    assert_eq!((second.image, second.changed), (b, true));
    assert_eq!(shown(&engine), Some(b), "acknowledged as released");
}

#[tokio::test]
async fn one_key_at_once_has_one_answer() {
    let w = world().await;
    let mut images = Vec::new();
    for content in ["0", "1", "2"] {
        let image = image(&w.engine, &w.owner, content).await;
        images.push(image);
        w.engine.release(&w.owner, to("prod", Some(image)), None).await.unwrap();
    }
    let key: IdempotencyKey = "k".parse().unwrap();
    w.gate.pause.store(true, Ordering::SeqCst);
    let (engine, owner, k) = (w.engine.clone(), w.owner.clone(), key.clone());
    let second = tokio::spawn(async move { engine.rollback(&owner, to("prod", None), Some(&k)).await });
    w.gate.paused.notified().await;
    let first = w.engine.rollback(&w.owner, to("prod", None), Some(&key)).await.unwrap();
    w.gate.go.notify_one();
    let second = second.await.unwrap().unwrap();
    assert_eq!(shown(&w.engine), Some(images[1]));
    assert_eq!(first.image, images[1]);
    assert_eq!((second.image, second.number), (first.image, first.number), "the same key, the same answer");
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn many_environments_of_one_project_are_released_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(OpenOptions::new(folder.path().join("data"))).await.unwrap();
    let owner = engine.owner_principal();
    let image = image(&engine, &owner, "a").await;
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let (engine, owner) = (engine.clone(), owner.clone());
            tokio::spawn(async move {
                let key: IdempotencyKey = format!("k{n}").parse().unwrap();
                engine.release(&owner, to(&format!("pr-{n}"), Some(image)), Some(&key)).await.is_ok()
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap(), "nobody is kept from their own environment");
    }
    let project = "demo".parse().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = engine.releases(&owner, &project, None, cursor.as_deref(), 150).await.unwrap();
        seen.extend(page.items.into_iter().map(|release| release.environment));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 200, "and the project's log has them all");
}

#[tokio::test]
async fn an_unchanged_release_is_acknowledged_only_when_it_is_served() {
    let w = world().await;
    let other =
        Engine::assemble(w.gate.clone(), w.blobs.clone(), w.clock.clone(), Limits::default(), "pin_x").await.unwrap();
    let image = image(&w.engine, &w.owner, "a").await;
    w.engine.release(&w.owner, to("prod", Some(image)), None).await.unwrap();
    let answer = other.release(&w.owner, to("prod", Some(image)), None).await.unwrap();
    assert!(!answer.changed);
    assert_eq!(shown(&other), Some(image), "acknowledged, so served by this process");
}

#[tokio::test]
async fn last_modified_is_later_also_after_a_delete() {
    let w = world().await;
    let (a, b) = (image(&w.engine, &w.owner, "a").await, image(&w.engine, &w.owner, "b").await);
    for image in [a, b, a, b, a] {
        w.engine.release(&w.owner, to("prod", Some(image)), None).await.unwrap();
    }
    let seen = w.engine.resolver().pointers().find("demo", "prod").unwrap().last_modified.as_secs();
    w.engine.delete_environment(&w.owner, &"demo".parse().unwrap(), &"prod".parse().unwrap()).await.unwrap();
    w.engine.release(&w.owner, to("prod", Some(b)), None).await.unwrap();
    let now = w.engine.resolver().pointers().find("demo", "prod").unwrap().last_modified.as_secs();
    assert!(now > seen, "{now} is not later than {seen}");
}

#[tokio::test]
async fn a_plan_with_too_many_content_types_is_refused_before_anything_is_uploaded() {
    let w = world().await;
    let files = (0..2_000)
        .map(|n| PlannedFile { content_type: Some(format!("x/t{n}")), ..file(&format!("f{n}"), "a") })
        .collect();
    let error = w.engine.plan(&w.owner, new_plan(files), None).await.unwrap_err();
    assert!(matches!(error, PlanError::TooManyContentTypes { .. }), "{error:?}");
}

#[tokio::test]
async fn one_key_for_two_plans_at_once_is_refused_for_the_second() {
    let w = world().await;
    let (one, two) = (ready(&w.engine, &w.owner, "1").await, ready(&w.engine, &w.owner, "2").await);
    let key: IdempotencyKey = "k".parse().unwrap();
    w.gate.pause.store(true, Ordering::SeqCst);
    let (engine, owner, k) = (w.engine.clone(), w.owner.clone(), key.clone());
    let second = tokio::spawn(async move { engine.commit(&owner, commit_of(two), Some(&k)).await });
    w.gate.paused.notified().await;
    w.engine.commit(&w.owner, commit_of(one), Some(&key)).await.unwrap();
    let before = w.gate.commits.load(Ordering::SeqCst);
    w.gate.go.notify_one();
    let second = second.await.unwrap();
    let tried = w.gate.commits.load(Ordering::SeqCst) - before;
    assert_eq!(tried, 1, "and it is not tried again and again");
    assert!(format!("{second:?}").contains("KeyReused"), "{second:?}");
}

#[tokio::test]
async fn one_key_and_one_plan_at_once_have_one_answer() {
    let w = world().await;
    image(&w.engine, &w.owner, "0").await;
    let one = ready(&w.engine, &w.owner, "1").await;
    let key: IdempotencyKey = "k".parse().unwrap();
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let (engine, owner, k) = (w.engine.clone(), w.owner.clone(), key.clone());
            tokio::spawn(async move { engine.commit(&owner, commit_of(one), Some(&k)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap().unwrap());
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_page_far_beyond_the_end_costs_nothing() {
    let w = world().await;
    for n in 0..300 {
        image(&w.engine, &w.owner, &n.to_string()).await;
    }
    let before = w.gate.scans.load(Ordering::SeqCst);
    let project = "demo".parse().unwrap();
    let (found, _) = w.engine.images(&w.owner, &project, 1, 1_000_000_000_000_000_000).await.unwrap();
    let scans = w.gate.scans.load(Ordering::SeqCst) - before;
    assert!(found.is_empty());
    assert!(scans < 5, "{scans} scans for one page");
}

#[tokio::test]
async fn a_repeated_commit_that_meets_the_end_of_the_first_answers_alike() {
    for key in [None, Some("k".parse::<IdempotencyKey>().unwrap())] {
        let w = world().await;
        let one = ready(&w.engine, &w.owner, "1").await;
        w.gate.pause_plan.store(true, Ordering::SeqCst);
        let (engine, owner, k) = (w.engine.clone(), w.owner.clone(), key.clone());
        let second = tokio::spawn(async move { engine.commit(&owner, commit_of(one), k.as_ref()).await });
        w.gate.paused.notified().await;
        let first = w.engine.commit(&w.owner, commit_of(one), key.as_ref()).await.unwrap();
        w.gate.go.notify_one();
        let second = second.await.unwrap();
        assert_eq!(second.unwrap(), first);
    }
}

#[tokio::test]
async fn a_status_that_meets_the_end_of_its_plan_answers() {
    let w = world().await;
    let one = ready(&w.engine, &w.owner, "1").await;
    w.gate.pause_plan.store(true, Ordering::SeqCst);
    let (engine, owner) = (w.engine.clone(), w.owner.clone());
    let second = tokio::spawn(async move { engine.plan_status(&owner, one).await });
    w.gate.paused.notified().await;
    w.engine.commit(&w.owner, commit_of(one), None).await.unwrap();
    w.gate.go.notify_one();
    let second = second.await.unwrap();
    assert!(second.is_ok(), "{second:?}");
}

fn preview(slug: &str, image: ImageId) -> PreviewRequest {
    let slug = Some(slug.parse().unwrap());
    PreviewRequest { project: "demo".parse().unwrap(), image, slug, lifetime: None, message: None }
}

#[tokio::test]
async fn a_preview_that_meets_a_release_of_its_name_does_not_end_it() {
    let w = world().await;
    let (a, b) = (image(&w.engine, &w.owner, "a").await, image(&w.engine, &w.owner, "b").await);
    w.gate.pause_environment.store(true, Ordering::SeqCst);
    let (engine, owner) = (w.engine.clone(), w.owner.clone());
    let late = tokio::spawn(async move { engine.preview(&owner, preview("stage", a), None).await });
    w.gate.paused.notified().await;
    w.engine.release(&w.owner, to("stage", Some(b)), None).await.unwrap();
    w.gate.go.notify_one();
    let late = late.await.unwrap();
    assert!(matches!(late, Err(ReleaseError::NameIsEnvironment)), "{late:?}");
    let pointer = w.engine.resolver().pointers().find("demo", "stage").unwrap();
    assert_eq!((pointer.image, pointer.expires_at), (b, None));
}

#[tokio::test]
async fn a_release_that_meets_a_preview_of_its_name_does_not_make_it_last() {
    let w = world().await;
    let (a, b) = (image(&w.engine, &w.owner, "a").await, image(&w.engine, &w.owner, "b").await);
    w.gate.pause_environment.store(true, Ordering::SeqCst);
    let (engine, owner) = (w.engine.clone(), w.owner.clone());
    let late = tokio::spawn(async move { engine.release(&owner, to("pr-7", Some(a)), None).await });
    w.gate.paused.notified().await;
    let made = w.engine.preview(&w.owner, preview("pr-7", b), None).await.unwrap();
    w.gate.go.notify_one();
    let late = late.await.unwrap();
    assert!(matches!(late, Err(ReleaseError::NameIsPreview)), "{late:?}");
    let pointer = w.engine.resolver().pointers().find("demo", "pr-7").unwrap();
    assert_eq!((pointer.image, pointer.expires_at), (b, Some(made.expires_at)));
}

#[tokio::test]
async fn a_deletion_of_a_preview_that_meets_a_release_of_its_name_deletes_nothing() {
    let w = world().await;
    let (a, b) = (image(&w.engine, &w.owner, "a").await, image(&w.engine, &w.owner, "b").await);
    let (demo, slug) = ("demo".parse().unwrap(), "pr-7".parse().unwrap());
    w.engine.preview(&w.owner, preview("pr-7", a), None).await.unwrap();
    w.gate.pause_environment.store(true, Ordering::SeqCst);
    let (engine, owner) = (w.engine.clone(), w.owner.clone());
    let late =
        tokio::spawn(
            async move { engine.delete_preview(&owner, &"demo".parse().unwrap(), &"pr-7".parse().unwrap()).await },
        );
    w.gate.paused.notified().await;
    w.engine.delete_environment(&w.owner, &demo, &slug).await.unwrap();
    w.engine.release(&w.owner, to("pr-7", Some(b)), None).await.unwrap();
    w.gate.go.notify_one();
    let late = late.await.unwrap();
    assert!(matches!(late, Err(ReleaseError::PreviewNotFound)), "{late:?}");
    assert_eq!(w.engine.resolver().pointers().find("demo", "pr-7").unwrap().image, b);
}

#[tokio::test]
async fn settings_that_change_while_an_image_is_committed_do_not_forget_it() {
    let w = world().await;
    image(&w.engine, &w.owner, "a").await;
    w.gate.pause_project.store(true, Ordering::SeqCst);
    let (engine, owner) = (w.engine.clone(), w.owner.clone());
    let change = ProjectChange { image_hosts: Some(ImageHosts::Off), ..ProjectChange::default() };
    let late =
        tokio::spawn(async move { engine.change_project(&owner, &"demo".parse().unwrap(), change).await.unwrap() });
    w.gate.paused.notified().await;
    image(&w.engine, &w.owner, "b").await;
    w.gate.go.notify_one();
    assert_eq!(late.await.unwrap().image_hosts, ImageHosts::Off);
    let (listed, total) = w.engine.images(&w.owner, &"demo".parse().unwrap(), 10, 1).await.unwrap();
    assert_eq!((listed.len(), total), (2, 2));
    image(&w.engine, &w.owner, "c").await;
    assert_eq!(w.engine.resolver().pointers().image_hosts("demo").unwrap().1, ImageHosts::Off);
}

#[tokio::test]
async fn a_key_with_other_content_types_is_another_request() {
    let w = world().await;
    let key: IdempotencyKey = "k".parse().unwrap();
    w.engine.plan(&w.owner, new_plan(vec![file("a", "x")]), Some(&key)).await.unwrap();
    let other = PlannedFile { content_type: Some("text/html".into()), size: Some(7), ..file("a", "x") };
    let again = w.engine.plan(&w.owner, new_plan(vec![other]), Some(&key)).await;
    assert!(again.is_err(), "another request, the same plan");
}
